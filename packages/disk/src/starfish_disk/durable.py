"""Files, folders and locks that hold through a crash: write beside, sync, rename, sync the folder.

Rule 1: a name is given only to bytes that are on disk. Rule 2: a function that returned has its
result on disk; one that raised has left the old file, or, when the last sync failed, the new one.
Rule 3: an unfinished file is locked by the process that writes it, so that a leftover is told
from a file in the making without looking at a clock.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from starfish_disk import _system
from starfish_disk.errors import (
    BusyError,
    MissingError,
    ReadOnlyError,
    UnsafePathError,
    os_errors_translated,
)

__all__ = (
    "NewFile",
    "create_file",
    "hold_lock",
    "make_folder",
    "new_file",
    "remove_file",
    "replace_file",
    "sweep_leftovers",
    "sync_file",
    "sync_folder",
)

_LOCK_POLL_S: Final = 0.005
"""Between two tries for a lock, in seconds: the system's own waiting knows no time-out."""
_PREFIX, _SUFFIX = ".new-", ".tmp"
_FOLDER: Final = os.O_RDONLY | _system.DIRECTORY | _system.CLOEXEC
_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | _system.NOFOLLOW | _system.CLOEXEC
_OPEN: Final = os.O_RDONLY | _system.NOFOLLOW | _system.NONBLOCK | _system.CLOEXEC

_StrPath = str | os.PathLike[str]


def replace_file(path: _StrPath, data: bytes, *, mode: int = 0o600) -> None:
    """Put ``data`` under a name; after a crash the old file or the new one is there.

    Args:
        path: of the file; its folder must exist.
        data: all of its bytes.
        mode: permissions of the new file; the umask may take some away.

    Raises:
        DiskError: the file system refused; the old file is still there, and nothing beside it.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "settings.json"
        >>> replace_file(path, b"{}")
        >>> path.read_bytes(), oct(path.stat().st_mode & 0o777)
        (b'{}', '0o600')
    """
    with new_file(Path(path).parent, mode=mode) as file:
        file.write(data)
        file.publish(Path(path).name)


def create_file(path: _StrPath, data: bytes, *, mode: int = 0o600) -> None:
    """Put ``data`` under a name that nothing has; of several that try, one succeeds.

    Args:
        path: of the file; its folder must exist.
        data: all of its bytes.
        mode: permissions of the new file; the umask may take some away.

    Raises:
        ExistsError: the name is taken; nothing was changed.
        DiskError: the file system refused.
    """
    with new_file(Path(path).parent, mode=mode) as file:
        file.write(data)
        file.publish(Path(path).name, replace=False)


def remove_file(path: _StrPath) -> None:
    """Remove a file, durably; no error when it is not there.

    Raises:
        DiskError: the file system refused.
    """
    with os_errors_translated(path):
        with suppress(FileNotFoundError):
            _system.calls.unlink(path)
        with suppress(MissingError):
            sync_folder(Path(path).parent)


class NewFile:
    """A file in the making, under a name that nobody looks for; `new_file` gives one.

    It is locked as long as it is open, so that `sweep_leftovers` of any process leaves it alone.
    """

    def __init__(self, folder: _StrPath, folder_descriptor: int, *, mode: int = 0o600) -> None:
        self.folder = Path(folder)
        """Where it is made, for messages."""
        self._folder = _system.calls.duplicate(folder_descriptor)
        self._descriptor = -1
        self._name = ""
        self._published = self._synced = False
        try:
            self._create(mode)
        except BaseException:
            self.discard()
            raise

    def _create(self, mode: int) -> None:
        while True:
            self._name = f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
            self._descriptor = _system.calls.open(self._name, _CREATE, mode, dir_fd=self._folder)
            with suppress(BlockingIOError):  # a sweep holds it for a moment, and removes it
                _system.calls.lock(self._descriptor, shared=False)
                if _system.calls.status_of(self._descriptor).st_nlink:
                    return
            _system.calls.close(self._descriptor)
            self._descriptor = -1
            with suppress(FileNotFoundError):
                _system.calls.unlink(self._name, dir_fd=self._folder)

    @property
    def path(self) -> Path:
        """Where it is now; another program may read it there, or write it with this one waiting."""
        return self.folder / self._name

    @property
    def descriptor(self) -> int:
        """Open for reading and writing; belongs to this object."""
        return self._descriptor

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes at the end, all of them.

        Raises:
            DiskError: the file system refused; discard the file.
        """
        self._synced = False
        view = memoryview(data).cast("B")
        with os_errors_translated(self.path):
            while view:
                view = view[_system.calls.write(self._descriptor, view) :]

    def sync(self) -> None:
        """Put the bytes on disk; `publish` does it when it was not done.

        Raises:
            DiskError: the disk refused; discard the file.
        """
        with os_errors_translated(self.path):
            _system.calls.sync(self._descriptor)
        self._synced = True

    def publish(
        self, name: str, *, folder_descriptor: int | None = None, replace: bool = True
    ) -> None:
        """Give the file its name, durably; may be called once.

        Args:
            name: in the folder; not a path.
            folder_descriptor: an open folder of the same file system, when it is to be another one.
            replace: take the name from a file that has it; ``False`` refuses instead.

        Raises:
            ExistsError: the name is taken, and ``replace`` is false.
            UnsafePathError: the name is a path, or empty.
            DiskError: the file system refused.
        """
        target = self._folder if folder_descriptor is None else folder_descriptor
        where = self.folder / name if folder_descriptor is None else name
        _check_name(where, name)
        if not self._synced:
            self.sync()
        with os_errors_translated(where):
            if replace:
                _system.calls.rename(self._name, name, old_dir_fd=self._folder, new_dir_fd=target)
            else:
                _system.calls.link(self._name, name, old_dir_fd=self._folder, new_dir_fd=target)
                _system.calls.unlink(self._name, dir_fd=self._folder)
            self._published = True
            _system.calls.sync(target)

    def discard(self) -> None:
        """Release it; the file goes unless it was published. Calling it twice is harmless."""
        folder, descriptor = self._folder, self._descriptor
        self._folder = self._descriptor = -1
        try:
            if descriptor >= 0 and not self._published:
                with suppress(OSError):  # a sweep removes it later
                    _system.calls.unlink(self._name, dir_fd=folder)
        finally:
            for opened in (descriptor, folder):
                if opened >= 0:
                    _system.calls.close(opened)


@contextmanager
def new_file(folder: _StrPath, *, mode: int = 0o600) -> Generator[NewFile]:
    """Write a file of any size piece by piece, then give it a name; gone when that did not happen.

    Args:
        folder: where it is made; must exist. To be renamed into another folder, that must be on
            the same file system.
        mode: permissions; the umask may take some away.

    Raises:
        DiskError: the file system refused.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with new_file(folder) as file:
        ...     file.write(b"one ")
        ...     file.write(b"two")
        ...     file.publish("words", replace=False)
        >>> [path.name for path in folder.iterdir()]
        ['words']
    """
    _system.require_posix(folder, "a durable file")
    with _opened(folder, _FOLDER) as descriptor:
        with os_errors_translated(folder):
            file = NewFile(folder, descriptor, mode=mode)
        try:
            yield file
        finally:
            file.discard()


def sweep_leftovers(folder: _StrPath) -> int:
    """Remove unfinished files of `new_file` whose process has died; how many those were.

    Raises:
        DiskError: the folder cannot be read.
    """
    _system.require_posix(folder, "sweeping a folder")
    removed = 0
    with _opened(folder, _FOLDER) as descriptor, os_errors_translated(folder):
        with _system.calls.entries(descriptor) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            if name.startswith(_PREFIX) and name.endswith(_SUFFIX):
                removed += _sweep_one(name, descriptor)
    return removed


def _sweep_one(name: str, folder: int) -> int:
    try:
        descriptor = _system.calls.open(name, _OPEN, dir_fd=folder)
    except OSError:  # published or removed meanwhile, or not a file
        return 0
    try:
        _system.calls.lock(descriptor, shared=False)
        _system.calls.unlink(name, dir_fd=folder)
    except OSError:  # being written, or somebody else was faster
        return 0
    finally:
        _system.calls.close(descriptor)
    return 1


def sync_file(path: _StrPath) -> None:
    """Put the bytes of a file on disk, those of other writers too.

    On macOS this is ``F_FULLFSYNC``, as ``fsync`` alone does not reach the disk there.

    Raises:
        DiskError: the file cannot be opened, or the disk refused.
    """
    with _opened(path, os.O_RDONLY | _system.CLOEXEC) as descriptor, os_errors_translated(path):
        _system.calls.sync(descriptor)


def sync_folder(path: _StrPath) -> None:
    """Put the names in a folder on disk: creations, renames and removals.

    Raises:
        DiskError: the folder cannot be opened, or the disk refused.
    """
    _system.require_posix(path, "syncing a folder")
    with _opened(path, _FOLDER) as descriptor, os_errors_translated(path):
        _system.calls.sync(descriptor)


def make_folder(path: _StrPath, *, mode: int = 0o777) -> None:
    """Have a folder and those above it; all of them are on disk when this returns.

    Args:
        path: of the folder; may be there.
        mode: permissions of each folder that is made; the umask may take some away.

    Raises:
        DiskError: one cannot be made, or is not a folder.
    """
    _system.require_posix(path, "a durable folder")
    missing: list[Path] = []
    folder = Path(path)
    with os_errors_translated(path):
        while not _is_there(folder):
            missing.append(folder)
            folder = folder.parent
        for each in reversed(missing):
            with suppress(FileExistsError):
                _system.calls.make_folder(each, mode)
    for each in reversed(missing):
        sync_folder(each.parent)
    if not missing:
        # Another process may have made it and not come to its sync yet; where the folder above
        # may not be opened, it was made by somebody else anyway.
        with suppress(ReadOnlyError):
            sync_folder(Path(path).parent)
    sync_folder(path)


def _is_there(path: Path) -> bool:
    try:
        _system.calls.status(path)
    except FileNotFoundError:
        return False
    return True


@contextmanager
def hold_lock(
    path: _StrPath, *, timeout_s: float, shared: bool = False, mode: int = 0o600
) -> Generator[None]:
    """Hold a lock among all processes and threads until the block ends.

    The operating system drops the lock of a process that dies. It is not reentrant: a thread that
    asks again waits for itself. A child that is forked in the block holds it too, until it ends.

    Args:
        path: the file that is locked; made when it is missing, and best never removed.
        timeout_s: seconds to wait; 0 tries once.
        shared: let in others that say so too.
        mode: permissions of the file when it is made.

    Raises:
        BusyError: somebody else held it for longer than ``timeout_s``.
        UnsupportedError: on Windows.
        DiskError: the file cannot be opened.
    """
    _system.require_posix(path, "a lock")
    descriptor = _locked(path, timeout_s, shared=shared, mode=mode)
    try:
        yield
    finally:
        _system.calls.close(descriptor)


def _locked(path: _StrPath, timeout_s: float, *, shared: bool, mode: int) -> int:
    give_up_at = _system.calls.monotonic() + timeout_s
    flags = os.O_RDWR | os.O_CREAT | _system.CLOEXEC
    while True:
        with os_errors_translated(path):
            descriptor = _system.calls.open(path, flags, mode)
            try:
                held = _try_lock(descriptor, path, shared=shared)
            except BaseException:
                _system.calls.close(descriptor)
                raise
            if held:
                return descriptor
            _system.calls.close(descriptor)
        if _system.calls.monotonic() >= give_up_at:
            raise BusyError(
                path, f"another process or thread has held its lock for {timeout_s:g} s"
            )
        _system.calls.sleep(_LOCK_POLL_S)


def _try_lock(descriptor: int, path: _StrPath, *, shared: bool) -> bool:
    """Whether it is held now, and is a lock of the file that others will open."""
    try:
        _system.calls.lock(descriptor, shared=shared)
        return os.path.samestat(_system.calls.status_of(descriptor), _system.calls.status(path))
    except (BlockingIOError, FileNotFoundError):
        return False


@contextmanager
def _opened(path: _StrPath, flags: int) -> Generator[int]:
    with os_errors_translated(path):
        descriptor = _system.calls.open(path, flags)
    try:
        yield descriptor
    finally:
        _system.calls.close(descriptor)


def _check_name(where: _StrPath, name: str) -> None:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise UnsafePathError(where, f"{name!r} is not a name in a folder")
