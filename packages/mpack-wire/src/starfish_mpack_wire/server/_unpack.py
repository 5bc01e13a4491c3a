"""What an uploaded pack holds, checked as far as it can be without knowing what else the repository holds.

Everything here blocks and computes; it runs in a thread, on a file that nobody else can change.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from starfish_mpack_wire._model.chunk_lists import ChunkList, checked_pieces, chunk_ids
from starfish_mpack_wire._model.entries import blobs_in
from starfish_mpack_wire._model.manifest import Manifest
from starfish_mpack_wire._model.object_ids import blob_id, object_id_of
from starfish_mpack_wire._model.records import CommitRecord, SnapshotRecord, TagRecord
from starfish_mpack_wire._model.snapshot_tree import SnapshotTree
from starfish_mpack_wire._pack.blob_index import BlobIndex
from starfish_mpack_wire._pack.blob_source import BlobSource
from starfish_mpack_wire._pack.layout import (
    HEADER,
    MAX_SNAPSHOT_CHAIN,
    Section,
    Sections,
)
from starfish_mpack_wire._pack.reader import MPackReader
from starfish_mpack_wire.errors import (
    IncompleteHistoryError,
    MPackFormatError,
    MPackIntegrityError,
)
from starfish_mpack_wire.limits import Limits
from starfish_mpack_wire.server._history_rows import BlobPlace
from starfish_mpack_wire.server.errors import BlobUnavailableError

__all__ = (
    "StoredSnapshot",
    "UploadedPack",
    "check_hash",
    "check_large_blobs",
    "check_snapshots",
    "memory_to_unpack",
    "read_pack",
)

_HASHED_AT_ONCE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class UploadedPack:
    """The records of a pack and where its blobs are in it."""

    mpack_id: str
    size_bytes: int
    commits: Sequence[CommitRecord]
    """Parents first."""
    snapshots: Sequence[SnapshotRecord]
    """Parents first."""
    tags: Sequence[TagRecord]
    places: Sequence[BlobPlace]
    lists: Mapping[str, ChunkList]
    """The chunks of large blobs; some are in the repository only."""

    @property
    def tips(self) -> list[str]:
        """Commits that are not a parent of another one here."""
        parents = {parent for commit in self.commits for parent in commit["parent_ids"]}
        return [each["commit_id"] for each in self.commits if each["commit_id"] not in parents]

    @property
    def outside(self) -> set[str]:
        """Snapshots that a difference here is to, and that are not here."""
        here = {record["snapshot_id"] for record in self.snapshots}
        parents = {record["parent_snapshot_id"] for record in self.snapshots}
        return {parent for parent in parents if parent is not None} - here

    @property
    def chunks_outside(self) -> set[str]:
        """Chunks of large blobs that are not here."""
        return chunk_ids(self.lists) - {place.object_id for place in self.places}

    def refuse_missing_chunks(self, there: Collection[str]) -> None:
        """Return if all chunks that are not here are elsewhere.

        Raises:
            IncompleteHistoryError: one is not.
        """
        missing = self.chunks_outside.difference(there)
        if missing:
            for object_id, chunks in self.lists.items():
                for chunk in chunks:
                    if chunk.object_id in missing:
                        raise IncompleteHistoryError("blob", chunk.object_id, object_id)

    def is_clone_of(self, head: str) -> bool:
        """Whether this is what a clone of that commit would be sent: all of it, and nothing else."""
        commits = {commit["commit_id"]: commit for commit in self.commits}
        snapshots = {record["snapshot_id"]: record for record in self.snapshots}
        named = {each for record in self.snapshots for each in blobs_in(record["upsert"].values())}
        large = {each: self.lists[each] for each in named if each in self.lists}
        return (
            not self.tags
            and self.tips == [head]
            and all(parent in commits for each in self.commits for parent in each["parent_ids"])
            and {commit["snapshot_id"] for commit in self.commits} == snapshots.keys()
            and not self.outside
            and named | chunk_ids(large)
            == {place.object_id for place in self.places} | self.lists.keys()
        )


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """A snapshot as it is kept: complete, or a difference with few others before it."""

    record: SnapshotRecord
    depth: int


def check_hash(file: Path, mpack_id: str) -> None:
    """Compare all bytes with the id, before anybody looks at one of them.

    Raises:
        MPackIntegrityError: they have another.
    """
    found = hashlib.sha256()
    with file.open("rb") as source:
        while piece := source.read(_HASHED_AT_ONCE):
            found.update(piece)
    actual = object_id_of(found.digest())
    if actual != mpack_id:
        raise MPackIntegrityError("pack", mpack_id, actual)


def read_pack(file: Path, mpack_id: str, limits: Limits) -> UploadedPack:
    """Parse a pack whose hash was compared, and check every blob and every commit against its id.

    Raises:
        MPackFormatError, MPackIntegrityError, MPackLimitError: it is not what a pack must be.
    """
    with MPackReader(file, limits=limits) as reader:
        commits, snapshots, tags = reader.verified_records()
        lists = reader.chunk_lists()
    places = _places(file, mpack_id, limits)
    return UploadedPack(mpack_id, file.stat().st_size, commits, snapshots, tags, places, lists)


def check_large_blobs(
    file: Path, pack: UploadedPack, limits: Limits, elsewhere: BlobSource
) -> None:
    """Compare the large blobs that have chunks outside of the pack with their ids, chunk by chunk.

    Args:
        file: the pack.
        pack: what it holds.
        limits: caps.
        elsewhere: gives the chunks that are not in the pack.

    Raises:
        MPackFormatError: a chunk has another length than its list says.
        MPackIntegrityError: a blob has another id.
    """
    with MPackReader(file, limits=limits) as reader:

        def read(object_id: str) -> bytes:
            if reader.has_blob(object_id):
                return reader.blob(object_id)
            content = elsewhere.blob(object_id)
            if blob_id(content) != object_id:
                raise BlobUnavailableError(object_id)
            return content

        for object_id, chunks in pack.lists.items():
            if not reader.is_whole(object_id):
                for _ in checked_pieces(object_id, chunks, read):
                    pass


_RECORD_BYTES = 1_000
"""Of an object of Python for a record, beside its texts."""


def memory_to_unpack(file: Path, mpack_id: str, limits: Limits) -> int:
    """Compare the hash of a pack, then tell about how many bytes of memory its records take, as its tables claim.

    Raises:
        MPackIntegrityError: the bytes have another hash; nobody has looked at them.
        MPackFormatError, MPackLimitError: the tables are not those of a pack.
    """
    check_hash(file, mpack_id)
    if not file.stat().st_size:
        raise MPackFormatError("an empty file is not a pack")
    with MPackReader(file, limits=limits) as reader:
        records = reader.commit_count + reader.snapshot_count + reader.blob_count
        return records * _RECORD_BYTES + reader.record_bytes


def _places(file: Path, mpack_id: str, limits: Limits) -> list[BlobPlace]:
    """Where the blobs of a pack are in the file."""
    with file.open("rb") as source:
        # It is unmapped when the last view of it goes.
        data = memoryview(mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ))
    views = Sections(data, limits).views
    index = BlobIndex(views[Section.BLOB_INDEX], len(views[Section.BLOBS]), limits)
    entries = index.checked()
    ids = [object_id_of(digest) for digest in index.digests()]
    return [
        BlobPlace(
            ids[number],
            mpack_id,
            len(HEADER) + offset,
            stored_length,
            block_length,
            start,
            length,
        )
        for number, (_, offset, stored_length, block_length, start, length) in sorted(
            entries.items()
        )
    ]


def check_snapshots(
    pack: UploadedPack, outside: Mapping[str, Manifest]
) -> dict[str, StoredSnapshot]:
    """Rebuild every snapshot and compare it with its id.

    Args:
        pack: whose snapshots.
        outside: the snapshots of the repository that differences in the pack are to.

    Returns:
        Each as it is to be kept: after too many differences, complete.

    Raises:
        MPackFormatError: a difference does not fit what it is to.
        MPackIntegrityError: a snapshot has another id.
        IncompleteHistoryError: what a difference is to is neither here nor there.
    """
    trees = {
        each: SnapshotTree.empty().apply(manifest.entries, (), manifest.directories)
        for each, manifest in outside.items()
    }
    depths = {each: manifest.depth for each, manifest in outside.items()}
    uses: dict[str | None, int] = {}
    for record in pack.snapshots:
        parent_id = record["parent_snapshot_id"]
        uses[parent_id] = uses.get(parent_id, 0) + 1
    found: dict[str, StoredSnapshot] = {}
    for record in pack.snapshots:
        snapshot_id, parent_id = record["snapshot_id"], record["parent_snapshot_id"]
        if parent_id is not None and parent_id not in trees:
            raise IncompleteHistoryError("snapshot", parent_id, snapshot_id)
        before = SnapshotTree.empty() if parent_id is None else trees[parent_id]
        tree = before.apply(record["upsert"], record["remove"], record["directories"])
        if tree.snapshot_id != snapshot_id:
            raise MPackIntegrityError("snapshot", snapshot_id, tree.snapshot_id)
        depth = 0 if parent_id is None else depths[parent_id] + 1
        if depth >= MAX_SNAPSHOT_CHAIN:
            depth = 0
            record = SnapshotRecord(  # noqa: PLW2901 - the same snapshot, written otherwise
                snapshot_id=snapshot_id,
                parent_snapshot_id=None,
                upsert=tree.manifest,
                remove=[],
                directories=list(tree.directories),
            )
        found[snapshot_id] = StoredSnapshot(record, depth)
        trees[snapshot_id], depths[snapshot_id] = tree, depth
        uses[parent_id] -= 1
        if parent_id is not None and not uses[parent_id]:
            del trees[parent_id]  # nobody needs it any more
        if not uses.get(snapshot_id):
            del trees[snapshot_id]
    return found
