"""The store's history as decisions see it, and walks over it."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from heapq import heapify, heappop, heappush

from starfish_mpack_wire._history.commit_graph import CommitNode
from starfish_mpack_wire._model.chunk_lists import ChunkList
from starfish_mpack_wire._model.manifest import Manifest
from starfish_mpack_wire._model.records import CommitRecord, SnapshotRecord
from starfish_mpack_wire._store.catalogue import Catalogue, CommitRow
from starfish_mpack_wire._store.objects import StoredObjects
from starfish_mpack_wire.errors import IncompleteHistoryError, ObjectNotFoundError

__all__ = ("StoreHistory", "newest_first")

READ_AHEAD = 256


class StoreHistory:
    """A `History` over a store; shallow commits have no parents in it."""

    def __init__(self, objects: StoredObjects, shallow: Collection[str]) -> None:
        self._objects = objects
        self._catalogue = objects.catalogue
        self._shallow = frozenset(shallow)

    def generations_hold(self) -> bool:
        """They do: the store computes them itself."""
        return True

    def nodes(self, commit_ids: Collection[str], /) -> Mapping[str, CommitNode]:
        """Return the commits of these ids that are there."""
        return self._nodes_of(self._catalogue.commits(commit_ids))

    def nodes_below(self, generation: int, limit: int, /) -> Iterable[CommitNode]:
        """Read ahead."""
        return self._nodes_of(self._catalogue.commits_below(generation, limit)).values()

    def every_node(self) -> Mapping[str, CommitNode]:
        """Return all commits."""
        return self._nodes_of(self._catalogue.all_commits())

    def commit_records(self, commit_ids: Collection[str], /) -> Mapping[str, CommitRecord]:
        """Return the records of these commits."""
        with _as_incomplete("commit"):
            return {each["commit_id"]: each for each in self._objects.commits(commit_ids)}

    def snapshots_of(self, commit_ids: Collection[str], /) -> Mapping[str, str]:
        """Return the snapshot id of each of these commits."""
        rows = self._catalogue.commits(commit_ids)
        for each in commit_ids:
            if each not in rows:
                raise IncompleteHistoryError("commit", each, "a commit that builds on it")
        return {commit_id: row.snapshot_id for commit_id, row in rows.items()}

    def snapshot_records(self, snapshot_ids: Collection[str], /) -> Mapping[str, SnapshotRecord]:
        """Return the records of these snapshots."""
        with _as_incomplete("snapshot"):
            return {each["snapshot_id"]: each for each in self._objects.snapshots(snapshot_ids)}

    def manifests(self, snapshot_ids: Collection[str], /) -> Mapping[str, Manifest]:
        """Return these snapshots as a whole."""
        return {each: self._objects.manifest(each) for each in snapshot_ids}

    def chunk_lists(self, object_ids: Collection[str], /) -> Mapping[str, ChunkList]:
        """Return the chunks of those of the blobs that are large."""
        return self._objects.chunk_lists(object_ids)

    def _nodes_of(self, rows: Mapping[str, CommitRow]) -> dict[str, CommitNode]:
        return {
            commit_id: CommitNode(
                commit_id, () if commit_id in self._shallow else row.parent_ids, row.generation
            )
            for commit_id, row in rows.items()
        }


@contextmanager
def _as_incomplete(kind: str) -> Generator[None]:
    try:
        yield
    except ObjectNotFoundError as error:
        raise IncompleteHistoryError(kind, error.object_id, "a record that names it") from error


def newest_first(
    catalogue: Catalogue, tips: Iterable[str], shallow: Collection[str] = ()
) -> Iterator[CommitRow]:
    """All commits that can be reached, none after one of its ancestors; read as they are asked for.

    Raises:
        ObjectNotFoundError: one is missing that is not behind ``shallow``. A walk that went on without it would
            take its ancestors for unreachable.
    """
    tips = set(tips)
    read = catalogue.commits(tips)
    _refuse_holes(tips, read)
    queued = set(read)
    queue = [(-row.generation, row.commit_id) for row in read.values()]
    heapify(queue)
    while queue:
        negative, commit_id = heappop(queue)
        row = read.pop(commit_id)
        yield row
        if commit_id in shallow:
            continue
        parents = [parent for parent in row.parent_ids if parent not in queued]
        if any(parent not in read for parent in parents):
            ahead = catalogue.commits_below(-negative, READ_AHEAD)
            read.update((each, found) for each, found in ahead.items() if each not in queued)
            read.update(catalogue.commits([each for each in parents if each not in read]))
            _refuse_holes(parents, read)
        for parent in parents:
            queued.add(parent)
            heappush(queue, (-read[parent].generation, parent))


def _refuse_holes(commit_ids: Iterable[str], read: Collection[str]) -> None:
    for commit_id in commit_ids:
        if commit_id not in read:
            raise ObjectNotFoundError(commit_id)
