"""Reads and writes below one folder that cannot leave it.

Rule 1: every step of a path is opened relative to the one before, and no symbolic link is followed,
so that nobody can turn a folder into a link between a check and a use. Rule 2: a read goes on to the
empty read, as file systems over a network give less than was asked for before the end. Rule 3: a
file is compared with its own status before and after it is read.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias

from starfish_disk import _system
from starfish_disk.durable import NewFile
from starfish_disk.errors import (
    ClosedError,
    DiskError,
    FileChangedError,
    MissingError,
    UnavailableError,
    UnsafePathError,
    os_errors_translated,
)
from starfish_disk.place import Place

__all__ = ("Entry", "EntryKind", "SafeFile", "SafeFolder")

_CHUNK: Final = 1024 * 1024
"""Bytes of one read."""
_MAX_REMEMBERED: Final = 10_000
"""Folders known to be on disk; a forgotten one costs one sync more."""
_FOLDER: Final = os.O_RDONLY | _system.DIRECTORY | _system.NOFOLLOW | _system.CLOEXEC
_READ: Final = os.O_RDONLY | _system.NOFOLLOW | _system.NONBLOCK | _system.CLOEXEC
"""Without O_NONBLOCK, opening a pipe that took a file's place would wait for its writer."""

_LINK_ERRORS: Final = frozenset({errno.ENOTDIR, errno.ELOOP, errno.EMLINK})
"""What systems answer to opening a link that is not to be followed."""

EntryKind: TypeAlias = Literal["file", "folder", "link", "other"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a folder."""

    path: str
    """From the root, with slashes."""
    kind: EntryKind
    """A link is a link, wherever it leads to."""


class SafeFolder:
    """An open folder; paths below it are relative, with slashes, and never leave it.

    For several threads. Forked children may read with it.

    Args:
        root: the folder. It may be reached through links; nothing below it may be one.

    Raises:
        MissingError: there is no such folder.
        UnsupportedError: on Windows.
        DiskError: it cannot be opened.

    Examples:
        >>> import tempfile
        >>> with SafeFolder(tempfile.mkdtemp()) as folder:
        ...     folder.write("notes/today", b"rain")
        ...     folder.read("notes/today"), [entry.path for entry in folder.walk()]
        (b'rain', ['notes/today'])
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        _system.require_posix(root, "a safe folder")
        self.root = Path(root)
        """The folder's path, as it was given."""
        self._durable: set[tuple[int, int]] = set()
        with os_errors_translated(root):
            self._descriptor = _system.calls.open(
                root, os.O_RDONLY | _system.DIRECTORY | _system.CLOEXEC
            )
            self._place = Place(root, descriptor=self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the folder; calling it twice is harmless."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            _system.calls.close(descriptor)

    def check_in_place(self) -> None:
        """Fail when the root was moved, removed or replaced since it was opened; one ``stat``.

        Raises:
            PlaceChangedError: it was; nobody would find a file that is written to it.
        """
        self._place.check()

    # Folders.

    @contextmanager
    def open_folder(
        self, folder: str = "", *, create: bool = False, mode: int = 0o777
    ) -> Generator[int]:
        """A descriptor of a folder below the root, ``""`` for the root; closed after the block.

        Args:
            folder: its path.
            create: make the folders that are missing, durably.
            mode: permissions of those; the umask may take some away.

        Raises:
            MissingError: a part is missing, and is not to be created.
            UnsafePathError: the path leads out, or a part of it is a link or not a folder.
            DiskError: the file system refused.
        """
        parts = self._parts(folder)
        with os_errors_translated(self.root / folder):
            descriptor = _system.calls.duplicate(self._open_root())
        try:
            for part in parts:
                with os_errors_translated(self.root / folder):
                    below = self._descend(part, descriptor, create=create, mode=mode)
                    _system.calls.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            _system.calls.close(descriptor)

    def _descend(self, part: str, above: int, *, create: bool, mode: int) -> int:
        if create:
            with suppress(FileExistsError):
                _system.calls.make_folder(part, mode, dir_fd=above)
        try:
            below = _system.calls.open(part, _FOLDER, dir_fd=above)
        except OSError as error:
            if error.errno in _LINK_ERRORS:
                raise UnsafePathError(
                    self.root, f"{part!r} in it is a link or not a folder"
                ) from error
            raise
        if create:
            try:
                self._make_durable(below, above)
            except BaseException:
                _system.calls.close(below)
                raise
        return below

    def _make_durable(self, folder: int, above: int) -> None:
        # Another process may have made it and not come to its sync: the first use here does it.
        found = _system.calls.status_of(folder)
        identity = (found.st_dev, found.st_ino)
        if identity not in self._durable:
            _system.calls.sync(above)
            if len(self._durable) >= _MAX_REMEMBERED:
                self._durable.clear()
            self._durable.add(identity)

    def make_folder(self, folder: str, *, mode: int = 0o777) -> None:
        """Have a folder with those above it, durably; errors as `open_folder`."""
        with self.open_folder(folder, create=True, mode=mode):
            pass

    def remove_empty_folder(self, folder: str) -> bool:
        """Remove a folder if nothing is in it; whether it is gone.

        Raises:
            UnsafePathError: as `open_folder`.
        """
        above, name = self._split(folder)
        try:
            with self.open_folder(above) as descriptor, os_errors_translated(self.root / folder):
                _system.calls.remove_folder(name, dir_fd=descriptor)
        except MissingError:
            return True
        except UnsafePathError:
            raise
        except DiskError:  # not empty, or in use
            return False
        return True

    # Looking.

    def status(self, path: str) -> os.stat_result | None:
        """The status of a path, of a link itself; ``None`` when there is nothing.

        Raises:
            UnsafePathError: as `open_folder`.
            DiskError: the file system refused.
        """
        folder, name = self._split(path)
        try:
            with self.open_folder(folder) as descriptor, os_errors_translated(self.root / path):
                return _system.calls.status(name, dir_fd=descriptor, follow_symlinks=False)
        except MissingError:
            return None

    def entries(self, folder: str = "") -> list[Entry]:
        """The entries of one folder, sorted by name; errors as `open_folder`."""
        prefix = f"{folder}/" if folder else ""
        with (
            self.open_folder(folder) as descriptor,
            os_errors_translated(self.root / folder),
            _system.calls.entries(descriptor) as entries,
        ):
            found = [Entry(f"{prefix}{entry.name}", _kind(entry)) for entry in entries]
        return sorted(found, key=lambda entry: entry.path)

    def walk(self, folder: str = "") -> Iterator[Entry]:
        """Everything below a folder but folders, in order of names; errors as `open_folder`.

        A folder that goes away meanwhile is left out.
        """
        waiting = [Entry(folder, "folder")]
        while waiting:
            entry = waiting.pop()
            if entry.kind != "folder":
                yield entry
                continue
            try:
                found = self.entries(entry.path)
            except MissingError:
                if entry.path == folder:
                    raise
                continue
            waiting += reversed(found)

    # Reading.

    @contextmanager
    def open_file(self, path: str) -> Generator[SafeFile]:
        """A regular file, open for reading; closed after the block.

        Raises:
            MissingError: there is no such file.
            UnsafePathError: it is not a regular file; or as `open_folder`.
            DiskError: the file system refused.
        """
        folder, name = self._split(path)
        with ExitStack() as opened:
            with self.open_folder(folder) as descriptor, os_errors_translated(self.root / path):
                try:
                    handle = _system.calls.open(name, _READ, dir_fd=descriptor)
                except OSError as error:
                    if error.errno in _LINK_ERRORS:
                        raise UnsafePathError(self.root / path, "it is a link") from error
                    raise
                opened.callback(_system.calls.close, handle)
                status = _system.calls.status_of(handle)
            if not stat.S_ISREG(status.st_mode):
                raise UnsafePathError(self.root / path, "it is not a regular file")
            yield SafeFile(self.root / path, handle, status)

    def read(self, path: str, *, max_bytes: int | None = None) -> bytes:
        """All bytes of a regular file, which did not change meanwhile.

        Args:
            path: of the file.
            max_bytes: the greatest length that is read; ``None`` for any.

        Raises:
            FileChangedError: it changed while it was read.
            UnavailableError: it is longer than ``max_bytes``.
            DiskError: as `open_file`.
        """
        with self.open_file(path) as file:
            if max_bytes is not None and file.size > max_bytes:
                raise UnavailableError(
                    self.root / path, f"it has {file.size} bytes, at most {max_bytes} are allowed"
                )
            return b"".join(file.chunks())

    # Writing.

    def write(self, path: str, data: bytes, *, replace: bool = True, mode: int = 0o600) -> None:
        """Put ``data`` under a path, durably; folders are made; the old file or the new is there.

        Raises:
            ExistsError: something is there, and ``replace`` is false.
            DiskError: as `open_folder`, or the file system refused.
        """
        with self.new_file(path, mode=mode, replace=replace) as file:
            file.write(data)

    @contextmanager
    def new_file(self, path: str, *, mode: int = 0o600, replace: bool = True) -> Generator[NewFile]:
        """Write a file piece by piece; it gets its name, durably, when the block ends well.

        Raises:
            ExistsError: something is there at the end, and ``replace`` is false.
            DiskError: as `open_folder`, or the file system refused.
        """
        folder, name = self._split(path)
        with self.open_folder(folder, create=True) as descriptor:
            with os_errors_translated(self.root / path):
                file = NewFile(self.root / folder, descriptor, mode=mode)
            try:
                yield file
                file.publish(name, replace=replace)
            finally:
                file.discard()

    def remove(self, path: str) -> bool:
        """Remove a file or link, durably; whether there was one.

        Raises:
            DiskError: as `open_folder`, or the file system refused.
        """
        folder, name = self._split(path)
        try:
            with self.open_folder(folder) as descriptor, os_errors_translated(self.root / path):
                _system.calls.unlink(name, dir_fd=descriptor)
                _system.calls.sync(descriptor)
        except MissingError:
            return False
        return True

    # Paths.

    def _open_root(self) -> int:
        if self._descriptor < 0:
            raise ClosedError(self.root, "the folder is closed")
        return self._descriptor

    def _parts(self, path: str) -> list[str]:
        parts = path.split("/") if path else []
        for part in parts:
            if part in ("", ".", "..") or "\0" in part:
                raise UnsafePathError(
                    self.root, f"{path!r} is not a relative path of names with single slashes"
                )
        return parts

    def _split(self, path: str) -> tuple[str, str]:
        folder, _, name = path.rpartition("/")
        if not self._parts(path):
            raise UnsafePathError(self.root, "the path of a file must not be empty")
        return folder, name


class SafeFile:
    """A regular file that is open for reading; `SafeFolder.open_file` gives one."""

    def __init__(self, path: Path, descriptor: int, status: os.stat_result) -> None:
        self.path = path
        """For messages."""
        self.descriptor = descriptor
        """Open for reading; belongs to this object."""
        self.status = status
        """When it was opened."""

    @property
    def size(self) -> int:
        """Length in bytes when it was opened."""
        return self.status.st_size

    def chunks(self, size: int = _CHUNK) -> Iterator[bytes]:
        """The bytes from where the last read ended, in pieces of at most ``size``.

        The last piece is followed by the check that the file did not change meanwhile: do not
        use the pieces for good before the iteration has ended.

        Raises:
            FileChangedError: its length or its times changed, or it gave more or fewer bytes.
            DiskError: it cannot be read.
        """
        count = 0
        with os_errors_translated(self.path):
            while chunk := _system.calls.read(self.descriptor, size):
                count += len(chunk)
                yield chunk
            after = _system.calls.status_of(self.descriptor)
        if _version(after) != _version(self.status) or count != self.size:
            raise FileChangedError(
                self.path,
                f"it changed while it was read: {self.size} bytes before, "
                f"{count} were read, {after.st_size} after",
            )


def _version(status: os.stat_result) -> tuple[int, int]:
    # Not the time of the last change of status: a rename over the file's name sets that too.
    return status.st_size, status.st_mtime_ns


def _kind(entry: os.DirEntry[str]) -> EntryKind:
    if entry.is_symlink():
        return "link"
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    return "file" if entry.is_file(follow_symlinks=False) else "other"
