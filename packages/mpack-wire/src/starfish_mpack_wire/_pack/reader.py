"""Reads a pack in place: a file is mapped, and only the parts asked for are looked at.

What comes out was checked: blobs and commits against their ids, records against their one encoding.
Snapshots are differences, so their ids need the snapshots before them; `SnapshotTree` checks those.
The seal over the whole file is checked by `MPackReader.verify` and `parse_wire_mpack` only.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from hashlib import sha256
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from starfish_mpack_wire._model.chunk_lists import ChunkList, length_of
from starfish_mpack_wire._model.object_ids import digest_of, object_id_of
from starfish_mpack_wire._model.records import CommitRecord, SnapshotRecord, TagRecord
from starfish_mpack_wire._pack.blob_index import BlobEntry, BlobFields, in_storage_order
from starfish_mpack_wire._pack.layout import Sections
from starfish_mpack_wire._pack.parts import IdIndex, Parts
from starfish_mpack_wire.errors import MPackFormatError, ObjectNotFoundError
from starfish_mpack_wire.limits import Limits

__all__ = ("MPackReader",)

_DEFAULT: Final = Limits()


class MPackReader:
    """One pack, from a file or from memory; several threads may read it at once.

    A blob is found by binary search and is checked against its id each time it is given out.
    Close it, or use it in a ``with`` statement, to give a mapped file free.

    Args:
        pack: path of a file, or the bytes themselves.
        limits: caps on the pack.

    Raises:
        MPackFormatError: it is not a pack, or is cut off.
        MPackLimitError: it is larger than the limits allow.
        OSError: the file cannot be opened.
    """

    def __init__(
        self,
        pack: str | os.PathLike[str] | bytes | bytearray | memoryview,
        *,
        limits: Limits = _DEFAULT,
    ) -> None:
        if isinstance(pack, (bytes, bytearray, memoryview)):
            data = memoryview(pack).cast("B")
        else:
            with Path(pack).open("rb") as file:
                if not os.fstat(file.fileno()).st_size:
                    raise MPackFormatError("an empty file is not a pack")
                data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        self._limits = limits
        self._open: Parts | None = Parts(Sections(data, limits), limits)

    def close(self) -> None:
        """Give the file free as soon as no other thread reads it; closing again does nothing."""
        # The map is not closed by hand: it goes with the last view of it, never under a reader.
        self._open = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _parts(self) -> Parts:
        if self._open is None:
            raise ValueError("the pack is closed")
        return self._open

    @cached_property
    def mpack_id(self) -> str:
        """The id of the pack; the first time all bytes are hashed for it."""
        return object_id_of(sha256(self._parts.sections.whole).digest())

    @property
    def size_bytes(self) -> int:
        """Bytes of the pack."""
        return len(self._parts.sections.whole)

    @property
    def commit_count(self) -> int:
        """How many commits there are."""
        return self._parts.sections.commit_count

    @property
    def snapshot_count(self) -> int:
        """How many snapshots there are."""
        return self._parts.sections.snapshot_count

    @property
    def blob_count(self) -> int:
        """How many blobs there are, chunks and large ones included."""
        return self._parts.sections.blob_count + self._parts.sections.chunked_count

    @property
    def record_bytes(self) -> int:
        """Bytes of all records, decompressed, as the pack declares them."""
        return self._parts.record_bytes

    def has_blob(self, object_id: str) -> bool:
        """Tell whether the pack holds a blob, or the list of chunks of a large one.

        Raises:
            MPackFormatError: ``object_id`` is not an id.
        """
        digest = digest_of(object_id)
        parts = self._parts
        return parts.blobs.find(digest) is not None or parts.chunked_ids.find(digest) is not None

    def blob_ids(self) -> Iterator[str]:
        """Give the ids of all blobs: the stored ones sorted, then the large ones, sorted.

        Raises:
            MPackFormatError: ids of large blobs are out of order, or one is there twice.
        """
        return iter(self._parts.blob_names())

    def blob_length(self, object_id: str) -> int:
        """Give the length of a blob in bytes, as the pack declares it; nothing is decompressed.

        Raises:
            ObjectNotFoundError: the pack does not hold it.
        """
        chunks = self._parts.chunk_list(object_id)
        return self._entry(object_id).length if chunks is None else length_of(chunks)

    def chunk_lists(self, object_ids: Collection[str] | None = None) -> dict[str, ChunkList]:
        """Return the chunks of all large blobs, sorted by id, or of those among some ids.

        Raises:
            MPackFormatError: a list breaks a rule of the format.
            MPackLimitError: a blob is larger than the limits allow.
        """
        parts = self._parts
        if object_ids is None:
            return dict(parts.chunk_lists())
        found: dict[str, ChunkList] = {}
        for each in object_ids if len(parts.chunked_ids) else ():
            chunks = parts.chunk_list(each)
            if chunks is not None:
                found[each] = chunks
        return found

    def is_whole(self, object_id: str) -> bool:
        """Return whether the pack holds a blob with all of its chunks."""
        chunks = self._parts.chunk_list(object_id)
        return self.has_blob(object_id) if chunks is None else self._parts.is_whole(chunks)

    def blob(self, object_id: str) -> bytes:
        """Give the bytes of a blob, checked against its id; a large one is in memory as a whole.

        Raises:
            ObjectNotFoundError: the pack does not hold it, or a chunk of it.
            MPackFormatError: it is stored as no pack may store a blob.
            MPackIntegrityError: the bytes are not those of its id.
            MPackLimitError: it is larger than the limits allow.
        """
        chunks = self._parts.chunk_list(object_id)
        if chunks is not None:
            return b"".join(self._parts.pieces(object_id, chunks))
        return self._parts.checked_blob(self._entry(object_id))

    def blob_pieces(self, object_id: str) -> Iterator[bytes]:
        """Return the bytes of a blob in pieces, so that a large one is never in memory as a whole.

        The id is checked with the last piece: write the pieces where they can still be thrown away.

        Raises:
            ObjectNotFoundError: the pack does not hold it, or a chunk of it.
            MPackFormatError: it is stored as no pack may store a blob.
            MPackIntegrityError: the bytes are not those of its id; raised after the last piece.
        """
        chunks = self._parts.chunk_list(object_id)
        if chunks is not None:
            return self._parts.pieces(object_id, chunks)
        return iter((self._parts.checked_blob(self._entry(object_id)),))

    def blobs(self, object_ids: Iterable[str] | None = None) -> Iterator[tuple[str, bytes]]:
        """Give id and bytes of these blobs, or of all that are stored as their bytes, each checked against its id.

        Large blobs are left out where none is named. They come in the order in which they are stored, not in that of ``object_ids``: each block is
        then decompressed once, which for many blobs is several times as fast as `blob`.

        Raises:
            ObjectNotFoundError: the pack does not hold one; nothing was given yet.
            MPackFormatError: one is stored as no pack may store a blob.
            MPackIntegrityError: the bytes of one are not those of its id.
            MPackLimitError: one is larger than the limits allow.
        """
        parts = self._parts
        if object_ids is None:
            every = parts.blobs.checked()
            return (
                (object_id_of(every[number][0]), content)
                for number, content in parts.contents(every)
            )
        large: dict[str, ChunkList] = {}
        wanted: dict[int, str] = {}
        for each in object_ids:
            chunks = parts.chunk_list(each)
            if chunks is None:
                wanted[self._blob_number(each)] = each
            else:
                large[each] = chunks
        entries: dict[int, BlobFields] = {number: parts.blobs.entry(number) for number in wanted}
        stored = (
            (wanted[number], content)
            for number, content in parts.contents(in_storage_order(entries))
        )
        if not large:
            return stored
        joined = ((each, b"".join(parts.pieces(each, chunks))) for each, chunks in large.items())
        return chain(stored, joined)

    def commits(self) -> Iterator[CommitRecord]:
        """Give all commits, parents first, each checked against its id.

        Raises:
            MPackFormatError: a record is none.
            MPackIntegrityError: a commit does not have its id.
            MPackLimitError: a record is larger than the limits allow.
        """
        parts = self._parts
        return (
            commit
            for group in range(len(parts.commit_groups))
            for commit in parts.commits_in(group)
        )

    def snapshots(self) -> Iterator[SnapshotRecord]:
        """Give all snapshots as differences, parents first; their ids are not checked.

        Raises:
            MPackFormatError: a record is none.
            MPackLimitError: a record is larger than the limits allow.
        """
        parts = self._parts
        return (
            snapshot
            for group in range(len(parts.snapshot_groups))
            for snapshot in parts.snapshots_in(group)
        )

    def tags(self) -> list[TagRecord]:
        """Give all tags, sorted by name.

        Raises:
            MPackFormatError: a record is none.
        """
        return self._parts.tags()

    def commit_ids(self) -> list[str]:
        """Give the ids of all commits, parents first; the records are not looked at."""
        return list(self._parts.commit_ids.ids())

    def snapshot_ids(self) -> list[str]:
        """Return the ids of all snapshots, parents first; the records are not looked at."""
        return list(self._parts.snapshot_ids.ids())

    def has_commit(self, object_id: str) -> bool:
        """Tell whether the pack holds a commit."""
        return self._parts.commit_ids.find(digest_of(object_id)) is not None

    def has_snapshot(self, object_id: str) -> bool:
        """Tell whether the pack holds a snapshot."""
        return self._parts.snapshot_ids.find(digest_of(object_id)) is not None

    def commit(self, object_id: str) -> CommitRecord:
        """Give one commit, checked against its id; the cost does not depend on the pack's size.

        Raises:
            ObjectNotFoundError: the pack does not hold it.
            MPackFormatError: the record is none.
            MPackIntegrityError: the commit does not have its id.
        """
        parts = self._parts
        number = parts.commit_ids.find(digest_of(object_id))
        if number is None:
            raise ObjectNotFoundError(object_id)
        group, place = parts.commit_groups.find(number)
        return parts.commits_in(group)[place]

    def snapshot(self, object_id: str) -> SnapshotRecord:
        """Give one snapshot as a difference; its id is not checked.

        Raises:
            ObjectNotFoundError: the pack does not hold it.
            MPackFormatError: the record is none.
        """
        parts = self._parts
        number = parts.snapshot_ids.find(digest_of(object_id))
        if number is None:
            raise ObjectNotFoundError(object_id)
        group, place = parts.snapshot_groups.find(number)
        return parts.snapshots_in(group)[place]

    def commit_records(self, object_ids: Iterable[str]) -> Iterator[CommitRecord]:
        """Return these commits in the order in which they stand, so that each group is decoded once.

        Raises:
            ObjectNotFoundError: the pack does not hold one.
        """
        parts = self._parts
        for number in sorted(self._numbers(parts.commit_ids, object_ids)):
            group, place = parts.commit_groups.find(number)
            yield parts.commits_in(group)[place]

    def snapshot_records(self, object_ids: Iterable[str]) -> Iterator[SnapshotRecord]:
        """Return these snapshots in the order in which they stand, so that each group is decoded once.

        Raises:
            ObjectNotFoundError: the pack does not hold one.
        """
        parts = self._parts
        for number in sorted(self._numbers(parts.snapshot_ids, object_ids)):
            group, place = parts.snapshot_groups.find(number)
            yield parts.snapshots_in(group)[place]

    @staticmethod
    def _numbers(index: IdIndex, object_ids: Iterable[str]) -> Iterator[int]:
        for object_id in object_ids:
            number = index.find(digest_of(object_id))
            if number is None:
                raise ObjectNotFoundError(object_id)
            yield number

    def verify(self) -> None:
        """Return if the whole pack is what it must be; blobs pass through memory one by one.

        A large blob with chunks that are not in the pack is not compared with its id: who has the chunks does that.

        Raises:
            MPackFormatError: a rule of the format is broken.
            MPackIntegrityError: the seal, a blob or a commit does not have its hash.
            MPackLimitError: something is larger than the limits allow.
        """
        self.verified_records()

    def verified_records(self) -> tuple[list[CommitRecord], list[SnapshotRecord], list[TagRecord]]:
        """Verify the whole pack as `verify` does, and give all of its records, decoded once.

        Raises:
            MPackFormatError: a rule of the format is broken.
            MPackIntegrityError: the seal, a blob or a commit does not have its hash.
            MPackLimitError: something is larger than the limits allow.
        """
        parts = self._parts
        parts.check_seal()
        parts.check_contents(parts.blobs.checked())
        parts.check_chunk_lists()
        return parts.check_records()

    def _blob_number(self, object_id: str) -> int:
        number = self._parts.blobs.find(digest_of(object_id))
        if number is None:
            raise ObjectNotFoundError(object_id)
        return number

    def _entry(self, object_id: str) -> BlobEntry:
        return self._parts.blobs.entry(self._blob_number(object_id))
