"""The one place where this package calls the operating system, so that a fake can stand under it.

Rule: no other module calls a function of ``os``, ``fcntl`` or ``time`` that touches a file or waits;
each goes through ``calls`` and looks it up anew, as a test replaces it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Final

from starfish_disk.errors import UnsupportedError

if sys.platform != "win32":
    import fcntl

__all__ = ("CLOEXEC", "DIRECTORY", "NOFOLLOW", "NONBLOCK", "SystemCalls", "calls", "require_posix")

CLOEXEC: Final[int] = getattr(os, "O_CLOEXEC", 0)
DIRECTORY: Final[int] = getattr(os, "O_DIRECTORY", 0)
NOFOLLOW: Final[int] = getattr(os, "O_NOFOLLOW", 0)
NONBLOCK: Final[int] = getattr(os, "O_NONBLOCK", 0)

Path = str | os.PathLike[str]


class SystemCalls:
    """The calls as the operating system does them."""

    def open(self, path: Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        """As `os.open`."""
        return os.open(path, flags, mode, dir_fd=dir_fd)

    def close(self, descriptor: int) -> None:
        """As `os.close`."""
        os.close(descriptor)

    def duplicate(self, descriptor: int) -> int:
        """As `os.dup`."""
        return os.dup(descriptor)

    def read(self, descriptor: int, size: int) -> bytes:
        """As `os.read`: may give less than asked for before the end."""
        return os.read(descriptor, size)

    def write(self, descriptor: int, data: memoryview) -> int:
        """As `os.write`: may take less than offered."""
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """As `os.fsync`; on macOS ``F_FULLFSYNC``, as fsync does not reach the disk there."""
        if sys.platform == "darwin":
            try:
                fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            except OSError:  # a file system that does not know it
                os.fsync(descriptor)
        else:
            os.fsync(descriptor)

    def rename(self, old: Path, new: Path, *, old_dir_fd: int, new_dir_fd: int) -> None:
        """As `os.rename`."""
        os.rename(old, new, src_dir_fd=old_dir_fd, dst_dir_fd=new_dir_fd)

    def link(self, old: Path, new: Path, *, old_dir_fd: int, new_dir_fd: int) -> None:
        """As `os.link`, of a link itself."""
        os.link(old, new, src_dir_fd=old_dir_fd, dst_dir_fd=new_dir_fd, follow_symlinks=False)

    def unlink(self, path: Path, *, dir_fd: int | None = None) -> None:
        """As `os.unlink`."""
        os.unlink(path, dir_fd=dir_fd)

    def make_folder(self, path: Path, mode: int, *, dir_fd: int | None = None) -> None:
        """As `os.mkdir`."""
        os.mkdir(path, mode, dir_fd=dir_fd)

    def remove_folder(self, path: Path, *, dir_fd: int | None = None) -> None:
        """As `os.rmdir`."""
        os.rmdir(path, dir_fd=dir_fd)

    def status(
        self, path: Path, *, dir_fd: int | None = None, follow_symlinks: bool = True
    ) -> os.stat_result:
        """As `os.stat`."""
        return os.stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)

    def status_of(self, descriptor: int) -> os.stat_result:
        """As `os.fstat`."""
        return os.fstat(descriptor)

    def set_mode(self, target: int | Path, mode: int) -> None:
        """As `os.chmod`."""
        os.chmod(target, mode)  # noqa: PTH101  a descriptor too

    def entries(self, descriptor: int) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
        """As `os.scandir`."""
        return os.scandir(descriptor)

    def lock(self, descriptor: int, *, shared: bool) -> None:
        """As `fcntl.flock`, not waiting: `BlockingIOError` when it is held."""
        if sys.platform == "win32":
            raise UnsupportedError(str(descriptor), "this system has no flock")
        else:  # noqa: RET506  a type checker for Windows must not look at it
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)

    def monotonic(self) -> float:
        """As `time.monotonic`, in seconds."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """As `time.sleep`."""
        time.sleep(seconds)


calls: SystemCalls = SystemCalls()
"""The calls in use."""


def require_posix(path: Path, what: str) -> None:
    """Refuse where folders cannot be opened and files not be locked, which is Windows.

    Raises:
        UnsupportedError: this system lacks it.
    """
    if sys.platform == "win32":
        raise UnsupportedError(path, f"{what} needs Linux or macOS")
