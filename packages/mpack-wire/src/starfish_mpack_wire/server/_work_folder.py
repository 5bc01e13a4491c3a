"""A folder for the files of one request, gone when it is done, and swept when its process was killed."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from starfish_mpack_wire.server.errors import StorageUnavailableError

__all__ = ("sweep_work_folders", "work_folder")

_PREFIX = "mpack-work-"
_LOCK = ".lock"


@asynccontextmanager
async def work_folder() -> AsyncGenerator[Path]:
    """Make an empty folder; neither its making nor its removal holds the event loop up.

    While the folder is used, a file in it is locked. The operating system drops the lock of a process that dies, so a
    folder whose lock can be had is a leftover.

    Raises:
        StorageUnavailableError: the disk is full, or fails, while files in it are written.
    """
    try:
        folder, descriptor = await asyncio.to_thread(_make)
        try:
            yield folder
        finally:
            await asyncio.to_thread(_remove, folder, descriptor)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StorageUnavailableError(f"a working file failed: {reason}") from error


def _make() -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        try:
            descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue  # a sweep took it for a leftover
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if (folder / _LOCK).exists():
            return folder, descriptor
        os.close(descriptor)


def _remove(folder: Path, descriptor: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(descriptor)


def sweep_work_folders() -> int:
    """Remove the work folders of processes that were killed; those of living ones stay.

    Returns:
        How many were removed.
    """
    removed = 0
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
                continue
            descriptor = os.open(
                folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
                removed += 1
            finally:
                os.close(descriptor)
    return removed
