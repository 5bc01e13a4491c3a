"""The present contents of a folder, as a snapshot would have them."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from starfish_mpack_wire._model.entries import Entry, EntryKind, entry_of, kind_of
from starfish_mpack_wire._model.object_ids import blob_id
from starfish_mpack_wire._model.snapshot_paths import check_path
from starfish_mpack_wire.errors import MPackFormatError, UnsafePathError
from starfish_mpack_wire.working_tree._ignored import IGNORE_FILE, IgnorePatterns
from starfish_mpack_wire.working_tree._name_folding import is_store_folder_name
from starfish_mpack_wire.working_tree._safe_folder import SafeFolder
from starfish_mpack_wire.working_tree._stat_cache import FileStamp, StatCache

__all__ = ("FolderContents", "scan_folder")

KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


@dataclass(frozen=True, slots=True)
class FolderContents:
    """The files of a folder."""

    files: Mapping[str, Entry]
    """Path to entry, sorted by path."""
    directories: tuple[str, ...]
    """Directories that are empty, sorted."""
    unsupported: Mapping[str, str]
    """Files that a snapshot cannot hold: path to reason."""
    stamps: Mapping[str, FileStamp]
    """What the file system told of each file before it was read."""


@dataclass(slots=True)
class _Found:
    stamps: dict[str, FileStamp] = field(default_factory=dict[str, FileStamp])
    kinds: dict[str, EntryKind] = field(default_factory=dict[str, EntryKind])
    """Of files that are not plain."""
    gitlinks: list[str] = field(default_factory=list[str])

    def add(self, path: str, status: os.stat_result) -> None:
        """Note a file, link or something else that is not a folder."""
        if stat.S_ISREG(status.st_mode):
            self.stamps[path] = FileStamp.of(status)
            if status.st_mode & stat.S_IXUSR:
                self.kinds[path] = "executable"
        elif stat.S_ISLNK(status.st_mode):
            self.stamps[path] = FileStamp.of(status)
            self.kinds[path] = "symlink"
        else:
            self.unsupported[path] = KINDS.get(stat.S_IFMT(status.st_mode), "not a file")

    directories: list[str] = field(default_factory=list[str])
    unsupported: dict[str, str] = field(default_factory=dict[str, str])


def scan_folder(
    folder: SafeFolder, cache: StatCache, tracked: Mapping[str, Entry]
) -> FolderContents:
    """Read a folder; files that the cache knows are not opened.

    Args:
        folder: the root of the working tree.
        cache: earlier reads; renewed.
        tracked: entries of the current commit: their paths are looked at although a pattern ignores them. A
            folder at the path of a gitlink is another repository and is not looked into.

    Raises:
        OSError: something cannot be read.
    """
    read_at_ns = cache.now_ns()
    found = _list(folder, _ignore_patterns(folder), tracked)
    blobs: dict[str, str] = {}
    for path in sorted(found.stamps):
        try:
            blobs[path] = cache.lookup(path, found.stamps[path]) or _blob_id_at(folder, path, found)
        except FileNotFoundError:
            continue  # removed since it was listed
        except UnsafePathError as error:
            found.unsupported[path] = error.reason
    cache.replace(
        {path: (found.stamps[path], blob) for path, blob in blobs.items()}, read_at_ns=read_at_ns
    )
    kinds = found.kinds
    files: dict[str, Entry] = {
        path: entry_of(kinds[path], blob) if path in kinds else blob for path, blob in blobs.items()
    }
    if found.gitlinks:
        files = dict(sorted((files | {each: tracked[each] for each in found.gitlinks}).items()))
    return FolderContents(files, tuple(sorted(found.directories)), found.unsupported, found.stamps)


def _blob_id_at(folder: SafeFolder, path: str, found: _Found) -> str:
    if found.kinds.get(path) == "symlink":
        return blob_id(folder.read_link(path))
    return folder.hash(path)


def _ignore_patterns(folder: SafeFolder) -> IgnorePatterns:
    try:
        text = folder.read(IGNORE_FILE).decode(errors="replace")
    except (FileNotFoundError, UnsafePathError):
        text = ""
    return IgnorePatterns.parse(text)


def _list(folder: SafeFolder, ignored: IgnorePatterns, tracked: Mapping[str, Entry]) -> _Found:
    found = _Found()
    gitlinks = {path for path, entry in tracked.items() if kind_of(entry) == "gitlink"}
    tracked_folders = _folders_above(tracked)
    stack = [""]
    while stack:
        above = stack.pop()
        with folder.open_folder(above) as descriptor, os.scandir(descriptor) as entries:
            used = False
            for entry in entries:
                path = f"{above}/{entry.name}" if above else entry.name
                used = True
                if is_store_folder_name(entry.name):
                    continue
                is_folder = entry.is_dir(follow_symlinks=False)
                if ignored.match(path) and path not in (tracked_folders if is_folder else tracked):
                    continue
                try:
                    check_path(path)
                except MPackFormatError:
                    found.unsupported[path] = "its name has no place in a snapshot"
                    continue
                if is_folder:
                    if path in gitlinks:
                        found.gitlinks.append(path)
                    else:
                        stack.append(path)
                    continue
                found.add(path, entry.stat(follow_symlinks=False))
            if not used and above:
                found.directories.append(above)
    return found


def _folders_above(paths: Collection[str]) -> set[str]:
    folders: set[str] = set()
    for path in paths:
        above = path.rpartition("/")[0]
        while above and above not in folders:
            folders.add(above)
            above = above.rpartition("/")[0]
    return folders
