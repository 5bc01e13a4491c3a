"""Which records and blobs a pack holds, from the commits that are to be sent.

Rule 1: the order of rows never matters. Rule 2: a snapshot is sent as a difference only to what the receiver has by then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from starfish_mpack_wire.negotiation import Delta
from starfish_mpack_wire.negotiation.messages import BlobFilter
from starfish_mpack_wire.pack.layout import MAX_SNAPSHOT_CHAIN
from starfish_mpack_wire.records import CommitRecord, SnapshotRecord
from starfish_mpack_wire.server.errors import BlobUnavailableError
from starfish_mpack_wire.server.history_rows import BlobPlace, HistoryRows, Manifest

__all__ = ("PackPlan", "plan_pack")

_REWRITTEN_AT_ONCE = 32
"""Whole snapshots that are in memory at once."""


@dataclass(frozen=True, slots=True)
class PackPlan:
    """What is written."""

    commits: Sequence[CommitRecord] = ()
    snapshots: Sequence[SnapshotRecord] = ()
    blob_ids: Collection[str] = ()
    places: dict[str, BlobPlace] = field(default_factory=dict[str, BlobPlace])
    """Of the blobs."""


async def plan_pack(
    history: HistoryRows,
    delta: Delta,
    *,
    blob_filter: BlobFilter | None = None,
    paths: Sequence[str] = (),
    max_boundary_snapshots: int,
) -> PackPlan:
    """Read what a delta needs.

    Raises:
        BlobUnavailableError: a blob has no row in the index.
        IncompleteHistoryError: a commit or snapshot has no row.
        DamagedHistoryError: a chain of snapshots has no end.
    """
    by_id = await history.commits(delta.commit_ids)
    commits = [by_id[each] for each in delta.commit_ids]
    boundary = await history.snapshots_of(delta.boundary)
    snapshots = await _snapshots(history, commits, boundary)
    wanted = _blobs(snapshots, paths)
    if wanted and boundary:
        held = sorted(set(boundary.values()))[:max_boundary_snapshots]
        for manifest in (await history.manifests(held)).values():
            wanted.difference_update(manifest.files.values())
    if blob_filter is not None and blob_filter.largest < 0:
        wanted.clear()
    places = await history.places(wanted)
    for object_id in wanted:
        if object_id not in places:
            raise BlobUnavailableError(object_id)
    if blob_filter is not None:
        wanted = {each for each in wanted if places[each].size_bytes <= blob_filter.largest}
    return PackPlan(commits, snapshots, wanted, {each: places[each] for each in wanted})


def _blobs(snapshots: Iterable[SnapshotRecord], paths: Sequence[str]) -> set[str]:
    if not paths:
        return {each for record in snapshots for each in record["upsert"].values()}
    below = tuple(f"{prefix}/" for prefix in paths)
    return {
        object_id
        for record in snapshots
        for path, object_id in record["upsert"].items()
        if path in paths or path.startswith(below)
    }


async def _snapshots(
    history: HistoryRows, commits: Sequence[CommitRecord], boundary: dict[str, str]
) -> list[SnapshotRecord]:
    """One record for each snapshot of the commits, each upon what comes before it."""
    stored = await history.snapshots({commit["snapshot_id"] for commit in commits})
    snapshot_of = boundary | {each["commit_id"]: each["snapshot_id"] for each in commits}
    length = dict.fromkeys(boundary.values(), 0)  # of the chain in this pack
    found: dict[str, SnapshotRecord] = {}
    others: dict[
        str, str | None
    ] = {}  # to be written otherwise than they are stored, and upon what
    for commit in commits:
        snapshot_id = commit["snapshot_id"]
        if snapshot_id in found:
            continue
        found[snapshot_id] = record = stored[snapshot_id]
        parent_id = record["parent_snapshot_id"]
        if not _can_be_upon(parent_id, length):
            # The stored difference is to what the receiver has not got, or after too many.
            parents = commit["parent_ids"]
            parent_id = snapshot_of.get(parents[0]) if parents else None
            if not _can_be_upon(parent_id, length):
                parent_id = None
            others[snapshot_id] = parent_id
        length[snapshot_id] = 1 if parent_id is None else length[parent_id] + 1
    waiting = list(others)
    for start in range(0, len(waiting), _REWRITTEN_AT_ONCE):
        part = waiting[start : start + _REWRITTEN_AT_ONCE]
        needed = {each for each in (*part, *(others[one] for one in part)) if each is not None}
        manifests = await history.manifests(needed)
        for each in part:
            found[each] = _difference(each, manifests[each], others[each], manifests)
    return list(found.values())


def _can_be_upon(parent_id: str | None, length: Mapping[str, int]) -> bool:
    return parent_id is None or length.get(parent_id, MAX_SNAPSHOT_CHAIN) < MAX_SNAPSHOT_CHAIN


def _difference(
    snapshot_id: str, to: Manifest, parent_id: str | None, manifests: Mapping[str, Manifest]
) -> SnapshotRecord:
    before = manifests[parent_id].files if parent_id is not None else {}
    return {
        "snapshot_id": snapshot_id,
        "parent_snapshot_id": parent_id,
        "upsert": {path: each for path, each in to.files.items() if before.get(path) != each},
        "remove": sorted(before.keys() - to.files.keys()),
        "directories": list(to.directories),
    }
