"""Whether the records of a pack are what their ids say, and whether all that they name is there.

The seal over the bytes was checked before; this is about the contents. Trees of snapshots share the
folders that they have in common, so the cost is that of the changes.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

from starfish_mpack_wire._model.chunk_lists import checked_pieces, chunk_ids
from starfish_mpack_wire._model.entries import blobs_in
from starfish_mpack_wire._model.records import CommitRecord, SnapshotRecord
from starfish_mpack_wire._model.snapshot_tree import SnapshotTree
from starfish_mpack_wire._pack.reader import MPackReader
from starfish_mpack_wire._store.catalogue import ObjectKind
from starfish_mpack_wire._store.pack_store import PackStore
from starfish_mpack_wire._store.tree_builder import TreeBuilder
from starfish_mpack_wire.errors import (
    IncompleteHistoryError,
    MPackError,
    MPackFormatError,
    MPackIntegrityError,
    ObjectNotFoundError,
)

__all__ = ("PackVerification", "RejectedRecord")

TREES_HANDED_ON = 16


@dataclass(frozen=True, slots=True)
class RejectedRecord:
    """A record that was left out."""

    kind: ObjectKind
    object_id: str
    """The id that it claims to have."""
    reason: str


class PackVerification:
    """One pack on its way into a store.

    Args:
        store: what the pack may build on.
        reader: the pack.
        strict: raise at the first bad record; otherwise leave it out, and what builds on it.
        on_progress: called with the number of verified blobs and their total.
    """

    def __init__(
        self,
        store: PackStore,
        reader: MPackReader,
        *,
        strict: bool,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._store = store
        self._reader = reader
        self._strict = strict
        self._on_progress = on_progress
        self._state = store.state()
        self._read: tuple[list[CommitRecord], list[SnapshotRecord]] | None = None
        self._trees: dict[str, SnapshotTree] = {}  # that records still to come are differences to
        self._newest: deque[SnapshotTree] = deque(maxlen=TREES_HANDED_ON)
        self._builder = TreeBuilder()
        self.commits: list[CommitRecord] = []
        """The good ones, parents first."""
        self.snapshots: list[SnapshotRecord] = []
        """The good ones, in their order."""
        self.blob_ids: list[str] = []
        """The good ones, chunks and large ones included."""
        self.chunked_ids: set[str] = set()
        """The large ones among them."""
        self.rejected: list[RejectedRecord] = []
        """The bad ones."""

    def newest_trees(self) -> list[SnapshotTree]:
        """The trees that the next pack may build on."""
        return list(self._newest)

    def run(self) -> None:
        """Verify everything.

        Raises:
            MPackIntegrityError: an id does not fit; with ``strict``.
            MPackFormatError: a record breaks a rule.
            IncompleteHistoryError: something is neither in the pack nor in the store; with ``strict``.
        """
        if self._verify_form():
            self.blob_ids = list(self._reader.blob_ids())
        else:
            self._verify_blobs()
        self._verify_large_blobs()
        self._tell(len(self.blob_ids))
        self._verify_snapshots()
        self._verify_commits()

    def _refuse(self, kind: ObjectKind, object_id: str, error: MPackError) -> None:
        if self._strict:
            raise error
        self.rejected.append(RejectedRecord(kind, object_id, str(error)))

    def _verify_form(self) -> bool:
        """Everything that a pack is of itself; whether it is all well."""
        try:
            commits, snapshots, _ = self._reader.verified_records()
        except (MPackIntegrityError, MPackFormatError):
            if self._strict:
                raise
            return False
        self._read = commits, snapshots
        return True

    def _verify_blobs(self) -> None:
        large = self._reader.chunk_lists()
        for object_id in self._reader.blob_ids():
            if object_id in large:
                self.blob_ids.append(object_id)
                continue
            try:
                self._reader.blob(object_id)
            except (MPackIntegrityError, MPackFormatError) as error:
                self._refuse("blob", object_id, error)
            else:
                self.blob_ids.append(object_id)

    def _verify_large_blobs(self) -> None:
        """Compare large blobs with their ids, chunk by chunk; some chunks are in the pack, some in the store."""
        lists = self._reader.chunk_lists()
        self.chunked_ids = set(lists)
        here = set(self.blob_ids)
        absent = self._store.missing("blob", chunk_ids(lists) - here)
        for object_id, chunks in lists.items():
            try:
                for chunk in chunks:
                    if chunk.object_id in absent:
                        raise IncompleteHistoryError("blob", chunk.object_id, object_id)
                if not here.issuperset(chunk.object_id for chunk in chunks):
                    for _ in checked_pieces(object_id, chunks, self._read_chunk):
                        pass
                elif self._read is None:
                    for _ in self._reader.blob_pieces(object_id):
                        pass
            except MPackError as error:
                self._refuse("blob", object_id, error)
                self.blob_ids.remove(object_id)
                self.chunked_ids.discard(object_id)

    def _read_chunk(self, object_id: str) -> bytes:
        source = self._reader if self._reader.has_blob(object_id) else self._store
        return source.blob(object_id)

    def _tell(self, blobs: int) -> None:
        if self._on_progress is not None:
            self._on_progress(blobs, self._reader.blob_count)

    def _verify_snapshots(self) -> None:
        records = self._read[1] if self._read else list(self._reader.snapshots())
        here = set(self.blob_ids)
        elsewhere: set[str] = set()
        if not self._state.partial:
            for record in records:
                elsewhere.update(blobs_in(record["upsert"].values()))
            elsewhere -= here
        missing = self._store.missing("blob", elsewhere)
        children = Counter(record["parent_snapshot_id"] for record in records)
        for record in records:
            snapshot_id, parent = record["snapshot_id"], record["parent_snapshot_id"]
            children[parent] -= 1
            absent = (
                sorted(missing.intersection(blobs_in(record["upsert"].values()))) if missing else []
            )
            try:
                if absent:
                    raise IncompleteHistoryError("blob", absent[0], snapshot_id)
                tree = self._tree_of(record)
                if parent is not None and not children[parent]:
                    self._trees.pop(parent, None)
                if tree.snapshot_id != snapshot_id:
                    raise MPackIntegrityError("the snapshot", snapshot_id, tree.snapshot_id)
            except MPackError as error:
                self._refuse("snapshot", snapshot_id, error)
                continue
            self._newest.append(tree)
            if children[snapshot_id]:
                self._trees[snapshot_id] = tree
            self.snapshots.append(record)

    def _tree_of(self, record: SnapshotRecord) -> SnapshotTree:
        whole = record["parent_snapshot_id"] is None
        return self._builder.tree_of(record, None if whole else self._base_of(record))

    def _base_of(self, record: SnapshotRecord) -> SnapshotTree:
        parent = record["parent_snapshot_id"]
        if parent is None:
            return SnapshotTree.empty()
        found = self._trees.get(parent)
        if found is not None:
            return found
        try:
            return self._store.snapshot_tree(parent)
        except ObjectNotFoundError:
            raise IncompleteHistoryError("snapshot", parent, record["snapshot_id"]) from None

    def _verify_commits(self) -> None:
        records = self._commit_records()
        inside = {record["commit_id"] for record in records}
        outside = {parent for record in records for parent in record["parent_ids"]} - inside
        absent_commits = self._store.missing("commit", outside)
        snapshots = {record["snapshot_id"] for record in records}
        snapshots.difference_update(each["snapshot_id"] for each in self.snapshots)
        absent_snapshots = self._store.missing("snapshot", snapshots)
        for record in records:
            try:
                self._check_closure(record, absent_commits, absent_snapshots)
            except IncompleteHistoryError as error:
                self._refuse("commit", record["commit_id"], error)
                absent_commits.add(record["commit_id"])
            else:
                self.commits.append(record)

    def _commit_records(self) -> list[CommitRecord]:
        if self._read:
            return self._read[0]
        records: list[CommitRecord] = []
        for object_id in self._reader.commit_ids():
            try:
                records.append(self._reader.commit(object_id))
            except (MPackIntegrityError, MPackFormatError) as error:
                self._refuse("commit", object_id, error)
        return records

    def _check_closure(
        self,
        record: CommitRecord,
        absent_commits: Collection[str],
        absent_snapshots: Collection[str],
    ) -> None:
        commit_id = record["commit_id"]
        if record["snapshot_id"] in absent_snapshots:
            raise IncompleteHistoryError("snapshot", record["snapshot_id"], commit_id)
        if commit_id in self._state.shallow:
            return
        for parent in record["parent_ids"]:
            if parent in absent_commits:
                raise IncompleteHistoryError("commit", parent, commit_id)
