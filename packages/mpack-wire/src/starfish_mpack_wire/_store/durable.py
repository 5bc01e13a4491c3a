"""Files that are whole after a crash: write beside, fsync, rename, fsync the folder.

Rule: nothing in the store is ever changed in place. A reader sees the old file or the new one.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from starfish_mpack_wire.errors import StoreError

__all__ = (
    "hold_lock",
    "refuse_as_store_error",
    "sync_file",
    "sync_folder",
    "write_atomically",
)

LOCK_POLL_S = 0.005


@contextmanager
def refuse_as_store_error(what: str, path: Path) -> Generator[None]:
    """Turn an error of the operating system into a `StoreError` that says what failed, and where."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or repr(error)
        raise StoreError(f"{what} {path}: {reason}") from error


def sync_folder(folder: Path) -> None:
    """Make renames and removals in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make the bytes of a file survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, data: bytes) -> None:
    """Put ``data`` under a name; the old file or the new one is there after a crash.

    Raises:
        StoreError: the file system refused; the old file is still there.
    """
    with refuse_as_store_error("cannot write", path):
        handle, temporary = tempfile.mkstemp(".tmp", f".{path.name}.", path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


@contextmanager
def hold_lock(path: Path, *, timeout_s: float, shared: bool = False) -> Generator[None]:
    """Hold a lock of all processes and threads until the block ends.

    Args:
        path: the file that is locked; made when it is missing, never removed.
        timeout_s: seconds to wait.
        shared: let in others that say so too.

    The operating system drops the lock of a process that dies.

    Raises:
        StoreError: somebody else held it for longer than ``timeout_s``.
    """
    with refuse_as_store_error("cannot open", path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        give_up_at = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up_at:
                    raise StoreError(
                        f"another process has held {path} for {timeout_s:g} s; try again later"
                    ) from None
                time.sleep(LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)
