"""The one order of what is in a pack, so that equal content gives equal bytes.

Rule: every function here depends on the set of records only, never on the order they come in.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from starfish_mpack_wire.errors import MPackFormatError
from starfish_mpack_wire.records import CommitRecord, SnapshotRecord

__all__ = ("order_blobs", "order_commits", "order_snapshots")


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


def order_blobs(
    blob_ids: Sequence[str], snapshots: Iterable[SnapshotRecord]
) -> list[tuple[str, str | None]]:
    """Give the ids in the order in which blobs are stored, each with the one that may be its base.

    The versions of a file follow each other, each upon the one before it; a blob belongs to the
    first path that names it. What no snapshot names comes last.
    """
    unplaced = set(blob_ids)
    versions: defaultdict[str, list[str]] = defaultdict(list)
    for record in snapshots:
        upsert = record["upsert"]
        for path in sorted(upsert) if len(upsert) > 1 else upsert:
            object_id = upsert[path]
            if object_id in unplaced:
                unplaced.remove(object_id)
                versions[path].append(object_id)
    ordered: list[tuple[str, str | None]] = []
    for path in sorted(versions):
        base: str | None = None
        for object_id in versions[path]:
            ordered.append((object_id, base))
            base = object_id
    ordered += [(object_id, None) for object_id in sorted(unplaced)]
    return ordered
