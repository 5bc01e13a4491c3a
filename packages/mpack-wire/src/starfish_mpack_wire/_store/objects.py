"""The objects of a store: commits, snapshots and blobs, read out of its packs by id."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from starfish_mpack_wire._model.chunk_lists import ChunkList, checked_pieces
from starfish_mpack_wire._model.manifest import Manifest
from starfish_mpack_wire._model.object_ids import check_object_id
from starfish_mpack_wire._model.records import CommitRecord, SnapshotRecord
from starfish_mpack_wire._model.snapshot_tree import SnapshotTree
from starfish_mpack_wire._pack.reader import MPackReader
from starfish_mpack_wire._store.catalogue import Catalogue, ObjectKind
from starfish_mpack_wire._store.durable import refuse_as_store_error
from starfish_mpack_wire._store.indexing import PackListing, add_packs
from starfish_mpack_wire._store.packs import PackFolder
from starfish_mpack_wire.errors import IncompleteHistoryError, ObjectNotFoundError
from starfish_mpack_wire.limits import Limits

__all__ = ("StoredObjects",)

_T = TypeVar("_T")

TREES_KEPT = 64
READ_ATTEMPTS = 5
"""Each repack of another process may move an object once more while it is looked for."""


class StoredObjects:
    """Reads objects by id, and takes in packs; safe to use from several threads.

    Args:
        path: the folder of the store.
        limits: caps for packs.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        self.packs = PackFolder(path / "packs", limits=limits)
        """The packs."""
        self.catalogue = Catalogue(path / "catalogue.sqlite")
        """Which pack holds each object."""
        self._trees: OrderedDict[str, SnapshotTree] = OrderedDict()
        self._trees_lock = threading.Lock()
        self._packs_seen_ns = -1

    def close_objects(self) -> None:
        """Close all files."""
        self.packs.close()
        self.catalogue.close()

    # -- one object ----------------------------------------------------------------------------

    def has_commit(self, commit_id: str) -> bool:
        """Return whether the store holds a commit."""
        return self._pack_of("commit", commit_id) is not None

    def has_blob(self, object_id: str) -> bool:
        """Return whether the store holds a blob."""
        return self._pack_of("blob", object_id) is not None

    def missing(self, kind: ObjectKind, object_ids: Collection[str]) -> set[str]:
        """Return those of the ids that the store does not hold."""
        missing = set(object_ids) - self.catalogue.known(kind, object_ids)
        if missing and self.refresh():
            missing -= self.catalogue.known(kind, missing)
        return missing

    def commit(self, commit_id: str) -> CommitRecord:
        """Return the record of a commit.

        Raises:
            ObjectNotFoundError: the store does not hold it.
        """
        return self._find("commit", commit_id, lambda pack: pack.commit(commit_id))

    def snapshot_record(self, snapshot_id: str) -> SnapshotRecord:
        """Return the record of a snapshot as it is stored: whole, or as a difference.

        Raises:
            ObjectNotFoundError: the store does not hold it.
        """
        return self._find("snapshot", snapshot_id, lambda pack: pack.snapshot(snapshot_id))

    def blob(self, object_id: str) -> bytes:
        """Return the bytes of a blob; a large one is in memory as a whole.

        Raises:
            ObjectNotFoundError: the store does not hold it, or a chunk of it.
            MPackIntegrityError: the bytes on disk are not what they were.
        """
        return b"".join(self.blob_pieces(object_id))

    def blob_length(self, object_id: str) -> int:
        """Return the length of a blob in bytes; it is not read.

        Raises:
            ObjectNotFoundError: the store does not hold it.
        """
        return self._find("blob", object_id, lambda pack: pack.blob_length(object_id))

    def blob_pieces(self, object_id: str) -> Iterator[bytes]:
        """Return the bytes of a blob in pieces, so that a large one is never in memory as a whole.

        The id is checked with the last piece: write the pieces where they can still be thrown away.

        Raises:
            ObjectNotFoundError: the store does not hold it, or a chunk of it.
            MPackIntegrityError: the bytes on disk are not what they were.
        """
        chunks = self.chunk_lists([object_id]).get(object_id)
        if chunks is not None:
            return checked_pieces(object_id, chunks, self.stored_blob)
        return iter((self.stored_blob(object_id),))

    def stored_blob(self, object_id: str) -> bytes:
        """Return the bytes of a blob that is not a large one."""
        return self._find("blob", object_id, lambda pack: pack.blob(object_id))

    # -- many objects --------------------------------------------------------------------------

    def commits(self, commit_ids: Collection[str]) -> Iterator[CommitRecord]:
        """Return the records of commits, in the order in which they are read fastest.

        Raises:
            ObjectNotFoundError: the store does not hold one.
        """
        return self._each(
            "commit",
            commit_ids,
            lambda pack, some: pack.commit_records(some),
            self.commit,
        )

    def snapshots(self, snapshot_ids: Collection[str]) -> Iterator[SnapshotRecord]:
        """Return the records of snapshots, in the order in which they are read fastest.

        Raises:
            ObjectNotFoundError: the store does not hold one.
        """
        return self._each(
            "snapshot",
            snapshot_ids,
            lambda pack, some: pack.snapshot_records(some),
            self.snapshot_record,
        )

    def blobs(self, object_ids: Collection[str]) -> Iterator[tuple[str, Iterable[bytes]]]:
        """Return id and pieces of many blobs, in the order in which they are read fastest.

        The pieces of one may be read several times; see `blob_pieces`.

        Raises:
            ObjectNotFoundError: the store does not hold one.
            MPackIntegrityError: the bytes on disk are not what they were.
        """
        large = self.chunk_lists(object_ids)
        stored = self._each(
            "blob",
            [each for each in object_ids if each not in large] if large else object_ids,
            lambda pack, some: pack.blobs(some),
            lambda object_id: (object_id, self.blob(object_id)),
        )
        for object_id, content in stored:
            yield object_id, (content,)
        for object_id, chunks in large.items():
            yield object_id, _LargeBlob(self, object_id, chunks)

    def chunk_lists(self, object_ids: Collection[str], /) -> dict[str, ChunkList]:
        """Return the chunks of those of the blobs that are large and that the store holds.

        Raises:
            MPackFormatError: a list on disk is not what it was.
        """
        found: dict[str, ChunkList] = {}
        for each in self.catalogue.known("chunked", object_ids):
            found |= self._chunk_list(each)
        return found

    def _chunk_list(self, object_id: str) -> dict[str, ChunkList]:
        return self._find("chunked", object_id, lambda pack: pack.chunk_lists([object_id]))

    def _each(
        self,
        kind: ObjectKind,
        object_ids: Collection[str],
        read: Callable[[MPackReader, list[str]], Iterator[_T]],
        read_one: Callable[[str], _T],
    ) -> Iterator[_T]:
        for name, some in self._by_pack(kind, object_ids).items():
            try:
                pack = self.packs.open(name)
            except ObjectNotFoundError:
                # Another process has put the packs together since.
                yield from map(read_one, some)
            else:
                yield from read(pack, some)

    def _by_pack(self, kind: ObjectKind, object_ids: Collection[str]) -> dict[str, list[str]]:
        places = self.catalogue.packs_of(kind, object_ids)
        absent = [each for each in object_ids if each not in places]
        if absent:
            if self.refresh():
                places |= self.catalogue.packs_of(kind, absent)
            for each in absent:
                if each not in places:
                    raise ObjectNotFoundError(each)
        found: dict[str, list[str]] = {}
        for object_id, name in places.items():
            found.setdefault(name, []).append(object_id)
        return found

    # -- snapshots -----------------------------------------------------------------------------

    def snapshot_tree(self, snapshot_id: str) -> SnapshotTree:
        """Return the files of a snapshot.

        Raises:
            ObjectNotFoundError: the store does not hold it, or one that it is a difference to.
        """
        chain: list[SnapshotRecord] = []
        at: str | None = check_object_id(snapshot_id)
        tree = SnapshotTree.empty()
        while at is not None:
            with self._trees_lock:
                known = self._trees.get(at)
                if known is not None:
                    self._trees.move_to_end(at)
                    tree = known
                    break
            record = self.snapshot_record(at)
            chain.append(record)
            at = record["parent_snapshot_id"]
        for record in reversed(chain):
            tree = tree.apply(
                record["upsert"], record["remove"], record["directories"], decoded=True
            )
        self.keep_tree(tree)
        return tree

    def keep_tree(self, tree: SnapshotTree) -> None:
        """Remember a tree that was computed elsewhere."""
        with self._trees_lock:
            self._trees[tree.snapshot_id] = tree
            while len(self._trees) > TREES_KEPT:
                self._trees.popitem(last=False)

    def tree_of(self, commit_id: str | None) -> SnapshotTree:
        """Return the files of a commit; none for ``None``."""
        if commit_id is None:
            return SnapshotTree.empty()
        return self.snapshot_tree(self.commit(commit_id)["snapshot_id"])

    def manifest(self, snapshot_id: str) -> Manifest:
        """Return a whole snapshot, flat.

        Raises:
            IncompleteHistoryError: the store does not hold it, or one that it is a difference to.
        """
        try:
            return self.snapshot_tree(snapshot_id).flat()
        except ObjectNotFoundError as error:
            raise IncompleteHistoryError("snapshot", error.object_id, snapshot_id) from error

    # -- packs ---------------------------------------------------------------------------------

    def refresh(self) -> bool:
        """Take in changes that other processes made to the packs; return whether there were any."""
        with refuse_as_store_error("cannot read", self.packs.folder):
            # Taken first: what comes while the folder is read is seen next time.
            changed_ns = self.packs.folder.stat().st_mtime_ns
        there, known = self.packs.ids(), self.catalogue.pack_names()
        if there == known:
            self._packs_seen_ns = changed_ns
            return False
        with self.catalogue.transaction():
            there, known = self.packs.ids(), self.catalogue.pack_names()
            if known - there:
                # Which rows belonged to packs that are gone, and are in others too, is not known.
                self.catalogue.clear()
                known.clear()
            add_packs(self.catalogue, self._listings(there - known))
        self._packs_seen_ns = changed_ns
        return True

    def reindex(self) -> None:
        """Make the catalogue again from the packs."""
        with self.catalogue.transaction():
            self.catalogue.clear()
            add_packs(self.catalogue, self._listings(self.packs.ids()))

    def _listings(self, mpack_ids: Iterable[str]) -> dict[str, PackListing]:
        listings: dict[str, PackListing] = {}
        for mpack_id in mpack_ids:
            try:
                pack = self.packs.open(mpack_id)
            except ObjectNotFoundError:
                # Removed since it was listed: another process has put the packs together. The folder has
                # changed then, so the next look at it sees the pack that replaced this one.
                continue
            listings[mpack_id] = PackListing.of(
                pack.commits(), pack.snapshots(), pack.blob_ids(), pack.chunk_lists().keys()
            )
        return listings

    def adopt(self, source: Path, mpack_id: str, listing: PackListing | None = None) -> bool:
        """Make a file whose records were all checked a pack of the store; on disk when this returns.

        Args:
            source: in the folder of incoming files; it is moved.
            mpack_id: the hash of its bytes.
            listing: its contents, where they are known.

        Returns:
            Whether the store did not have it.
        """
        new = self.packs.install(source, mpack_id)
        if listing is None:
            self.refresh()
        else:
            with self.catalogue.transaction():
                add_packs(self.catalogue, {mpack_id: listing})
        return new

    def _pack_of(self, kind: ObjectKind, object_id: str) -> str | None:
        name = self.catalogue.pack_of(kind, check_object_id(object_id))
        if name is None and self._packs_changed() and self.refresh():
            name = self.catalogue.pack_of(kind, object_id)
        return name

    def _packs_changed(self) -> bool:
        with refuse_as_store_error("cannot read", self.packs.folder):
            return self.packs.folder.stat().st_mtime_ns != self._packs_seen_ns

    def _find(self, kind: ObjectKind, object_id: str, read: Callable[[MPackReader], _T]) -> _T:
        for _ in range(READ_ATTEMPTS):
            name = self._pack_of(kind, object_id)
            if name is None:
                break
            try:
                return read(self.packs.open(name))
            except ObjectNotFoundError:
                # Another process has put the packs together since the catalogue was read.
                if not self.refresh():
                    break
        raise ObjectNotFoundError(object_id)


@dataclass(frozen=True, slots=True)
class _LargeBlob:
    """The pieces of a large blob, as often as they are asked for."""

    objects: StoredObjects
    object_id: str
    chunks: ChunkList

    def __iter__(self) -> Iterator[bytes]:
        return checked_pieces(self.object_id, self.chunks, self.objects.stored_blob)
