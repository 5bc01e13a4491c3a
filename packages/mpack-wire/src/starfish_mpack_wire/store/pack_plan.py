"""What goes into a pack for somebody who holds some commits: a push, a bundle, a store put together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from starfish_mpack_wire.negotiation.delta import compute_delta
from starfish_mpack_wire.pack.layout import MAX_SNAPSHOT_CHAIN
from starfish_mpack_wire.records import CommitRecord, SnapshotRecord
from starfish_mpack_wire.snapshot_tree import SnapshotTree
from starfish_mpack_wire.store.history import run_at_once
from starfish_mpack_wire.store.pack_store import PackStore

__all__ = ("PackPlan", "SnapshotPlanner", "difference_record", "plan_pack")


@dataclass(frozen=True, slots=True)
class PackPlan:
    """The contents of a pack, blobs by id only."""

    commits: list[CommitRecord]
    """Parents first."""
    snapshots: list[SnapshotRecord]
    blob_ids: list[str]
    """Sorted."""
    boundary: frozenset[str]
    """Commits that the receiver must hold."""


def plan_pack(store: PackStore, want: Iterable[str], have: Iterable[str] = ()) -> PackPlan:
    """Choose what somebody lacks who holds the commits ``have`` with all that they need.

    Raises:
        ObjectNotFoundError: a want is not in the store.
    """
    delta = run_at_once(compute_delta(store.graph(), want, have))
    shallow = store.state().shallow
    commits = [store.commit(commit_id) for commit_id in delta.commit_ids]
    planner = SnapshotPlanner(store)
    for commit_id in delta.boundary:
        planner.held.add(store.commit(commit_id)["snapshot_id"])
    boundary_snapshots = frozenset(planner.held)
    for commit in commits:
        parents = [] if commit["commit_id"] in shallow else commit["parent_ids"]
        base = store.commit(parents[0])["snapshot_id"] if parents else None
        planner.add(commit["snapshot_id"], base)
    needed = planner.blobs
    for snapshot in boundary_snapshots:
        if needed:
            needed.difference_update(blob for _, blob in store.snapshot_tree(snapshot).files())
    if needed and store.state().partial:
        # What a partial clone lacks is what the others have.
        needed -= store.missing("blob", needed)
    return PackPlan(commits, planner.records, sorted(needed), delta.boundary)


class SnapshotPlanner:
    """Chooses for each snapshot between the record that is stored and a new one."""

    def __init__(self, store: PackStore) -> None:
        self._store = store
        self._chains: dict[str, int] = {}
        self.records: list[SnapshotRecord] = []
        self.held: set[str] = set()
        """Snapshots that the receiver can read."""
        self.blobs: set[str] = set()
        """What the snapshots name and those that they are a difference to do not."""

    def add(self, snapshot_id: str, base: str | None) -> None:
        """Have a snapshot in the pack, best as a difference to ``base``."""
        if snapshot_id in self.held:
            return
        self.held.add(snapshot_id)
        chain = self._chains.get(base, 0) + 1 if base is not None else 0
        record = self._store.snapshot_record(snapshot_id)
        if chain < MAX_SNAPSHOT_CHAIN and record["parent_snapshot_id"] == base:
            self.blobs.update(record["upsert"].values())
        else:
            tree = self._store.snapshot_tree(snapshot_id)
            before = SnapshotTree.empty() if base is None else self._store.snapshot_tree(base)
            record = difference_record(tree, before if base is not None else None)
            self.blobs.update(record["upsert"].values())
            if chain >= MAX_SNAPSHOT_CHAIN:
                chain, record = 0, difference_record(tree, None)
        self._chains[snapshot_id] = chain
        self.records.append(record)


def difference_record(tree: SnapshotTree, base: SnapshotTree | None) -> SnapshotRecord:
    """The record of a snapshot as a difference to another, or to nothing.

    Examples:
        >>> from starfish_mpack_wire.object_ids import blob_id
        >>> old = SnapshotTree.empty().apply({"a": blob_id(b"1"), "b": blob_id(b"2")})
        >>> new = old.apply({"c": blob_id(b"3")}, ["a"])
        >>> record = difference_record(new, old)
        >>> list(record["upsert"]), record["remove"]
        (['c'], ['a'])
    """
    now = tree.manifest
    before = {} if base is None else base.manifest
    return {
        "snapshot_id": tree.snapshot_id,
        "parent_snapshot_id": None if base is None else base.snapshot_id,
        "upsert": {path: blob for path, blob in now.items() if before.get(path) != blob},
        "remove": [path for path in before if path not in now],
        "directories": list(tree.directories),
    }
