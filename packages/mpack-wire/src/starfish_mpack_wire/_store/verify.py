"""``verify``: read a store again, each byte once, and compare everything with its id."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from starfish_mpack_wire._model.chunk_lists import ChunkList, checked_pieces
from starfish_mpack_wire._model.entries import blobs_in
from starfish_mpack_wire._model.records import SnapshotRecord
from starfish_mpack_wire._model.snapshot_tree import SnapshotTree
from starfish_mpack_wire._pack.reader import MPackReader
from starfish_mpack_wire._store.pack_store import PackStore
from starfish_mpack_wire._store.refusals import refuse_as_store_error
from starfish_mpack_wire._store.tree_builder import TreeBuilder
from starfish_mpack_wire.errors import MPackError

__all__ = ("VerifyReport", "verify_store")


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """How much was looked at, and the damage that was found."""

    packs: int
    commits: int
    snapshots: int
    blobs: int
    problems: tuple[str, ...]
    """One sentence each; none when all is well."""


def verify_store(store: PackStore) -> VerifyReport:
    """See `LocalStore.verify`."""
    store.refresh()
    problems: list[str] = []
    names = sorted(store.packs.ids())
    records: list[SnapshotRecord] = []
    blobs: set[str] = set()
    lists: dict[str, ChunkList] = {}
    for mpack_id in names:
        try:
            path = store.packs.path_of(mpack_id)
            with refuse_as_store_error("cannot read", path), path.open("rb") as file:
                actual = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
            if actual != mpack_id:
                problems.append(f"the pack {mpack_id} has the hash {actual}")
            with MPackReader(path, limits=store.limits) as reader:
                records += reader.verified_records()[1]
                blobs.update(reader.blob_ids())
                lists |= reader.chunk_lists()
        except MPackError as error:
            problems.append(f"the pack {mpack_id}: {error}")
    problems += _problems_of_large_blobs(store, lists)
    problems += _problems_of_snapshots(store, records, blobs)
    problems += _problems_of_history(store)
    return VerifyReport(
        packs=len(names),
        commits=store.catalogue.count("commit"),
        snapshots=store.catalogue.count("snapshot"),
        blobs=store.catalogue.count("blob"),
        problems=tuple(problems),
    )


def _problems_of_large_blobs(store: PackStore, lists: dict[str, ChunkList]) -> Iterator[str]:
    """Those whose chunks are in several packs: the others were compared with their packs."""
    for object_id, chunks in lists.items():
        name = store.catalogue.pack_of("chunked", object_id)
        try:
            if name is not None and store.packs.open(name).is_whole(object_id):
                continue
            for _ in checked_pieces(object_id, chunks, store.blob):
                pass
        except MPackError as error:
            yield f"the blob {object_id}: {error}"


def _problems_of_snapshots(
    store: PackStore, records: list[SnapshotRecord], blobs: set[str]
) -> Iterator[str]:
    partial = store.state().partial
    whole: list[SnapshotRecord] = []
    upon: defaultdict[str, list[SnapshotRecord]] = defaultdict(list)
    for record in records:
        parent = record["parent_snapshot_id"]
        (whole if parent is None else upon[parent]).append(record)
        if not partial:
            for blob in set(blobs_in(record["upsert"].values())) - blobs:
                yield f"the blob {blob} of the snapshot {record['snapshot_id']} is missing"
    builder = TreeBuilder()
    good: set[str] = set()
    stack: list[tuple[SnapshotRecord, SnapshotTree | None]] = [(each, None) for each in whole]
    stack.reverse()
    while stack:
        record, base = stack.pop()
        snapshot_id = record["snapshot_id"]
        try:
            tree = builder.tree_of(record, base)
        except MPackError as error:
            yield f"the snapshot {snapshot_id}: {error}"
            continue
        if tree.snapshot_id != snapshot_id:
            yield f"the snapshot {snapshot_id} has the id {tree.snapshot_id}"
            continue
        good.add(snapshot_id)
        stack += [(each, tree) for each in reversed(upon.pop(snapshot_id, []))]
    for snapshot_id in store.catalogue.ids("snapshot"):
        if snapshot_id not in good:
            yield f"the snapshot {snapshot_id} cannot be rebuilt from the packs"
    named = {each["snapshot_id"] for some in upon.values() for each in some}
    for snapshot_id in sorted(named - good - set(store.catalogue.ids("snapshot"))):
        yield f"the snapshot {snapshot_id} is a difference to one that is missing"


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
