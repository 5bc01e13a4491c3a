"""Which records and blobs a pack holds, from the commits that are to be sent: one plan for stores and servers.

Rule 1: the order in which a history answers never matters. Rule 2: a snapshot is sent as a difference only to a
snapshot that the receiver can read by then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from starfish_mpack_wire._history.delta import Delta
from starfish_mpack_wire._history.reading import (
    Steps,
    chunk_lists,
    commit_records,
    manifests,
    snapshot_records,
    snapshots_of,
)
from starfish_mpack_wire._model.chunk_lists import chunk_ids
from starfish_mpack_wire._model.entries import blobs_in, same_path_blobs
from starfish_mpack_wire._model.manifest import difference_record
from starfish_mpack_wire._model.records import CommitRecord, SnapshotRecord
from starfish_mpack_wire._pack.layout import MAX_SNAPSHOT_CHAIN

__all__ = ("PackPlan", "SnapshotPlanner", "plan_chunks", "plan_pack")

_REWRITTEN_AT_ONCE = 32
"""Whole snapshots that are in memory at once."""


@dataclass(frozen=True, slots=True)
class PackPlan:
    """The contents of a pack, blobs by id only."""

    commits: Sequence[CommitRecord] = ()
    """Parents first."""
    snapshots: Sequence[SnapshotRecord] = ()
    blob_ids: Collection[str] = ()
    boundary: frozenset[str] = frozenset()
    """Commits that the receiver must hold."""
    held_blobs: frozenset[str] = frozenset()
    """Blobs that the receiver holds with all their chunks, as far as it is known."""


def plan_pack(
    delta: Delta,
    *,
    shallow: Collection[str] = (),
    paths: Sequence[str] = (),
    max_boundary_snapshots: int = 64,
) -> Steps[PackPlan]:
    """Choose what a receiver lacks who holds the boundary of a delta with all that it needs.

    Of large blobs the chunks are not among the blobs yet: see `plan_chunks`.

    Args:
        delta: the commits to send.
        shallow: commits whose parents this history lacks on purpose.
        paths: only blobs at or below these; all when empty.
        max_boundary_snapshots: snapshots of the boundary whose blobs are left out.

    Raises:
        IncompleteHistoryError: the history lacks a record.
    """
    by_id = yield from commit_records(delta.commit_ids)
    commits = [by_id[each] for each in delta.commit_ids]
    boundary = yield from snapshots_of(delta.boundary)
    planner = SnapshotPlanner(boundary)
    yield from planner.add(commits, shallow)
    wanted = _blobs(planner.records, paths)
    there: set[str] = set()
    if wanted and boundary:
        held = sorted(set(boundary.values()))[:max_boundary_snapshots]
        for manifest in (yield from manifests(held)).values():
            there.update(blobs_in(manifest.entries.values()))
        wanted -= there
    return PackPlan(commits, planner.records, wanted, delta.boundary, frozenset(there))


def plan_chunks(plan: PackPlan) -> Steps[PackPlan]:
    """Add the chunks of its large blobs to a plan, but for those that the receiver has in others.

    Args:
        plan: what `plan_pack` chose. Without ``held_blobs``, as for a receiver that left blobs out, all chunks are
            added.
    """
    lists = yield from chunk_lists(plan.blob_ids)
    if not lists:
        return plan
    held: set[str] = set()
    if plan.held_blobs:
        held = chunk_ids((yield from chunk_lists(plan.held_blobs))) | plan.held_blobs
    return replace(plan, blob_ids={*plan.blob_ids, *(chunk_ids(lists) - held)})


def _blobs(snapshots: Iterable[SnapshotRecord], paths: Sequence[str]) -> set[str]:
    if not paths:
        return {each for record in snapshots for each in blobs_in(record["upsert"].values())}
    below = tuple(f"{prefix}/" for prefix in paths)
    return {
        blob
        for record in snapshots
        for path, blob in same_path_blobs(record["upsert"].items())
        if path in paths or path.startswith(below)
    }


class SnapshotPlanner:
    """Chooses for each snapshot between the record that is stored and a new one.

    Args:
        held: snapshots that the receiver can read, by the commit that has them.
        compact: write as a difference also a snapshot that is stored whole.
    """

    def __init__(self, held: Mapping[str, str], *, compact: bool = False) -> None:
        self._compact = compact
        self._snapshot_of = dict(held)
        self._chains = dict.fromkeys(held.values(), 0)  # of differences in this pack
        self._found: dict[str, SnapshotRecord] = {}

    @property
    def records(self) -> list[SnapshotRecord]:
        """All that were chosen."""
        return list(self._found.values())

    def add(self, commits: Sequence[CommitRecord], shallow: Collection[str] = ()) -> Steps[None]:
        """Have the snapshots of commits, parents first, in the pack."""
        self._snapshot_of |= {each["commit_id"]: each["snapshot_id"] for each in commits}
        bases: dict[str, str | None] = {}
        for commit in commits:
            parents = () if commit["commit_id"] in shallow else commit["parent_ids"]
            base = self._snapshot_of.get(parents[0]) if parents else None
            bases.setdefault(commit["snapshot_id"], base)
        yield from self.add_snapshots(bases)

    def add_snapshots(self, bases: Mapping[str, str | None]) -> Steps[None]:
        """Have these snapshots in the pack, each best as a difference to its base."""
        new = [each for each in bases if each not in self._found and each not in self._chains]
        stored = yield from snapshot_records(new)
        others: dict[str, str | None] = {}  # written otherwise than they are stored, and upon what
        for snapshot_id in new:
            self._found[snapshot_id] = record = stored[snapshot_id]
            parent_id = record["parent_snapshot_id"]
            if parent_id is None and bases[snapshot_id] is not None:
                parent_id = self._better_than_whole(bases[snapshot_id])
                if parent_id is not None:
                    others[snapshot_id] = parent_id
            elif not self._can_be_upon(parent_id):
                # The stored difference is to a snapshot that the receiver lacks, or after too many.
                parent_id = bases[snapshot_id]
                if not self._can_be_upon(parent_id):
                    parent_id = None
                others[snapshot_id] = parent_id
            self._chains[snapshot_id] = 0 if parent_id is None else self._chains[parent_id] + 1
        waiting = list(others)
        for start in range(0, len(waiting), _REWRITTEN_AT_ONCE):
            part = waiting[start : start + _REWRITTEN_AT_ONCE]
            needed = {each for one in part for each in (one, others[one]) if each is not None}
            whole = yield from manifests(sorted(needed))
            for each in part:
                upon = others[each]
                before = whole[upon] if upon is not None else None
                self._found[each] = difference_record(each, whole[each], upon, before)

    def _can_be_upon(self, parent_id: str | None) -> bool:
        if parent_id is None:
            return True
        return self._chains.get(parent_id, MAX_SNAPSHOT_CHAIN) < MAX_SNAPSHOT_CHAIN - 1

    def _better_than_whole(self, base: str | None) -> str | None:
        """A snapshot that is stored whole is sent as a difference where a chain has room for one."""
        return base if self._compact and base is not None and self._can_be_upon(base) else None
