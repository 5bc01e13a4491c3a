"""``repack`` and ``gc``: put packs together, drop objects that nothing leads to.

The age of an object is the file time of the pack that brought it. Rule: objects that branches or tags lead to
may go into a pack with a new file time; objects that nothing leads to never do, so that no run of either command,
however often it comes, makes garbage younger than it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from starfish_mpack_wire._history.delta import topological_order
from starfish_mpack_wire._history.pack_plan import SnapshotPlanner
from starfish_mpack_wire._history.reading import run
from starfish_mpack_wire._model.records import CommitRecord
from starfish_mpack_wire._pack.writer import write_mpack
from starfish_mpack_wire._store.pack_store import PackStore
from starfish_mpack_wire._store.reachable import PackPart, find_reachable
from starfish_mpack_wire._store.refusals import refuse_as_store_error
from starfish_protocol.clock import Clock, SystemClock

__all__ = (
    "DEFAULT_GRACE_MS",
    "RepackReport",
    "collect_garbage",
    "packs_to_join",
    "repack_store",
)

DEFAULT_GRACE_MS = 14 * 86_400_000
LEFTOVER_STEP_NS = 60_000_000_000
"""Garbage that came within a minute of each other may share a pack."""
GEOMETRIC_FACTOR = 2

_Split = Callable[[PackPart], tuple[PackPart, PackPart]]


@dataclass(frozen=True, slots=True)
class RepackReport:
    """Packs and bytes before and after."""

    packs_before: int
    bytes_before: int
    packs_after: int
    bytes_after: int


def packs_to_join(sizes: Collection[int]) -> int:
    """Return how many of the smallest packs to join, so that each one left is twice all smaller ones.

    Joined like that, an object is written again once for each doubling of the store.

    Examples:
        >>> packs_to_join([100, 40, 3]), packs_to_join([100, 3, 2]), packs_to_join([4, 4, 4])
        (0, 2, 3)
    """
    ordered = sorted(sizes)
    smaller, count = 0, 0
    for number, size in enumerate(ordered):
        if number and size < GEOMETRIC_FACTOR * smaller:
            count = number + 1
        smaller += size
    return count


def repack_store(store: PackStore, *, everything: bool = True) -> RepackReport:
    """See `LocalStore.repack`."""
    with store.maintaining():
        store.refresh()
        names = store.packs.ids()
        before = _Sizes.of(store)
        if everything:
            chosen = set(names)
        else:
            by_size = sorted(names, key=lambda name: (before.sizes[name], name))
            chosen = set(by_size[: packs_to_join(list(before.sizes.values()))])
        if len(chosen) > 1 or (everything and chosen):
            reachable = find_reachable(store, store.state().refs.values())
            _rewrite(store, chosen, reachable.split, drop_rest=False)
        return before.report(store)


def collect_garbage(
    store: PackStore, *, grace_ms: int = DEFAULT_GRACE_MS, clock: Clock | None = None
) -> RepackReport:
    """See `LocalStore.gc`."""
    store.incoming.sweep()
    with store.maintaining():
        store.refresh()
        before = _Sizes.of(store)
        now_ms = (clock or SystemClock()).now_ms()
        old: set[str] = set()
        young = PackPart()
        for name in store.packs.ids():
            if now_ms - _came_in_ns(store, name) // 1_000_000 < grace_ms:
                young |= PackPart.all_of(store.packs.open(name))
            else:
                old.add(name)
        if old:
            reachable = find_reachable(store, store.state().refs.values(), young)
            parts = {name: PackPart.all_of(store.packs.open(name)) for name in old}
            dirty = {name for name, part in parts.items() if reachable.split(part)[1]}
            if dirty:
                _rewrite(store, dirty, reachable.split, drop_rest=True)
        return before.report(store)


def _came_in_ns(store: PackStore, mpack_id: str) -> int:
    path = store.packs.path_of(mpack_id)
    with refuse_as_store_error("cannot read", path):
        return path.stat().st_mtime_ns


def _rewrite(
    store: PackStore,
    names: set[str],
    split: _Split,
    *,
    drop_rest: bool,
) -> None:
    """Write the objects of these packs anew: one pack of what stays, older ones of the rest."""
    stays = PackPart()
    rest: dict[int, PackPart] = {}
    times: dict[int, int] = {}
    for name in names:
        kept, garbage = split(PackPart.all_of(store.packs.open(name)))
        stays |= kept
        if garbage and not drop_rest:
            came_in = _came_in_ns(store, name)
            step = came_in // LEFTOVER_STEP_NS
            rest[step] = rest.get(step, PackPart()) | garbage
            times[step] = max(times.get(step, 0), came_in)
    written = {_write(store, stays, None)} if stays else set[str]()
    for step, part in rest.items():
        written.add(_write(store, part - stays, times[step]))
    store.packs.remove(names - written)
    store.refresh()


def _write(store: PackStore, part: PackPart, came_in_ns: int | None) -> str:
    """Write some objects into a pack of their own, as old as ``came_in_ns`` says."""
    history = store.history()
    records = history.commit_records(part.commits)
    order = topological_order(history.nodes(part.commits))
    planner = SnapshotPlanner(_snapshots_outside(store, records.values(), part), compact=True)
    commits = [records[each] for each in order]
    with_snapshot = [each for each in commits if each["snapshot_id"] in part.snapshots]
    run(planner.add(with_snapshot, store.state().shallow), history)
    run(planner.add_snapshots(dict.fromkeys(sorted(part.snapshots))), history)
    with store.incoming.new_file() as file:
        with refuse_as_store_error("cannot write", file), file.open("wb") as out:
            written = write_mpack(out, commits, planner.records, part.blobs, store)
        if came_in_ns is not None:
            os.utime(file, ns=(came_in_ns, came_in_ns))
        store.adopt(file, written.mpack_id)
    return written.mpack_id


def _snapshots_outside(
    store: PackStore, commits: Iterable[CommitRecord], part: PackPart
) -> dict[str, str]:
    """Snapshots of parents that are in another pack: differences may be to these."""
    parents = {parent for each in commits for parent in each["parent_ids"]} - part.commits
    rows = store.catalogue.commits(parents)
    return {
        each: row.snapshot_id for each, row in rows.items() if row.snapshot_id not in part.snapshots
    }


@dataclass(frozen=True, slots=True)
class _Sizes:
    """The packs of a store, each with its bytes."""

    sizes: dict[str, int]

    @classmethod
    def of(cls, store: PackStore) -> _Sizes:
        return cls({name: store.packs.path_of(name).stat().st_size for name in store.packs.ids()})

    def report(self, store: PackStore) -> RepackReport:
        after = _Sizes.of(store).sizes.values()
        before = self.sizes.values()
        return RepackReport(len(before), sum(before), len(after), sum(after))
