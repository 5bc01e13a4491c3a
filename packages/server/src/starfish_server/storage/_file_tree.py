"""The base folder of `FilesystemObjectStore`: opening it, walking it, listing it.

Every step of a path is opened relative to the one before, and a symbolic link is an error, so
nothing outside the base folder is ever read or written. Used by one thread; errors are `OSError`
and `StoreUnavailableError`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from starfish_disk.durable import make_folder
from starfish_server.errors import StoreUnavailableError
from starfish_server.storage._file_names import FOLDER_SUFFIX, FileNames, is_continued
from starfish_server.storage.keys import is_legal_key

__all__ = ("FileTree", "StoredFile")

StoredFile: TypeAlias = tuple[bytes, int]
"""What a file holds, and its modification time in nanoseconds: the revision."""

_LAYOUT = 1
"""Raised with each change of names and folders; a base folder with a greater one is left alone."""
_OWN = ".starfish"
_LEFT_BY_SYSTEMS = frozenset((".DS_Store", "lost+found"))
"""What a new folder may hold; nobody keeps documents there."""
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe must not block
_MAX_REMEMBERED = 10_000
"""Folders known to be on disk; a forgotten one costs one fsync more."""
_PROBED_NS = 1_000_000_000_123_456_789


class FileTree:
    """An open base folder.

    Args:
        base: the folder; created when missing.

    Raises:
        OSError: it cannot be opened.
        StoreUnavailableError: it cannot hold a store, or has a layout that is not known here.
    """

    def __init__(self, base: Path) -> None:
        self._base = base
        self._durable: set[tuple[int, int]] = set()
        make_folder(base, mode=0o700)
        self.root = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open_folders = [self.root]
        try:
            self._check_is_ours()
            self.locks = self._keep_open("locks")
            self.new = self._keep_open("new")
            self.types = self._keep_open("types")
            self.names = FileNames(escape_case=self._read_layout(base / _OWN))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release the folders."""
        while self._open_folders:
            os.close(self._open_folders.pop())

    def unavailable(self, reason: str) -> StoreUnavailableError:
        """What a caller is told."""
        return StoreUnavailableError(str(self._base), reason)

    def _check_is_ours(self) -> None:
        """Refuse a folder that holds files and was not made by this store."""
        names = {path.name for path in self._base.iterdir()}
        if _OWN in names:
            return
        foreign = sorted(name for name in names if name not in _LEFT_BY_SYSTEMS)
        if foreign:
            raise self.unavailable(
                f"it holds {foreign[0]!r} but not {_OWN}/layout.json, so it is not a folder of this "
                "store; import its documents into a new folder"
            )

    def _keep_open(self, name: str) -> int:
        with self.folder([_OWN, name], create=True) as folder:
            self._open_folders.append(os.dup(folder))
        return self._open_folders[-1]

    def _read_layout(self, own: Path) -> bool:
        path = own / "layout.json"
        if not path.exists():
            self._write_layout(path)
        try:
            stored = json.loads(path.read_text())
            layout, escape_case = int(stored["layout"]), bool(stored["escape_case"])
        except (ValueError, TypeError, KeyError) as error:
            raise self.unavailable(f"{_OWN}/layout.json is damaged: {error!r}") from error
        if layout > _LAYOUT:
            raise self.unavailable(
                f"the folder has layout {layout}, this version knows up to {_LAYOUT}"
            )
        if _ignores_case(path) and not escape_case:
            raise self.unavailable("the file system ignores case, the one it came from did not")
        return escape_case

    def _write_layout(self, path: Path) -> None:
        # Several processes may do this at once: all of them write the same.
        draft = path.with_name(f"layout-{os.getpid()}-{id(self)}")
        with os.fdopen(_create(draft), "w") as file:
            os.utime(file.fileno(), ns=(_PROBED_NS, _PROBED_NS))
            if os.fstat(file.fileno()).st_mtime_ns != _PROBED_NS:
                draft.unlink()
                raise self.unavailable("the file system keeps no nanoseconds, which etags are")
            json.dump({"layout": _LAYOUT, "escape_case": _ignores_case(draft)}, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)

    # Reading.

    @contextlib.contextmanager
    def folder(self, names: Sequence[str], *, create: bool = False) -> Generator[int]:
        """A folder below the base, open; `FileNotFoundError` when missing and not to be created."""
        descriptor = os.dup(self.root)
        try:
            for name in names:
                if create:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(name, 0o700, dir_fd=descriptor)
                deeper = self.open_folder(name, descriptor)
                if create:
                    self._make_durable(deeper, descriptor)
                os.close(descriptor)
                descriptor = deeper
            yield descriptor
        finally:
            os.close(descriptor)

    def _make_durable(self, folder: int, above: int) -> None:
        # Another process may have made it and not come to its fsync: the first use here does it.
        found = os.fstat(folder)
        identity = (found.st_dev, found.st_ino)
        if identity not in self._durable:
            os.fsync(above)
            if len(self._durable) >= _MAX_REMEMBERED:
                self._durable.clear()
            self._durable.add(identity)

    def open_folder(self, name: str, above: int) -> int:
        """A folder in an open folder; the caller closes it."""
        try:
            return os.open(name, _FOLDER_FLAGS, dir_fd=above)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise self.unavailable(f"{name!r} in it is a link or no folder") from error
            raise

    def read(self, key: str) -> StoredFile | None:
        """What the file of a key holds."""
        names, name = self.names.of_key(key)
        try:
            with self.folder(names) as folder:
                return self.read_file(name, folder)
        except FileNotFoundError:
            return None

    def revision(self, key: str) -> int | None:
        """Modification time of the file of a key in nanoseconds, ``None`` when there is none."""
        names, name = self.names.of_key(key)
        try:
            with self.folder(names) as folder:
                return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime_ns
        except FileNotFoundError:
            return None

    def read_file(self, name: str, folder: int) -> StoredFile:
        """What a file in an open folder holds; `FileNotFoundError` when missing."""
        try:
            descriptor = os.open(name, _FILE_FLAGS, dir_fd=folder)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise self.unavailable(f"{name!r} in it is a symbolic link") from error
            raise
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise self.unavailable(f"{name!r} in it is not a regular file")
            parts: list[bytes] = []
            missing = found.st_size
            while missing and (part := os.read(descriptor, missing)):
                parts.append(part)
                missing -= len(part)
            return b"".join(parts), found.st_mtime_ns
        finally:
            os.close(descriptor)

    # Listing.

    def list_keys(self, prefix: str, start_after: str | None, limit: int | None) -> list[str]:
        """Keys with a prefix, sorted; reads no folder that can hold none of them."""
        above = prefix.rpartition("/")[0]
        if above and not is_legal_key(above):
            return []
        after = start_after or ""
        keys: list[str] = []
        # A folder sorts as its segment and "/", which is where its keys are among the others.
        waiting = [(above + "/" if above else "", True)]
        with contextlib.closing(_Walk(self)) as walk:
            while waiting and (limit is None or len(keys) < limit):
                text, is_folder = waiting.pop()
                if not is_folder:
                    keys.append(text)
                    continue
                entries = [
                    entry
                    for entry in self._entries(text, walk)
                    if _may_hold(*entry, prefix=prefix, after=after)
                ]
                waiting += sorted(entries, reverse=True)
        return keys

    def _entries(self, text: str, walk: _Walk) -> Iterator[tuple[str, bool]]:
        """Keys and folders of keys directly in a folder, a folder with "/" at its end."""
        chunked: list[tuple[list[str], str]] = [(self.names.of_folders(text.split("/")[:-1]), "")]
        while chunked:
            names, begun = chunked.pop()
            for name, kind in walk.scan(names):
                if kind == "folder" and is_continued(name):
                    chunked.append(([*names, name], begun + name[:-1]))
                elif kind == "folder" and name.endswith(FOLDER_SUFFIX):
                    segment = self.names.segment(begun + name, is_folder=True)
                    if segment is not None:
                        yield f"{text}{segment}/", True
                elif kind == "file":
                    segment = self.names.segment(begun + name, is_folder=False)
                    if segment is not None and is_legal_key(text + segment):
                        yield text + segment, False


class _Walk:
    """Reads one folder after the other; one below the last is opened from there."""

    def __init__(self, tree: FileTree) -> None:
        self._tree = tree
        self._names: list[str] = []
        self._folder = os.dup(tree.root)

    def scan(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """Names and kinds in a folder; none when it has gone, with its last key."""
        if names[: len(self._names)] != self._names:
            self.close()
            self._names, self._folder = [], os.dup(self._tree.root)
        try:
            for name in names[len(self._names) :]:
                deeper = self._tree.open_folder(name, self._folder)
                os.close(self._folder)
                self._folder = deeper
                self._names.append(name)
            with os.scandir(self._folder) as entries:
                return [(entry.name, _kind(entry)) for entry in entries]
        except FileNotFoundError:
            return []

    def close(self) -> None:
        """Release the folder that is open."""
        os.close(self._folder)


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)


def _kind(entry: os.DirEntry[str]) -> str:
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    return "file" if entry.is_file(follow_symlinks=False) else "other"


def _may_hold(text: str, is_folder: bool, *, prefix: str, after: str) -> bool:  # noqa: FBT001
    if is_folder:
        return (text.startswith(prefix) or prefix.startswith(text)) and (
            text > after or after.startswith(text)
        )
    return text.startswith(prefix) and text > after


def _ignores_case(path: Path) -> bool:
    return path.with_name(path.name.upper()).exists()
