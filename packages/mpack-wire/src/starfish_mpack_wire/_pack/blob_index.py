"""The index of blobs: fixed entries sorted by digest, so that a search needs no parsing."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from operator import ge
from typing import NamedTuple

from starfish_mpack_wire._pack.layout import (
    BLOB_ENTRY,
    DIGEST_BYTES,
    MAX_BLOCK_BYTES,
    MAX_STORED_BYTES,
)
from starfish_mpack_wire.errors import MPackFormatError, MPackLimitError
from starfish_mpack_wire.limits import Limits

__all__ = ("BlobEntry", "BlobFields", "BlobIndex", "find_digest", "in_storage_order")

BlobFields = tuple[bytes, int, int, int, int, int]
"""The members of a `BlobEntry`: a plain tuple of which 100,000 cost the garbage collector nothing."""


class BlobEntry(NamedTuple):
    """Which block a blob is in, and where in it."""

    digest: bytes
    offset: int
    """Of the block, in the section of blobs."""
    stored_length: int
    """Of the block; as long as ``block_length`` when it is stored as it is."""
    block_length: int
    start: int
    """In the bytes of the block."""
    length: int


def find_digest(entries: memoryview, width: int, digest: bytes) -> int | None:
    """Give the number of the entry that begins with this digest; the entries are sorted by it."""
    count = len(entries) // width

    def digest_at(number: int) -> bytes:
        start = number * width
        return bytes(entries[start : start + DIGEST_BYTES])

    number = bisect_left(range(count), digest, key=digest_at)
    return number if number < count and digest_at(number) == digest else None


class BlobIndex:
    """The entries of a pack's blobs; each is checked when it is read."""

    __slots__ = ("_limits", "_section_length", "_view")

    def __init__(self, view: memoryview, section_length: int, limits: Limits) -> None:
        self._view = view
        self._section_length = section_length
        self._limits = limits

    def __len__(self) -> int:
        """Count the blobs."""
        return len(self._view) // BLOB_ENTRY.size

    def find(self, digest: bytes) -> int | None:
        """Give the number of a blob."""
        return find_digest(self._view, BLOB_ENTRY.size, digest)

    def digests(self) -> Iterator[bytes]:
        """Give the digests of all blobs, sorted."""
        return (entry[0] for entry in BLOB_ENTRY.iter_unpack(self._view))

    def digest(self, number: int) -> bytes:
        """Give the digest of a blob."""
        start = number * BLOB_ENTRY.size
        return bytes(self._view[start : start + DIGEST_BYTES])

    def entry(self, number: int) -> BlobEntry:
        """Give an entry.

        Raises:
            MPackFormatError: it contradicts itself or its section.
            MPackLimitError: the blob is larger than the limits allow.
        """
        entry = BlobEntry._make(BLOB_ENTRY.unpack_from(self._view, number * BLOB_ENTRY.size))
        self._check(entry)
        return entry

    def checked(self) -> dict[int, BlobFields]:
        """Give all entries after the checks that need all: order, no gap, no overlap.

        They are by number, in the order in which the blobs are stored.

        Raises:
            MPackFormatError: a check failed.
            MPackLimitError: a blob, or all together, are larger than the limits allow.
        """
        entries: list[BlobFields] = list(BLOB_ENTRY.iter_unpack(self._view))
        digests = [entry[0] for entry in entries]
        if any(map(ge, digests, digests[1:])):
            raise MPackFormatError("blobs are out of order, or one is there twice")
        lengths = [entry[5] for entry in entries]
        largest, total = max(lengths, default=0), sum(lengths)
        if largest > self._limits.max_blob_bytes:
            raise MPackLimitError("max_blob_bytes", largest, self._limits.max_blob_bytes)
        ordered = in_storage_order(dict(enumerate(entries)))
        self._check_storage(ordered.values())
        if total > self._limits.max_unpacked_bytes:
            raise MPackLimitError("max_unpacked_bytes", total, self._limits.max_unpacked_bytes)
        return ordered

    def _check_storage(self, ordered: Iterable[BlobFields]) -> None:
        """Blocks follow each other, and in each the blobs; nothing is left over, nothing shared."""
        end = filled = 0
        block = (0, 0, 0)
        for entry in ordered:
            if entry[1:4] != block:
                if filled != block[2]:
                    raise MPackFormatError(
                        f"{block[2] - filled} bytes of a block belong to no blob"
                    )
                block, filled = entry[1:4], 0
                self._check(entry)  # the sums say the same of the others in its block
                if block[0] != end:
                    raise MPackFormatError(f"blocks leave a gap or overlap at {block[0]}")
                end += block[1]
            if entry[5] > MAX_STORED_BYTES:
                self._check(entry)  # which refuses it
            if entry[4] != filled:
                raise MPackFormatError(f"blobs of a block leave a gap or overlap at {entry[4]}")
            filled += entry[5]
        if filled != block[2] or end != self._section_length:
            raise MPackFormatError("bytes at the end of the blobs belong to no blob")

    def _check(self, entry: BlobFields) -> None:
        _, offset, stored_length, block_length, start, length = entry
        if length > self._limits.max_blob_bytes:
            raise MPackLimitError("max_blob_bytes", length, self._limits.max_blob_bytes)
        if length > MAX_STORED_BYTES:
            raise MPackFormatError(
                f"a blob of {length} bytes is stored as it is; one of more than {MAX_STORED_BYTES} must be "
                "a list of chunks"
            )
        if stored_length > self._section_length - offset:
            raise MPackFormatError("a block is stored outside of its section")
        if stored_length > block_length:
            raise MPackFormatError(
                f"a block of {block_length} bytes is stored as {stored_length}; it must be a frame that "
                "is shorter, or the block itself"
            )
        if length > block_length - start:
            raise MPackFormatError(
                f"a blob of {length} bytes at {start} is not in its block of {block_length}"
            )
        if block_length > MAX_BLOCK_BYTES:
            raise MPackFormatError(
                f"a block of {block_length} bytes; it must have at most {MAX_BLOCK_BYTES}"
            )


def in_storage_order(entries: dict[int, BlobFields]) -> dict[int, BlobFields]:
    """Give entries by number in the order in which their blobs are stored."""
    # One integer is quicker to make and to compare than a tuple; the last two have 32 bits.
    keys = {number: entry[1] << 64 | entry[4] << 32 | entry[5] for number, entry in entries.items()}
    return {number: entries[number] for number in sorted(keys, key=keys.__getitem__)}
