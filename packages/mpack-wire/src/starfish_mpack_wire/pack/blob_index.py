"""The index of blobs: fixed entries sorted by digest, so that a search needs no parsing."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

from starfish_mpack_wire.errors import MPackFormatError, MPackLimitError
from starfish_mpack_wire.limits import Limits
from starfish_mpack_wire.pack.layout import (
    BLOB_ENTRY,
    CODEC_RAW,
    CODEC_ZSTD_BASE,
    DIGEST_BYTES,
    MAX_BASE_BYTES,
    MAX_BLOB_CHAIN,
    MIN_COMPRESSED_BYTES,
    NO_BASE,
)

__all__ = ("BlobEntry", "BlobFields", "BlobIndex", "can_be_base", "find_digest", "in_storage_order")

BlobFields = tuple[bytes, int, int, int, int, int]
"""The members of a `BlobEntry`: a plain tuple of which 100,000 cost the garbage collector nothing."""


class BlobEntry(NamedTuple):
    """Where a blob is and how it is stored."""

    digest: bytes
    offset: int
    stored_length: int
    raw_length: int
    base: int
    codec: int


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

    def digest(self, number: int) -> bytes:
        """Give the digest of a blob."""
        start = number * BLOB_ENTRY.size
        return bytes(self._view[start : start + DIGEST_BYTES])

    def digests(self) -> Iterator[bytes]:
        """Give the digests of all blobs, sorted."""
        return (entry[0] for entry in BLOB_ENTRY.iter_unpack(self._view))

    def entry(self, number: int) -> BlobEntry:
        """Give an entry.

        Raises:
            MPackFormatError: it contradicts itself or its section.
            MPackLimitError: the blob is larger than the limits allow.
        """
        entry = BlobEntry._make(BLOB_ENTRY.unpack_from(self._view, number * BLOB_ENTRY.size))
        self._check(entry)
        return entry

    def chain(self, number: int) -> dict[int, BlobEntry]:
        """Give the number and entry of a blob, those of its base, and so on.

        Raises:
            MPackFormatError: the chain is too long, or a base is not before what needs it.
            MPackLimitError: a blob is larger than the limits allow.
        """
        entry = self.entry(number)
        found = {number: entry}
        while entry.base != NO_BASE:
            if len(found) == MAX_BLOB_CHAIN:
                raise MPackFormatError(f"a blob has more than {MAX_BLOB_CHAIN - 1} bases")
            if entry.base >= len(self):
                raise MPackFormatError(f"blob {entry.base} is a base; there are {len(self)}")
            base = found[entry.base] = self.entry(entry.base)
            if base.offset >= entry.offset or not can_be_base(base):
                raise MPackFormatError("a base is too small or large, or behind what needs it")
            entry = base
        return found

    def checked(self) -> dict[int, BlobFields]:
        """Give all entries after the checks that need all: order, no gap, no overlap, chains.

        They are by number, in the order in which the blobs are stored.

        Raises:
            MPackFormatError: a check failed.
            MPackLimitError: a blob is larger than the limits allow.
        """
        entries: list[BlobFields] = list(BLOB_ENTRY.iter_unpack(self._view))
        before = b""
        for entry in entries:
            self._check(entry)
            if entry[0] <= before:
                raise MPackFormatError("blobs are out of order, or one is there twice")
            before = entry[0]
        ordered = in_storage_order(dict(enumerate(entries)))
        self._check_storage(entries, ordered)
        total = sum(entry[3] for entry in entries)
        if total > self._limits.max_unpacked_bytes:
            raise MPackLimitError("max_unpacked_bytes", total, self._limits.max_unpacked_bytes)
        return ordered

    def _check_storage(self, entries: list[BlobFields], ordered: dict[int, BlobFields]) -> None:
        end = 0
        bases: list[int] = []  # of the blob before: itself, its base, the base of that
        for number, (_, offset, stored_length, _, base, _) in ordered.items():
            if offset != end:
                raise MPackFormatError(f"stored blobs leave a gap or overlap at {offset}")
            end += stored_length
            if base == NO_BASE:
                bases.clear()
            while bases and bases[-1] != base:
                bases.pop()
            if base != NO_BASE and not (bases and can_be_base(entries[base])):
                raise MPackFormatError(
                    "a base is too small or large, or neither the blob before nor one of its bases"
                )
            bases.append(number)
            if len(bases) > MAX_BLOB_CHAIN:
                raise MPackFormatError(f"a blob has more than {MAX_BLOB_CHAIN - 1} bases")
        if end != self._section_length:
            raise MPackFormatError(f"{self._section_length - end} bytes belong to no blob")

    def _check(self, entry: BlobFields) -> None:
        _, offset, stored_length, raw_length, base, codec = entry
        if raw_length > self._limits.max_blob_bytes:
            raise MPackLimitError("max_blob_bytes", raw_length, self._limits.max_blob_bytes)
        if stored_length > self._section_length - offset:
            raise MPackFormatError("a blob is stored outside of its section")
        if codec > CODEC_ZSTD_BASE:
            raise MPackFormatError(f"codec {codec} is unknown; legal are 0 to {CODEC_ZSTD_BASE}")
        if stored_length != raw_length if codec == CODEC_RAW else stored_length >= raw_length:
            raise MPackFormatError(
                f"{raw_length} bytes stored as {stored_length} with codec {codec}; raw keeps the "
                "length, and zstd is for what becomes smaller"
            )
        if (base != NO_BASE) is not (codec == CODEC_ZSTD_BASE):
            raise MPackFormatError(f"codec {codec} with base {base}")
        if base != NO_BASE and raw_length > MAX_BASE_BYTES:
            raise MPackFormatError(f"a blob of {raw_length} bytes with a base")


def can_be_base(entry: BlobFields) -> bool:
    """Tell whether the size of a blob lets another be stored upon it."""
    return MIN_COMPRESSED_BYTES <= entry[3] <= MAX_BASE_BYTES


def in_storage_order(entries: dict[int, BlobFields]) -> dict[int, BlobFields]:
    """Give entries by number in the order in which their blobs are stored."""
    # One integer is quicker to make and to compare than a pair; a stored length has 32 bits.
    keys = {number: entry[1] << 32 | entry[2] for number, entry in entries.items()}
    return {number: entries[number] for number in sorted(keys, key=keys.__getitem__)}
