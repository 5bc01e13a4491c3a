"""Make a folder hold the files of a snapshot, without destroying files that no commit holds.

Everything that could be refused is looked at before the first file is touched. Then files are removed,
folders made and files moved into place whole, one by one; after an interruption the same
checkout completes, and files that are in place stay.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from starfish_mpack_wire._model.entries import Entry, EntryKind, kind_of, same_path_blobs
from starfish_mpack_wire._model.manifest import Manifest
from starfish_mpack_wire._model.snapshot_paths import check_paths
from starfish_mpack_wire._store.incoming import LINK_SUFFIX
from starfish_mpack_wire.errors import LocalChangesError, StoreError, UnsafePathError
from starfish_mpack_wire.working_tree._name_folding import NameFolding, is_store_folder_name
from starfish_mpack_wire.working_tree._safe_folder import SafeFolder
from starfish_mpack_wire.working_tree._scan import FolderContents
from starfish_mpack_wire.working_tree._stat_cache import FileStamp

__all__ = ("CheckoutPlan", "apply_checkout", "check_target", "plan_checkout")

NewFile = Callable[[], AbstractContextManager[Path]]

MAX_NAME_BYTES = 255
"""A name on every common file system."""


@dataclass(frozen=True, slots=True)
class CheckoutPlan:
    """What has to be done, in this order."""

    remove: tuple[str, ...]
    write: Mapping[str, Entry]
    """Path to entry; gitlinks are folders."""
    make_folders: tuple[str, ...]
    drop_folders: tuple[str, ...]
    """Folders that go when they are empty."""


def check_target(target: Manifest, folding: NameFolding) -> None:
    """Refuse a snapshot that this file system cannot hold, or that reaches outside or into the store.

    Raises:
        UnsafePathError: the message names the path.
        MPackFormatError: a path that no snapshot may hold.
    """
    paths = [*target.entries, *target.directories]
    check_paths(paths)
    parts_seen: set[str] = set()
    for path in paths:
        for part in path.split("/"):
            if part in parts_seen:
                continue
            parts_seen.add(part)
            if is_store_folder_name(part):
                raise UnsafePathError(path, f"{part!r} is the folder of a store")
            if len(part.encode()) > MAX_NAME_BYTES:
                raise UnsafePathError(path, f"a name of more than {MAX_NAME_BYTES} bytes")
    for first, second in folding.collisions(paths):
        raise UnsafePathError(second, f"this file system takes it for {first!r}")


def plan_checkout(
    base: Manifest,
    target: Manifest,
    now: FolderContents,
    folder: SafeFolder,
    *,
    folding: NameFolding,
    force: bool,
) -> CheckoutPlan:
    """Work out what turns the folder as it is ``now`` into ``target``.

    Without ``force``, only what differs between ``base`` and ``target`` is touched: other local changes
    stay. With it, each file of ``target`` is as in ``target`` afterwards.

    Raises:
        LocalChangesError: a file would be lost that is neither in ``base`` nor in ``target``.
        UnsafePathError: see `check_target`.
    """
    check_target(target, folding)
    was = base.entries
    links = _gitlinks_of(target)
    left = _gitlinks_of(base) - links
    wanted = {path: entry for path, entry in target.entries.items() if path not in links}
    write = {
        path: entry
        for path, entry in wanted.items()
        if now.files.get(path) != entry and (force or was.get(path) != entry)
    }
    remove = {
        path for path in was if path not in wanted and path in now.stamps and path in now.files
    }
    endangered = set[str]()
    if not force:
        endangered = {
            path
            for path in (*write, *remove)
            if path in now.stamps and path in now.files and now.files[path] != was.get(path)
        }
    folders = target.directories | links
    in_the_way = _in_the_way(write, folders, now, folder, removed=remove, folding=folding)
    if not force:
        endangered |= in_the_way
    if endangered:
        raise LocalChangesError(sorted(endangered))
    remove |= in_the_way
    emptied = set(_folders_above(remove | left)) | (base.directories - folders) | left
    emptied |= {
        each
        for each in now.directories
        if any(each == path or each.startswith(f"{path}/") for path in write)
    }
    return CheckoutPlan(
        remove=tuple(sorted(remove)),
        write=dict(sorted(write.items())),
        make_folders=tuple(sorted(folders)),
        drop_folders=tuple(sorted(emptied - folders, key=len, reverse=True)),
    )


def _gitlinks_of(manifest: Manifest) -> frozenset[str]:
    return frozenset(
        path for path, entry in manifest.entries.items() if kind_of(entry) == "gitlink"
    )


def _in_the_way(
    write: Mapping[str, Entry],
    directories: Collection[str],
    now: FolderContents,
    folder: SafeFolder,
    *,
    removed: set[str],
    folding: NameFolding,
) -> set[str]:
    """What stands where a file or folder is to come and is not removed for another reason."""
    found: set[str] = set()
    others = {*now.stamps, *now.unsupported}
    for above in {*_folders_above(write), *directories, *_folders_above(directories)}:
        if above in others:
            found.add(above)
    spelled: dict[str, str] = {}
    if folding.case or folding.normalization:
        spelled = {folding.key(path): path for path in others}
    for path in write:
        if path in now.unsupported:
            found.add(path)
        elif path not in now.stamps:
            status = folder.stat(path)
            if status is not None and stat.S_ISDIR(status.st_mode):
                found |= set(folder.walk(path))
        twin = spelled.get(folding.key(path), path) if spelled else path
        if twin != path:
            found.add(twin)
    return found - removed


def _folders_above(paths: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for path in paths:
        above = path.rpartition("/")[0]
        while above and above not in seen:
            seen.add(above)
            yield above
            above = above.rpartition("/")[0]


def apply_checkout(
    plan: CheckoutPlan,
    now: FolderContents,
    folder: SafeFolder,
    *,
    new_file: NewFile,
    read_blobs: Callable[[Collection[str]], Iterable[tuple[str, Iterable[bytes]]]],
    force: bool,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Do what the plan says; a file that changed since it was looked at is left alone.

    Args:
        plan: what to do.
        now: what the plan was made from.
        folder: the root of the working tree.
        new_file: gives a file of our own on the same file system, to be moved into place.
        read_blobs: gives id and pieces of many blobs, in any order.
        force: local changes may be destroyed.
        on_progress: called with the number of files written and their total.

    Raises:
        LocalChangesError: somebody changed a file meanwhile; some files are as in the target by now.
        StoreError: the disk is full, or refused.
        ObjectNotFoundError: the store does not have a blob.
    """
    with _folder_errors(folder.root):
        for path in plan.remove:
            _check_untouched(path, now, folder, force=force)
            folder.remove(path)
        for each in plan.drop_folders:
            folder.remove_empty_folder(each)
        for each in plan.make_folders:
            folder.make_folder(each)
        paths_of: dict[str, list[str]] = {}
        for path, blob in same_path_blobs(plan.write.items()):
            paths_of.setdefault(blob, []).append(path)
        done = 0
        for blob, pieces in read_blobs(paths_of):
            for path in paths_of[blob]:
                kind = kind_of(plan.write[path])
                with new_file() as temporary:
                    source = temporary
                    if kind == "symlink":
                        source = _make_link(temporary, b"".join(pieces))
                    else:
                        _fill(temporary, pieces, _mode_of(path, folder, kind))
                    _check_untouched(path, now, folder, force=force)
                    folder.place(path, source)
                done += 1
                if on_progress is not None:
                    on_progress(done, len(plan.write))


def _check_untouched(path: str, now: FolderContents, folder: SafeFolder, *, force: bool) -> None:
    if force:
        return
    status = folder.stat(path)
    expected = now.stamps.get(path)
    if status is not None and (expected is None or FileStamp.of(status) != expected):
        raise LocalChangesError([path])


def _make_link(temporary: Path, target: bytes) -> Path:
    link = temporary.with_suffix(LINK_SUFFIX)
    link.symlink_to(os.fsdecode(target))
    return link


def _fill(temporary: Path, pieces: Iterable[bytes], mode: int | None) -> None:
    with temporary.open("wb") as file:
        for piece in pieces:
            file.write(piece)
        if mode is None:
            return
        if mode < 0:
            allowed = os.fstat(file.fileno()).st_mode & 0o777
            mode = allowed | (allowed & 0o444) >> 2
        os.fchmod(file.fileno(), mode)


def _mode_of(path: str, folder: SafeFolder, kind: EntryKind) -> int | None:
    """The permissions for a file: those of the file that it replaces, the program bit as the snapshot says.

    Returns:
        ``None`` for those of any new file, -1 for those with the program bits added.
    """
    status = folder.stat(path)
    program = kind == "executable"
    if status is None or not stat.S_ISREG(status.st_mode):
        return -1 if program else None
    mode = status.st_mode & 0o777
    return mode | (mode & 0o444) >> 2 if program else mode & ~0o111


@contextmanager
def _folder_errors(root: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise StoreError(f"{root} and its store are not on one file system") from error
        raise StoreError(f"cannot write below {root}: {error.strerror or error!r}") from error
