"""Files that are on their way into the store, and what killed processes left of them.

The writer of such a file holds a lock on it, which the operating system drops when the process
dies: a file that nobody holds is a leftover.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from starfish_mpack_wire._store.refusals import refuse_as_store_error

__all__ = ("LINK_SUFFIX", "IncomingFolder")

PART_SUFFIX = ".part"
LINK_SUFFIX = ".link"
"""Of a symbolic link on its way to its place; it cannot be locked, so it is judged by its age."""
LINK_KEPT_S = 3_600
PART_KEPT_S = 86_400
"""How long half a download waits to be taken up again."""


class IncomingFolder:
    """The folder of files that are not in the store yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        """Where the files are."""

    @contextmanager
    def new_file(self, name: str | None = None) -> Generator[Path]:
        """A file that is this process's alone; gone when the block ends, unless it was renamed.

        Args:
            name: half a download may have one: then what an earlier process left under it is
                still in the file. Otherwise the file is new and empty.

        Raises:
            StoreError: the file cannot be made, or another process is working on this name.
        """
        path = self.folder / (name + PART_SUFFIX if name else f"{secrets.token_hex(8)}.tmp")
        with refuse_as_store_error("cannot write", path):
            descriptor = self._open_locked(path, alone=name is None)
        done = False
        try:
            yield path
            done = True
        finally:
            # Half a download is kept for the next attempt, however this one ended.
            if done or name is None:
                with suppress(FileNotFoundError):
                    if path.stat().st_ino == os.fstat(descriptor).st_ino:
                        path.unlink()
            os.close(descriptor)

    def sweep(self) -> int:
        """Remove what killed processes left behind; returns how many files that were."""
        removed = 0
        # File times, not a promise: a wrong clock costs a download, nothing else.
        oldest = time.time_ns() // 1_000_000_000 - PART_KEPT_S
        for path in self.folder.iterdir():
            if path.suffix == LINK_SUFFIX:
                removed += self._sweep_link(path)
                continue
            with suppress(OSError):
                descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if path.suffix != PART_SUFFIX or os.fstat(descriptor).st_mtime < oldest:
                        path.unlink()
                        removed += 1
                finally:
                    os.close(descriptor)
        return removed

    @staticmethod
    def _sweep_link(path: Path) -> int:
        oldest = time.time_ns() // 1_000_000_000 - LINK_KEPT_S
        with suppress(OSError):
            if path.lstat().st_mtime < oldest:
                path.unlink()
                return 1
        return 0

    @staticmethod
    def _open_locked(path: Path, *, alone: bool) -> int:
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            try:
                # A sweep holds the lock of a new file for a moment, and is waited for. Only a file with a name
                # can be another process's for longer.
                fcntl.flock(descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_EX | fcntl.LOCK_NB)
                # A sweep may have removed the file between the two calls.
                if path.stat().st_ino == os.fstat(descriptor).st_ino:
                    return descriptor
            except FileNotFoundError:
                pass
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
