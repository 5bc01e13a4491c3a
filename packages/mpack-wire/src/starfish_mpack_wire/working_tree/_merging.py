"""Merges: two commits made one in the folder, conflicts as files beside each other, until ``commit`` records it.

A file in the store says that a merge is on its way, from before the first file of the folder is touched. A crash on
the way leaves a merge that can be gone on with, or given up.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from starfish_mpack_wire._model.entries import Entry, id_of, kind_of
from starfish_mpack_wire._model.manifest import Manifest
from starfish_mpack_wire._model.object_ids import blob_id, is_object_id
from starfish_mpack_wire._model.three_way import MergeConflict, merge_entries, merge_texts
from starfish_mpack_wire._pack.cutting import is_large
from starfish_mpack_wire._store.durable import refuse_as_store_error, write_atomically
from starfish_mpack_wire._store.local_store import LocalStore
from starfish_mpack_wire.errors import StoreError

__all__ = (
    "MergePlan",
    "MergeResult",
    "MergeState",
    "blobs_with",
    "common_ancestor",
    "plan_merge",
)

_FILE = "merge.json"


@dataclass(frozen=True, slots=True)
class MergeResult:
    """How a merge ended."""

    kind: str
    """``nothing`` where all was there, ``forward`` where the branch only moved, ``merged``, or ``conflicts``."""
    commit_id: str | None
    """Where the branch is now; with conflicts, where it was."""
    conflicts: tuple[str, ...] = ()
    """Paths that both sides changed, sorted."""
    files: tuple[str, ...] = ()
    """Files beside them that hold the other sides: to be looked at and removed before ``commit``."""


@dataclass(frozen=True, slots=True)
class MergeState:
    """A merge on its way."""

    theirs: str
    """The commit that is merged in."""
    message: str
    files: tuple[str, ...]
    """Those that hold the other sides of conflicts."""

    @classmethod
    def read(cls, store: LocalStore) -> MergeState | None:
        """Return the merge on its way; ``None`` without one.

        Raises:
            StoreError: the file is damaged.
        """
        path = store.path / _FILE
        with refuse_as_store_error("cannot read", path):
            try:
                document = cast("dict[str, Any]", json.loads(path.read_bytes()))
                found = cls(
                    str(document["theirs"]), str(document["message"]), tuple(document["files"])
                )
            except FileNotFoundError:
                return None
            except (ValueError, KeyError, TypeError) as error:
                raise StoreError(f"{path} is damaged: {error}") from error
        if not is_object_id(found.theirs):
            raise StoreError(f"{path} is damaged: theirs is not an id")
        return found

    def write(self, store: LocalStore) -> None:
        """Say that a merge is on its way; on disk when this returns.

        Raises:
            StoreError: the disk is full.
        """
        document = {"theirs": self.theirs, "message": self.message, "files": list(self.files)}
        write_atomically(store.path / _FILE, json.dumps(document).encode())

    @staticmethod
    def clear(store: LocalStore) -> None:
        """Forget the merge on its way."""
        path = store.path / _FILE
        with refuse_as_store_error("cannot remove", path):
            path.unlink(missing_ok=True)


@dataclass(slots=True)
class MergePlan:
    """The files of a merge."""

    target: Manifest
    contents: dict[str, bytes] = field(default_factory=dict[str, bytes])
    """Blobs that are in no pack: merged texts."""
    conflicts: tuple[MergeConflict, ...] = ()
    files: tuple[str, ...] = ()


def common_ancestor(store: LocalStore, ours: str, theirs: str) -> str | None:
    """Return the newest commit that both build on; ``None`` where they have none.

    After a criss-cross there are several; the one that is highest in the graph is taken.
    """
    known = {row.commit_id for row in store.log([ours])}
    return next((row.commit_id for row in store.log([theirs]) if row.commit_id in known), None)


def plan_merge(store: LocalStore, base: str | None, ours: str, theirs: str) -> MergePlan:
    """Work out the files that a merge gives; nothing is written.

    Raises:
        ObjectNotFoundError: the store lacks a commit or a blob.
    """
    was, own, other = (store.tree_of(each) for each in (base, ours, theirs))
    contents: dict[str, bytes] = {}

    def merge_blobs(*blobs: str) -> str | None:
        if any(is_large(store.blob_length(each)) for each in blobs):
            return None
        one, two, three = (store.blob(each) for each in blobs)
        merged = merge_texts(one, two, three)
        if merged is None or is_large(len(merged)):
            return None
        contents[blob_id(merged)] = merged
        return blob_id(merged)

    found = merge_entries(was.manifest, own.manifest, other.manifest, merge_blobs)
    entries = dict(found.entries)
    files: list[str] = []
    for conflict in found.conflicts:
        for word, entry in (("base", conflict.base), ("theirs", conflict.theirs)):
            if entry is not None and kind_of(entry) != "gitlink":
                path = _free_path(conflict.path, word, entries)
                entries[path] = id_of(entry) if kind_of(entry) == "symlink" else entry
                files.append(path)
    folders = {above for path in entries for above in _folders_above(path)}
    directories = {
        path
        for path in {*own.directories, *other.directories}
        if path not in folders
        and path not in entries
        and not any(above in entries for above in _folders_above(path))
        and (path in own.directories) + (path in other.directories) > (path in was.directories)
    }
    directories = {
        path for path in directories if not any(each.startswith(f"{path}/") for each in directories)
    }
    return MergePlan(
        Manifest(entries, frozenset(directories)), contents, found.conflicts, tuple(files)
    )


def _free_path(path: str, word: str, entries: Mapping[str, Entry]) -> str:
    if any(above in entries for above in _folders_above(path)):
        path = path.replace("/", "~")
    path = f"{path}~{word}"
    while path in entries or any(each.startswith(f"{path}/") for each in entries):
        path += "~"
    return path


def _folders_above(path: str) -> Iterator[str]:
    above = path.rpartition("/")[0]
    while above:
        yield above
        above = above.rpartition("/")[0]


def blobs_with(
    store: LocalStore, given: Mapping[str, bytes], object_ids: Collection[str]
) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Return id and pieces of blobs of which some are in no pack."""
    yield from store.blobs([each for each in object_ids if each not in given])
    for each in object_ids:
        if each in given:
            yield each, (given[each],)
