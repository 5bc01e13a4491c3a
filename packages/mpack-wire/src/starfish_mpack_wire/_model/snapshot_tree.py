"""A snapshot as a tree of folders that never change: a change makes a new tree and shares the rest.

The id of a folder is the SHA-256 of the deterministic CBOR of
``["starfish.folder.v1", {name: digest of the file | [digest of the folder] | [kind, digest]}]``, and the id of
the top folder is the id of the snapshot. A change of one file among 100,000 so costs the folders above it.

Rule: no recursion. A path of 4,096 bytes may be 2,048 folders deep.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from hashlib import sha256
from operator import itemgetter
from typing import Self, cast

from starfish_mpack_wire._model.entries import (
    KINDS,
    Entry,
    EntryRecord,
    check_entry,
    foreign_digest,
)
from starfish_mpack_wire._model.manifest import Manifest
from starfish_mpack_wire._model.object_ids import check_object_id
from starfish_mpack_wire._model.snapshot_paths import check_paths
from starfish_mpack_wire.errors import MPackFormatError

__all__ = ("SnapshotFolder", "SnapshotTree", "snapshot_id")

_FOLDER_HEAD = b"\x82\x72starfish.folder.v1"  # an array of two, its first member this text
_DIGEST, _FOLDER_DIGEST = b"\x58\x20", b"\x81\x58\x20"  # 32 bytes; an array of one, of 32 bytes


class _Folder:
    __slots__ = ("digest", "folders", "in_order", "lines", "odd")

    def __init__(
        self,
        lines: dict[str, bytes],
        folders: dict[str, _Folder],
        odd: dict[str, EntryRecord],
    ) -> None:
        self.lines = lines  # each name as its member of the map in CBOR, name and digest
        self.folders = folders
        self.odd = odd  # entries that are not plain files
        self.in_order = True  # until a name is added; a changed line keeps its place in the dict
        self.digest = b""

    def copy(self) -> _Folder:
        return _Folder(self.lines.copy(), self.folders.copy(), self.odd.copy())

    def seal(self) -> bytes:
        if not self.in_order:
            # Encoded names are prefix-free, so sorted lines are lines sorted by encoded name.
            self.lines = dict(sorted(self.lines.items(), key=itemgetter(1)))
            self.in_order = True
        head = _folder_head(len(self.lines))
        digest = self.digest = sha256(head + b"".join(self.lines.values())).digest()
        return digest


def _head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes((major | argument,))
    if argument < 256:
        return bytes((major | 24, argument))
    if argument < 65536:
        return bytes((major | 25,)) + argument.to_bytes(2, "big")
    return bytes((major | 26,)) + argument.to_bytes(4, "big")


@lru_cache
def _folder_head(count: int) -> bytes:
    return _FOLDER_HEAD + _head(0xA0, count)


def _key(name: str) -> bytes:
    encoded = name.encode()
    return _head(0x60, len(encoded)) + encoded


def _odd_value(entry: EntryRecord) -> bytes:
    kind = bytes((0x82, KINDS.index(entry["kind"])))
    if entry["kind"] == "gitlink":
        digest = foreign_digest(entry["id"])
        return kind + _head(0x40, len(digest)) + digest
    return kind + _DIGEST + bytes.fromhex(entry["id"][7:])


def snapshot_id(manifest: Mapping[str, Entry], directories: Iterable[str] = ()) -> str:
    """Return the id of a snapshot: entries by path, and the directories that would be empty.

    Args:
        manifest: path to entry: a blob id for a plain file, ``{"kind": ..., "id": ...}`` for a program
            (``executable``), a ``symlink`` or a ``gitlink``.
        directories: paths of directories that would be empty.

    Raises:
        MPackFormatError: a path or id is malformed, or two of them exclude each other.

    Examples:
        >>> snapshot_id({}) == SnapshotTree.empty().snapshot_id
        True
    """
    return SnapshotTree.empty().apply(manifest, (), directories).snapshot_id


class SnapshotTree:
    """The files of a snapshot by path, and its directories that would be empty.

    Examples:
        >>> from starfish_mpack_wire import blob_id
        >>> tree = SnapshotTree.empty().apply({"a/b": blob_id(b"1"), "c": blob_id(b"2")})
        >>> later = tree.apply({"a/d": blob_id(b"3")}, remove=["c"], directories=["new"])
        >>> list(later.manifest), later.directories
        (['a/b', 'a/d'], ('new',))
        >>> later.apply({"c": blob_id(b"2")}, ["a/d"], []).snapshot_id == tree.snapshot_id
        True
    """

    __slots__ = ("_directories", "_file_count", "_root")

    def __init__(self, root: _Folder, directories: frozenset[str], file_count: int) -> None:
        self._root = root
        self._directories = directories
        self._file_count = file_count

    @classmethod
    def empty(cls) -> Self:
        """Give the snapshot of nothing."""
        root = _Folder({}, {}, {})
        root.seal()
        return cls(root, frozenset(), 0)

    @property
    def snapshot_id(self) -> str:
        """The id."""
        return "sha256:" + self._root.digest.hex()

    @property
    def directories(self) -> tuple[str, ...]:
        """Directories that would be empty, sorted."""
        return tuple(sorted(self._directories))

    @property
    def manifest(self) -> dict[str, Entry]:
        """All entries by path, in the order of paths; a new map each time."""
        return dict(self.files())

    def flat(self) -> Manifest:
        """Return entries and empty directories as one value."""
        return Manifest(self.manifest, self._directories)

    def __len__(self) -> int:
        """Count the files."""
        return self._file_count

    def __contains__(self, path: object) -> bool:
        """Tell whether there is a file of this path."""
        return isinstance(path, str) and self.get(path) is not None

    def get(self, path: str) -> Entry | None:
        """Return the entry at a path, or ``None`` where there is none."""
        *parents, name = path.split("/")
        folder = self._folder(parents)
        if folder is None or name in folder.folders or name not in folder.lines:
            return None
        return folder.odd.get(name) or "sha256:" + folder.lines[name][-32:].hex()

    def files(self, prefix: str = "") -> Iterator[tuple[str, Entry]]:
        """Return path and entry of each file, sorted by path; below a folder when one is named."""
        folder = self._folder(prefix.split("/") if prefix else ())
        if folder is not None:
            yield from sorted(_walk(folder, prefix + "/" if prefix else ""), key=itemgetter(0))

    @property
    def root(self) -> SnapshotFolder:
        """The top folder."""
        return SnapshotFolder(self._root)

    def _folder(self, parts: Iterable[str]) -> _Folder | None:
        folder = self._root
        for part in parts:
            below = folder.folders.get(part)
            if below is None:
                return None
            folder = below
        return folder

    def apply(
        self,
        upsert: Mapping[str, Entry],
        remove: Iterable[str] = (),
        directories: Iterable[str] | None = None,
        *,
        decoded: bool = False,
    ) -> SnapshotTree:
        """Give the tree after a change; this one stays as it is.

        Args:
            upsert: path to entry of files that are new or different.
            remove: paths of files that are gone; a folder without files is gone with them.
            directories: all directories that are empty afterwards; ``None`` keeps those of now.
            decoded: the change is a record that `MPackReader` gave out: it looked at the form of
                each path and id, and that is not done again. Never say so of anything else.

        Raises:
            MPackFormatError: a path or id is malformed, a removed file is not there, a path is
                both upserted and removed, or is a file and a folder, or a directory is not empty.
        """
        after = self._directories if directories is None else frozenset(directories)
        removed = list(remove)
        if not decoded:
            check_paths([*upsert, *removed, *(after - self._directories)])
            upsert = {
                path: check_object_id(entry) if type(entry) is str else check_entry(entry)
                for path, entry in upsert.items()
            }
        change = _Change(self._root)
        added = change.run(upsert, removed, self._directories, after)
        return SnapshotTree(change.root, after, self._file_count + added - len(removed))


class SnapshotFolder:
    """One folder of a snapshot."""

    __slots__ = ("_folder",)

    def __init__(self, folder: _Folder) -> None:
        self._folder = folder

    @property
    def folder_id(self) -> bytes:
        """The 32 bytes of the id: equal for folders of equal contents, wherever they are."""
        return self._folder.digest

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """Return name and entry of each file in this folder itself."""
        folder = self._folder
        for name, line in folder.lines.items():
            if name not in folder.folders:
                yield name, folder.odd.get(name) or "sha256:" + line[-32:].hex()

    def folders(self) -> Iterator[tuple[str, SnapshotFolder]]:
        """Return name and folder of each folder in this folder itself."""
        for name, below in self._folder.folders.items():
            yield name, SnapshotFolder(below)


def _walk(top: _Folder, prefix: str) -> list[tuple[str, Entry]]:
    found: list[tuple[str, Entry]] = []
    stack = [(prefix, top)]
    while stack:
        above, folder = stack.pop()
        folders, odd = folder.folders, folder.odd
        for name, line in folder.lines.items():
            if name in folders:
                stack.append((f"{above}{name}/", folders[name]))
            elif name in odd:
                found.append((above + name, odd[name]))
            else:
                found.append((above + name, "sha256:" + line[-32:].hex()))
    return found


class _Change:
    """One application: copies of the folders that are touched, each once, by their path."""

    def __init__(self, root: _Folder) -> None:
        self.root = root.copy()
        self._copies: dict[str, _Folder] = {"": self.root}

    def run(
        self,
        upsert: Mapping[str, Entry],
        remove: list[str],
        before: frozenset[str],
        after: frozenset[str],
    ) -> int:
        """Make the change, and tell how many of the upserted files are new."""
        for path in remove:
            if path in upsert:
                raise MPackFormatError(f"{path!r:.200} is both changed and removed")
            self._remove(path)
        for path in before - after:
            self._remove_directory(path)
        added = 0
        for path, entry in upsert.items():
            if type(entry) is str:
                added += self._upsert(path, bytes.fromhex(entry[7:]))
            else:
                added += self._upsert_odd(path, cast("EntryRecord", entry))
        for path in after - before:
            self._folder(path, create=True)
        self._seal(after)
        for path in after:
            self._check_empty(path)
        return added

    def _folder(self, path: str, *, create: bool) -> _Folder:
        """Give the copy of a folder, made now when this is the first change below it."""
        found = self._copies.get(path)
        if found is not None:
            return found
        above, _, name = path.rpartition("/")
        parent = self._copies.get(above)
        child = parent.folders.get(name) if parent is not None else None
        if parent is not None and child is not None:  # most often
            copy = parent.folders[name] = self._copies[path] = child.copy()
            return copy
        return self._deep_folder(path, create=create)

    def _deep_folder(self, path: str, *, create: bool) -> _Folder:
        cut = len(path)
        missing: list[str] = []
        while (found := self._copies.get(path[: max(cut, 0)])) is None:
            above = path.rfind("/", 0, cut)
            missing.append(path[above + 1 : cut])
            cut = max(above, 0)
        here = path[:cut]
        while missing:
            name = missing.pop()
            here = f"{here}/{name}" if here else name
            child = found.folders.get(name)
            if child is None:
                if name in found.lines:
                    raise MPackFormatError(
                        f"{here!r:.200} is a file, and a folder of {path!r:.200}"
                    )
                if not create:
                    raise MPackFormatError(f"{path!r:.200} is to be removed and is not there")
                child = _Folder({}, {}, {})
            copy = found.folders[name] = self._copies[here] = child.copy()
            if name not in found.lines:
                # Its digest is known when it is sealed.
                found.lines[name] = _key(name) + _FOLDER_DIGEST + bytes(32)
                found.in_order = False
            found = copy
        return found

    def _upsert(self, path: str, digest: bytes) -> int:
        above, _, name = path.rpartition("/")
        folder = self._copies.get(above) or self._folder(above, create=True)
        if name in folder.folders:
            raise MPackFormatError(f"{path!r:.200} is a folder, and cannot be a file as well")
        line = folder.lines.get(name)
        if line is not None:
            if name in folder.odd:
                del folder.odd[name]
                line = _key(name) + _DIGEST + bytes(32)
            folder.lines[name] = line[:-32] + digest
            return 0
        folder.lines[name] = _key(name) + _DIGEST + digest
        folder.in_order = False
        return 1

    def _upsert_odd(self, path: str, entry: EntryRecord) -> int:
        added = self._upsert(path, bytes(32))
        above, _, name = path.rpartition("/")
        folder = self._copies[above]
        folder.lines[name] = _key(name) + _odd_value(entry)
        folder.odd[name] = entry
        return added

    def _remove(self, path: str) -> None:
        above, _, name = path.rpartition("/")
        folder = self._folder(above, create=False)
        if name in folder.folders or folder.lines.pop(name, None) is None:
            raise MPackFormatError(f"{path!r:.200} is to be removed and is not there")
        folder.odd.pop(name, None)
        self._prune(above)

    def _remove_directory(self, path: str) -> None:
        self._folder(path, create=False)
        self._prune(path)

    def _prune(self, path: str) -> None:
        while path and not self._copies[path].lines:
            del self._copies[path]
            path, _, name = path.rpartition("/")
            parent = self._copies[path]
            del parent.lines[name], parent.folders[name]

    def _seal(self, directories: frozenset[str]) -> None:
        copies = self._copies
        for path in sorted(copies, key=len, reverse=True):  # paths inside are longer
            folder = copies[path]
            if not folder.lines and path and path not in directories:
                raise MPackFormatError(f"{path!r:.200} is an empty directory that is not listed")
            digest = folder.seal()
            if path:
                above, _, name = path.rpartition("/")
                lines = copies[above].lines
                lines[name] = lines[name][:-32] + digest

    def _check_empty(self, path: str) -> None:
        folder: _Folder | None = self.root
        for part in path.split("/"):
            folder = folder.folders.get(part) if folder is not None else None
        if folder is None or folder.lines:
            raise MPackFormatError(f"directory {path!r:.200} is listed as empty and is not")
