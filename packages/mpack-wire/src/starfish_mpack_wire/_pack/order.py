"""The one order of the contents of a pack, so that equal content gives equal bytes.

Rule: every function here depends on the set of records only, never on the order they come in.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping

from starfish_mpack_wire._model.chunk_lists import ChunkList
from starfish_mpack_wire._model.entries import blob_of
from starfish_mpack_wire._model.records import CommitRecord, SnapshotRecord
from starfish_mpack_wire._pack.layout import MAX_SNAPSHOT_CHAIN
from starfish_mpack_wire.errors import MPackFormatError

__all__ = ("check_chains", "order_blobs", "order_commits", "order_snapshots")


def order_commits(commits: Mapping[str, CommitRecord]) -> list[str]:
    """Give the ids parents first; of those that could be next the smallest id is.

    Raises:
        MPackFormatError: a commit is its own ancestor.
    """
    children: defaultdict[str, list[str]] = defaultdict(list)
    waiting: dict[str, int] = {}
    ready: list[str] = []
    for commit_id, record in commits.items():
        parents = [parent for parent in record["parent_ids"] if parent in commits]
        if parents:
            waiting[commit_id] = len(parents)
            for parent in parents:
                children[parent].append(commit_id)
        else:
            ready.append(commit_id)
    heapq.heapify(ready)
    ordered: list[str] = []
    while ready:
        commit_id = heapq.heappop(ready)
        ordered.append(commit_id)
        for child in children.get(commit_id, ()):
            waiting[child] -= 1
            if not waiting[child]:
                heapq.heappush(ready, child)
    if len(ordered) != len(commits):
        raise MPackFormatError("a commit is its own ancestor")
    return ordered


def order_snapshots(
    snapshots: Mapping[str, SnapshotRecord], commits: Iterable[CommitRecord]
) -> list[str]:
    """Give the ids in the order in which the commits use them, then the rest by id; parents first.

    So the versions of a file come in the order in which they were made, whatever the chains.

    Raises:
        MPackFormatError: a snapshot is its own ancestor.
    """
    ordered: dict[str, None] = {}
    wanted = [record["snapshot_id"] for record in commits]
    for start in (*wanted, *sorted(snapshots)):
        chain: dict[str, None] = {}
        here: str | None = start
        while here is not None and here in snapshots and here not in ordered:
            if here in chain:
                raise MPackFormatError(f"snapshot {here} is its own ancestor")
            chain[here] = None
            here = snapshots[here]["parent_snapshot_id"]
        ordered.update(dict.fromkeys(reversed(chain)))
    return list(ordered)


def check_chains(snapshots: Iterable[SnapshotRecord]) -> None:
    """Return if no snapshot needs more than `MAX_SNAPSHOT_CHAIN` records; parents come first.

    Raises:
        MPackFormatError: one does.
    """
    depths: dict[str, int] = {}
    for snapshot in snapshots:
        depth = depths.get(snapshot["parent_snapshot_id"] or "", 0) + 1
        if depth > MAX_SNAPSHOT_CHAIN:
            raise MPackFormatError(
                f"{snapshot['snapshot_id']} is behind {depth - 1} other snapshots; "
                f"at most {MAX_SNAPSHOT_CHAIN - 1} are accepted"
            )
        depths[snapshot["snapshot_id"]] = depth


def order_blobs(
    blob_ids: Iterable[str],
    snapshots: Iterable[SnapshotRecord],
    lists: Mapping[str, ChunkList],
) -> list[str]:
    """Give the ids in the order in which blobs are stored: path by path, the versions of one file.

    A blob belongs to the first path that names it; what no snapshot names comes last, by id. Chunks stand where
    their large blob would.

    Args:
        blob_ids: the stored ones.
        snapshots: in their order.
        lists: the chunks of the large ones.
    """
    unplaced = set(blob_ids)
    large = set(lists)
    versions: defaultdict[str, list[str]] = defaultdict(list)

    def place(object_id: str, path: str) -> None:
        if object_id in unplaced:
            unplaced.remove(object_id)
            versions[path].append(object_id)
        elif object_id in large:
            large.remove(object_id)
            for chunk in lists[object_id]:
                place(chunk.object_id, path)

    for record in snapshots:
        upsert = record["upsert"]
        for path in sorted(upsert):
            object_id = blob_of(upsert[path])
            if object_id is not None:
                place(object_id, path)
    ordered = [object_id for path in sorted(versions) for object_id in versions[path]]
    versions.clear()
    for object_id in sorted(large):
        place(object_id, "")
    return ordered + versions[""] + sorted(unplaced)
