"""Reads a pack in place: a file is mapped, and only the parts asked for are looked at.

What comes out was checked: blobs and commits against their ids, records against their one encoding.
Snapshots are differences, so their ids need the snapshots before them; `SnapshotTree` checks those.
The seal over the whole file is checked by `MPackReader.verify` and `parse_wire_mpack` only.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from starfish_mpack_wire._model.object_ids import digest_of, object_id_of
from starfish_mpack_wire._model.records import CommitRecord, SnapshotRecord, TagRecord
from starfish_mpack_wire._pack.blob_index import BlobEntry, BlobFields, in_storage_order
from starfish_mpack_wire._pack.frame import Bytes
from starfish_mpack_wire._pack.layout import Sections
from starfish_mpack_wire._pack.parts import IdIndex, Parts, check_id
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
        """How many blobs there are."""
        return self._parts.sections.blob_count

    def has_blob(self, object_id: str) -> bool:
        """Tell whether the pack holds a blob.

        Raises:
            MPackFormatError: ``object_id`` is not an id.
        """
        return self._parts.blobs.find(digest_of(object_id)) is not None

    def blob_ids(self) -> Iterator[str]:
        """Give the ids of all blobs, sorted."""
        return iter(self._parts.blob_names())

    def blob_length(self, object_id: str) -> int:
        """Give the length of a blob in bytes, as the pack declares it; nothing is decompressed.

        Raises:
            ObjectNotFoundError: the pack does not hold it.
        """
        return self._entry(object_id).length

    def blob(self, object_id: str) -> bytes:
        """Give the bytes of a blob, checked against its id.

        Raises:
            ObjectNotFoundError: the pack does not hold it.
            MPackFormatError: it is stored as no pack may store a blob.
            MPackIntegrityError: the bytes are not those of its id.
            MPackLimitError: it is larger than the limits allow.
        """
        content = self._parts.blob(self._entry(object_id))
        check_id("blob", object_id, object_id_of(sha256(content).digest()))
        return content

    def blob_pieces(self, object_id: str) -> Iterator[Bytes]:
        """Return the bytes of a blob in pieces, so that a large one is never in memory as a whole.

        The id is checked with the last piece: write the pieces where they can still be thrown away.

        Raises:
            ObjectNotFoundError: the pack does not hold it.
            MPackFormatError: it is stored as no pack may store a blob.
            MPackIntegrityError: the bytes are not those of its id; raised after the last piece.
        """
        entry = self._entry(object_id)
        found = sha256()
        for piece in self._parts.pieces(entry):
            found.update(piece)
            yield piece
        check_id("blob", object_id, object_id_of(found.digest()))

    def blobs(self, object_ids: Iterable[str] | None = None) -> Iterator[tuple[str, bytes]]:
        """Give id and bytes of these blobs, or of all, each checked against its id.

        They come in the order in which they are stored, not in that of ``object_ids``: each block is
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
        wanted = {self._blob_number(each): each for each in object_ids}
        entries: dict[int, BlobFields] = {number: parts.blobs.entry(number) for number in wanted}
        return (
            (wanted[number], content)
            for number, content in parts.contents(in_storage_order(entries))
        )

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
        return parts.check_records()

    def _blob_number(self, object_id: str) -> int:
        number = self._parts.blobs.find(digest_of(object_id))
        if number is None:
            raise ObjectNotFoundError(object_id)
        return number

    def _entry(self, object_id: str) -> BlobEntry:
        return self._parts.blobs.entry(self._blob_number(object_id))
