"""What a folder holds now, as a snapshot would have it."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from starfish_mpack_wire.errors import MPackFormatError, UnsafePathError
from starfish_mpack_wire.snapshot_paths import check_path
from starfish_mpack_wire.working_tree.ignored import IGNORE_FILE, IgnorePatterns
from starfish_mpack_wire.working_tree.name_folding import is_store_folder_name
from starfish_mpack_wire.working_tree.safe_folder import SafeFolder
from starfish_mpack_wire.working_tree.stat_cache import FileStamp, StatCache

__all__ = ("FolderContents", "scan_folder")

KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


@dataclass(frozen=True, slots=True)
class FolderContents:
    """The files of a folder."""

    files: Mapping[str, str]
    """Path to blob id, sorted by path."""
    directories: tuple[str, ...]
    """Directories that are empty, sorted."""
    unsupported: Mapping[str, str]
    """What a snapshot cannot hold: path to reason."""
    stamps: Mapping[str, FileStamp]
    """What the file system told of each file before it was read."""


@dataclass(slots=True)
class _Found:
    stamps: dict[str, FileStamp] = field(default_factory=dict[str, FileStamp])
    directories: list[str] = field(default_factory=list[str])
    unsupported: dict[str, str] = field(default_factory=dict[str, str])


def scan_folder(folder: SafeFolder, cache: StatCache, tracked: Collection[str]) -> FolderContents:
    """Read a folder; files that the cache knows are not opened.

    Args:
        folder: the root of the working tree.
        cache: what was read before; renewed.
        tracked: paths that are looked at although a pattern ignores them.

    Raises:
        OSError: something cannot be read.
    """
    read_at_ns = cache.now_ns()
    found = _list(folder, _ignore_patterns(folder), frozenset(tracked))
    files: dict[str, str] = {}
    for path in sorted(found.stamps):
        known = cache.lookup(path, found.stamps[path])
        try:
            files[path] = known or folder.hash(path)
        except FileNotFoundError:
            continue  # removed since it was listed
        except UnsafePathError as error:
            found.unsupported[path] = error.reason
    entries = {path: (found.stamps[path], blob) for path, blob in files.items()}
    cache.replace(entries, read_at_ns=read_at_ns)
    return FolderContents(files, tuple(sorted(found.directories)), found.unsupported, found.stamps)


def _ignore_patterns(folder: SafeFolder) -> IgnorePatterns:
    try:
        text = folder.read(IGNORE_FILE).decode(errors="replace")
    except (FileNotFoundError, UnsafePathError):
        text = ""
    return IgnorePatterns.parse(text)


def _list(folder: SafeFolder, ignored: IgnorePatterns, tracked: frozenset[str]) -> _Found:
    found = _Found()
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
                    stack.append(path)
                    continue
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    found.stamps[path] = FileStamp.of(status)
                else:
                    found.unsupported[path] = KINDS.get(stat.S_IFMT(status.st_mode), "no file")
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
