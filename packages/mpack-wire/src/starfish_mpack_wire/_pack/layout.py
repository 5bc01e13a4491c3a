"""The numbers of the format, and where the parts of a pack are. docs/mpack-format.md says why.

A pack is a header, ten sections in a fixed order without gaps, the table of the sections, and the
SHA-256 of all before it. The table is at the end so that a pack can be written to a pipe.
All integers are unsigned and big-endian.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from typing import Final

from starfish_mpack_wire.errors import MPackFormatError, MPackLimitError
from starfish_mpack_wire.limits import Limits

__all__ = (
    "BLOB_ENTRY",
    "BLOCK_BLOBS",
    "BLOCK_BYTES",
    "DIGEST_BYTES",
    "GROUP_BYTES",
    "GROUP_ENTRY",
    "HEADER",
    "ID_ENTRY",
    "MAX_BLOCK_BYTES",
    "MAX_SNAPSHOT_CHAIN",
    "MAX_STORED_BYTES",
    "TRAILER_BYTES",
    "Section",
    "Sections",
    "encode_section_table",
)

HEADER: Final = b"\x89MPACK\r\n\x1a\n" + struct.pack(">HI", 1, 0)
"""Magic, that shows what text modes and seven-bit channels do to it; version 1; no flags."""

DIGEST_BYTES: Final = 32

BLOB_ENTRY: Final = struct.Struct(">32sQIIII")
"""Index of blobs: digest; offset of the block in the section of blobs, its stored bytes, its bytes; where in
these the blob begins, and the bytes of the blob."""
ID_ENTRY: Final = struct.Struct(">32sI")
"""Index of commits, of snapshots and of lists of chunks: digest, number of the record."""
GROUP_ENTRY: Final = struct.Struct(">III")
"""Table of groups: records, stored bytes, decompressed bytes."""

BLOCK_BYTES: Final = 128 * 1024
"""A block is closed when it has as many bytes, and `BLOCK_BLOBS` times those of its first blob."""
BLOCK_BLOBS: Final = 8
MAX_BLOCK_BYTES: Final = 4 * 1024**2
"""Largest block: reading a blob of it stays cheap."""
MAX_STORED_BYTES: Final = 1024**2
"""Largest blob that is stored as its bytes; a larger one is a list of chunks."""

MAX_SNAPSHOT_CHAIN: Final = 64
"""Snapshots to read for one, itself included."""
GROUP_BYTES: Final = 128 * 1024
"""A group of records is closed when it has as many bytes."""


class Section(enum.IntEnum):
    """The sections, in the order in which they stand."""

    BLOBS = 1
    BLOB_INDEX = 2
    FOREIGN_IDS = 3
    COMMIT_INDEX = 4
    COMMITS = 5
    SNAPSHOT_INDEX = 6
    SNAPSHOTS = 7
    TAGS = 8
    CHUNKED_INDEX = 9
    CHUNKED = 10


_TABLE_ENTRY = struct.Struct(">IQQ")
_TABLE = struct.Struct(">" + "IQQ" * len(Section))
TRAILER_BYTES: Final = _TABLE.size + DIGEST_BYTES
"""Section table and footer."""


def encode_section_table(lengths: Sequence[int]) -> bytes:
    """Give the table of sections of these lengths, that follow the header without gaps."""
    table: list[int] = []
    offset = len(HEADER)
    for section, length in zip(Section, lengths, strict=True):
        table += (section, offset, length)
        offset += length
    return _TABLE.pack(*table)


class Sections:
    """The sections of some bytes, as views of them.

    Raises:
        MPackFormatError: the bytes are not a pack, cut off, or longer than they say.
        MPackLimitError: there are more of them, or more entries, than the limits allow.
    """

    __slots__ = (
        "blob_count",
        "chunked_count",
        "commit_count",
        "foreign_count",
        "snapshot_count",
        "views",
        "whole",
    )

    def __init__(self, data: memoryview, limits: Limits) -> None:
        self.whole = data
        """All bytes of the pack."""
        size = len(data)
        if size > limits.max_pack_bytes:
            raise MPackLimitError("max_pack_bytes", size, limits.max_pack_bytes)
        _check_header(data)
        if size < len(HEADER) + TRAILER_BYTES:
            raise MPackFormatError(f"a pack of {size} bytes; it is cut off")
        self.views: dict[Section, memoryview] = {}
        """The bytes of each section."""
        end = len(HEADER)
        trailer = size - TRAILER_BYTES
        table = _TABLE_ENTRY.iter_unpack(data[trailer:-DIGEST_BYTES])
        for section, (kind, offset, length) in zip(Section, table, strict=True):
            if kind != section:
                raise MPackFormatError(f"section {kind} where {section} ({section.name}) must be")
            if offset != end or length > trailer - end:
                raise MPackFormatError(f"section {section.name} is not at {end}, or too long")
            end += length
            self.views[section] = data[offset:end]
        if end != trailer:
            raise MPackFormatError(f"{trailer - end} bytes belong to no section")
        self.blob_count = self._count(Section.BLOB_INDEX, BLOB_ENTRY.size, limits.max_blobs)
        self.foreign_count = self._count(Section.FOREIGN_IDS, DIGEST_BYTES, limits.max_foreign_ids)
        self.commit_count = self._count(Section.COMMIT_INDEX, ID_ENTRY.size, limits.max_commits)
        self.snapshot_count = self._count(
            Section.SNAPSHOT_INDEX, ID_ENTRY.size, limits.max_snapshots
        )
        self.chunked_count = self._count(Section.CHUNKED_INDEX, ID_ENTRY.size, limits.max_blobs)

    def _count(self, section: Section, entry: int, allowed: int) -> int:
        count, rest = divmod(len(self.views[section]), entry)
        if rest:
            raise MPackFormatError(f"section {section.name} is not a multiple of {entry} bytes")
        if count > allowed:
            limit = {
                Section.BLOB_INDEX: "max_blobs",
                Section.FOREIGN_IDS: "max_foreign_ids",
                Section.COMMIT_INDEX: "max_commits",
                Section.SNAPSHOT_INDEX: "max_snapshots",
                Section.CHUNKED_INDEX: "max_blobs",
            }[section]
            raise MPackLimitError(limit, count, allowed)
        return count

    @property
    def footer(self) -> memoryview:
        """The SHA-256 of all bytes before it, as it is written there."""
        return self.whole[-DIGEST_BYTES:]


def _check_header(data: memoryview) -> None:
    found = bytes(data[: len(HEADER)])
    if found == HEADER:
        return
    if found[:10] != HEADER[:10]:
        raise MPackFormatError(f"bytes that begin with {found[:10]!r} are not a pack")
    raise MPackFormatError(
        f"version and flags {found[10:].hex()} are unknown; this program reads version 1"
    )
