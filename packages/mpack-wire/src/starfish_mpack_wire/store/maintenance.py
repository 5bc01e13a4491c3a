"""``verify``, ``repack``, ``gc``: look at everything, put packs together, drop what nothing leads to."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

from starfish_mpack_wire.errors import MPackError, ObjectNotFoundError
from starfish_mpack_wire.negotiation.delta import topological_order
from starfish_mpack_wire.pack.reader import MPackReader
from starfish_mpack_wire.pack.writer import write_mpack
from starfish_mpack_wire.store.durable import refuse_as_store_error
from starfish_mpack_wire.store.history import run_at_once
from starfish_mpack_wire.store.pack_plan import SnapshotPlanner
from starfish_mpack_wire.store.pack_store import PackStore
from starfish_protocol.clock import Clock, SystemClock

__all__ = (
    "DEFAULT_GRACE_MS",
    "RepackReport",
    "VerifyReport",
    "collect_garbage",
    "repack_store",
    "verify_store",
)

DEFAULT_GRACE_MS = 14 * 86_400_000


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was looked at, and what is wrong."""

    packs: int
    commits: int
    snapshots: int
    blobs: int
    problems: tuple[str, ...]
    """One sentence each; none when all is well."""


@dataclass(frozen=True, slots=True)
class RepackReport:
    """Packs and bytes before and after."""

    packs_before: int
    bytes_before: int
    packs_after: int
    bytes_after: int


def verify_store(store: PackStore) -> VerifyReport:
    """See `LocalStore.verify`."""
    store.refresh()
    problems: list[str] = []
    ids = sorted(store.packs.ids())
    for mpack_id in ids:
        try:
            path = store.packs.path_of(mpack_id)
            with refuse_as_store_error("cannot read", path), path.open("rb") as file:
                actual = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
            if actual != mpack_id:
                problems.append(f"the pack {mpack_id} has the hash {actual}")
            with MPackReader(path, limits=store.limits) as reader:
                reader.verify()
        except MPackError as error:
            problems.append(f"the pack {mpack_id}: {error}")
    problems += _problems_of_snapshots(store)
    problems += _problems_of_history(store)
    return VerifyReport(
        packs=len(ids),
        commits=store.catalogue.count("commit"),
        snapshots=store.catalogue.count("snapshot"),
        blobs=store.catalogue.count("blob"),
        problems=tuple(problems),
    )


def _problems_of_snapshots(store: PackStore) -> list[str]:
    problems: list[str] = []
    partial = store.state().partial
    for snapshot_id in store.catalogue.ids("snapshot"):
        try:
            record = store.snapshot_record(snapshot_id)
            actual = store.snapshot_tree(snapshot_id).snapshot_id
            if actual != snapshot_id:
                problems.append(f"the snapshot {snapshot_id} has the id {actual}")
            missing = (
                set[str]() if partial else store.missing("blob", set(record["upsert"].values()))
            )
            problems += [
                f"the blob {each} of the snapshot {snapshot_id} is missing" for each in missing
            ]
        except MPackError as error:
            problems.append(f"the snapshot {snapshot_id}: {error}")
    return problems


def _problems_of_history(store: PackStore) -> list[str]:
    problems: list[str] = []
    state = store.state()
    rows = store.catalogue.all_commits()
    snapshots = store.missing("snapshot", {row.snapshot_id for row in rows.values()})
    for row in rows.values():
        if row.snapshot_id in snapshots:
            problems.append(f"the snapshot {row.snapshot_id} of {row.commit_id} is missing")
        if row.commit_id not in state.shallow:
            problems += [
                f"the parent {parent} of {row.commit_id} is missing"
                for parent in row.parent_ids
                if parent not in rows
            ]
    problems += [
        f"{name} is at {commit_id}, which is missing"
        for name, commit_id in state.refs.items()
        if commit_id not in rows
    ]
    return problems


def repack_store(store: PackStore) -> RepackReport:
    """See `LocalStore.repack`."""
    with store.maintaining():
        store.refresh()
        return _rewrite(
            store,
            store.catalogue.ids("commit"),
            store.catalogue.ids("snapshot"),
            store.catalogue.ids("blob"),
        )


def collect_garbage(
    store: PackStore, *, grace_ms: int = DEFAULT_GRACE_MS, clock: Clock | None = None
) -> RepackReport:
    """See `LocalStore.gc`."""
    store.incoming.sweep()
    with store.maintaining():
        store.refresh()
        now_ms = (clock or SystemClock()).now_ms()
        tips = set(store.state().refs.values())
        snapshots: set[str] = set()
        blobs: set[str] = set()
        for mpack_id in store.packs.ids():
            if now_ms - _came_in_ms(store, mpack_id) < grace_ms:
                reader = store.packs.open(mpack_id)
                tips.update(reader.commit_ids())
                snapshots.update(record["snapshot_id"] for record in reader.snapshots())
                blobs.update(reader.blob_ids())
        return _rewrite(store, [row.commit_id for row in store.log(tips)], snapshots, blobs)


def _came_in_ms(store: PackStore, mpack_id: str) -> int:
    path = store.packs.path_of(mpack_id)
    with refuse_as_store_error("cannot read", path):
        return path.stat().st_mtime_ns // 1_000_000


def _rewrite(
    store: PackStore,
    commit_ids: Collection[str],
    snapshot_ids: Collection[str],
    blob_ids: Collection[str],
) -> RepackReport:
    """Write these, and what they need, into one pack, and remove all that were there."""
    old = store.packs.ids()
    before = _bytes_of(store, old)
    if not old:
        return RepackReport(0, 0, 0, 0)
    nodes = run_at_once(store.graph().nodes(commit_ids))
    planner = SnapshotPlanner(store)
    commits = [store.commit(commit_id) for commit_id in topological_order(nodes)]
    for commit in commits:
        planner.add(commit["snapshot_id"], _base_of(store, commit["parent_ids"]))
    for snapshot_id in snapshot_ids:
        planner.add(snapshot_id, None)
    needed = planner.blobs | set(blob_ids)
    needed -= store.missing("blob", needed)
    with store.incoming.new_file() as file:
        with refuse_as_store_error("cannot write", file), file.open("wb") as out:
            written = write_mpack(out, commits, planner.records, needed, store)
        store.adopt(file, written.mpack_id)
    store.packs.remove(old - {written.mpack_id})
    store.refresh()
    after = store.packs.ids()
    return RepackReport(len(old), before, len(after), _bytes_of(store, after))


def _base_of(store: PackStore, parent_ids: Collection[str]) -> str | None:
    for parent in parent_ids:
        try:
            return store.commit(parent)["snapshot_id"]
        except ObjectNotFoundError:
            return None
    return None


def _bytes_of(store: PackStore, mpack_ids: Collection[str]) -> int:
    return sum(store.packs.path_of(each).stat().st_size for each in mpack_ids)
