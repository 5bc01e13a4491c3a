"""New packs: from what the store holds, and from what a folder holds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from starfish_mpack_wire._history.delta import compute_delta
from starfish_mpack_wire._history.pack_plan import PackPlan, plan_chunks, plan_pack
from starfish_mpack_wire._history.reading import run
from starfish_mpack_wire._model.manifest import difference_record
from starfish_mpack_wire._model.records import CommitRecord, TagRecord
from starfish_mpack_wire._model.snapshot_tree import SnapshotTree
from starfish_mpack_wire._pack.blob_source import BlobSource
from starfish_mpack_wire._pack.layout import MAX_SNAPSHOT_CHAIN
from starfish_mpack_wire._pack.writer import write_mpack
from starfish_mpack_wire._store.pack_store import PackStore
from starfish_mpack_wire._store.refusals import refuse_as_store_error

__all__ = ("plan_for", "write_commit", "write_pack")


def plan_for(store: PackStore, want: Iterable[str], have: Iterable[str] = ()) -> PackPlan:
    """Choose the contents of a pack for a receiver that holds the commits ``have`` with all that they need.

    Raises:
        ObjectNotFoundError: a want is not in the store.
        IncompleteHistoryError: the store lacks a record.
    """
    history = store.history()
    delta = run(compute_delta(want, have), history)
    state = store.state()
    plan = run(plan_pack(delta, shallow=state.shallow), history)
    if plan.blob_ids and state.partial:
        # What a partial clone lacks is what the others have.
        needed = set(plan.blob_ids)
        plan = replace(plan, blob_ids=needed - store.missing("blob", needed))
    return run(plan_chunks(plan), history)


def write_pack(
    store: PackStore, plan: PackPlan, into: Path, *, tags: Mapping[str, str] | None = None
) -> str:
    """Write what a plan names into a file, without holding it in memory.

    Returns:
        The pack's id.

    Raises:
        ObjectNotFoundError: the store lacks a blob.
        StoreError: the disk is full.
    """
    named: list[TagRecord] = [
        {"name": name, "commit_id": commit} for name, commit in (tags or {}).items()
    ]
    with refuse_as_store_error("cannot write", into), into.open("wb") as file:
        written = write_mpack(file, plan.commits, plan.snapshots, plan.blob_ids, store, named)
    return written.mpack_id


def write_commit(
    store: PackStore,
    record: CommitRecord,
    tree: SnapshotTree,
    base: SnapshotTree | None,
    *,
    blobs: Collection[str],
    source: BlobSource,
) -> None:
    """Add one commit with its snapshot and the blobs that are new; on disk when this returns.

    Args:
        store: where to.
        record: the commit.
        tree: its snapshot.
        base: the snapshot of its first parent.
        blobs: ids of blobs that the snapshot names and the last one did not, and of the chunks of large ones.
        source: gives their bytes.

    Raises:
        StoreError: the disk is full.
    """
    with store.building_on(), store.incoming.new_file() as file:
        snapshots = []
        if store.missing("snapshot", [tree.snapshot_id]):
            row = store.catalogue.snapshot(base.snapshot_id) if base is not None else None
            chain = row.chain + 1 if row is not None else MAX_SNAPSHOT_CHAIN
            upon = base if base is not None and chain < MAX_SNAPSHOT_CHAIN else None
            snapshots = [
                difference_record(
                    tree.snapshot_id,
                    tree.flat(),
                    None if upon is None else upon.snapshot_id,
                    None if upon is None else upon.flat(),
                )
            ]
        new_blobs = store.missing("blob", blobs)
        with refuse_as_store_error("cannot write", file), file.open("wb") as out:
            written = write_mpack(out, [record], snapshots, new_blobs, source)
        store.adopt(file, written.mpack_id)
    store.keep_tree(tree)
