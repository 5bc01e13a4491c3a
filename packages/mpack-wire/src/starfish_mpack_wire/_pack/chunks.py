"""Sections of records: chunks of msgpack, each one zstd frame, behind a table of their sizes.

``count of chunks (4 bytes) | records, stored bytes, decompressed bytes (4 bytes each) … | frames …``
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterable

from starfish_mpack_wire._pack.frame import compress, decompress
from starfish_mpack_wire._pack.layout import CHUNK_BYTES, CHUNK_ENTRY
from starfish_mpack_wire.errors import MPackFormatError, MPackLimitError
from starfish_mpack_wire.limits import Limits

__all__ = ("Chunks", "encode_chunks")


def encode_chunks(records: Iterable[bytes]) -> bytes:
    """Give the section of these records."""
    table: list[bytes] = []
    frames: list[bytes] = []
    pending: list[bytes] = []
    size = 0

    def close() -> None:
        raw = b"".join(pending)
        frames.append(compress(raw))
        table.append(CHUNK_ENTRY.pack(len(pending), len(frames[-1]), len(raw)))

    for record in records:
        pending.append(record)
        size += len(record)
        if size >= CHUNK_BYTES:
            close()
            pending, size = [], 0
    if pending:
        close()
    return b"".join((len(table).to_bytes(4, "big"), *table, *frames))


class Chunks:
    """The chunks of a section.

    Raises:
        MPackFormatError: the table does not describe the section.
        MPackLimitError: a chunk, or all of them, would be larger than the limits allow.
    """

    __slots__ = ("_ends", "_frames", "_raw_lengths", "_record_ends")

    def __init__(self, section: memoryview, name: str, limits: Limits) -> None:
        count = int.from_bytes(section[:4], "big")
        frames_at = 4 + count * CHUNK_ENTRY.size
        if len(section) < frames_at or len(section) < 4:
            raise MPackFormatError(f"section {name} is too short for a table of {count} chunks")
        entries: list[tuple[int, int, int]] = list(CHUNK_ENTRY.iter_unpack(section[4:frames_at]))
        for records, _, raw_length in entries:
            if raw_length > limits.max_chunk_bytes:
                raise MPackLimitError("max_chunk_bytes", raw_length, limits.max_chunk_bytes)
            if not 0 < records <= raw_length:
                raise MPackFormatError(f"{records} records in {raw_length} bytes of {name}")
        self._record_ends = list(itertools.accumulate(entry[0] for entry in entries))
        self._ends = list(itertools.accumulate(entry[1] for entry in entries))
        self._raw_lengths = [entry[2] for entry in entries]
        self._frames = section[frames_at:]
        if sum(self._raw_lengths) > limits.max_records_bytes:
            raise MPackLimitError(
                "max_records_bytes", sum(self._raw_lengths), limits.max_records_bytes
            )
        if (self._ends[-1] if self._ends else 0) != len(self._frames):
            raise MPackFormatError(f"the chunks of {name} do not fill their section")

    def __len__(self) -> int:
        """Count the chunks."""
        return len(self._ends)

    @property
    def record_count(self) -> int:
        """Records in all chunks."""
        return self._record_ends[-1] if self._record_ends else 0

    def find(self, record: int) -> tuple[int, int]:
        """Give the chunk of a record, and the place of the record in it."""
        chunk = bisect_right(self._record_ends, record)
        return chunk, record - self.first_record(chunk)

    def first_record(self, chunk: int) -> int:
        """Give the number of the first record of a chunk."""
        return self._record_ends[chunk - 1] if chunk else 0

    def records_in(self, chunk: int) -> int:
        """Count the records of a chunk."""
        return self._record_ends[chunk] - self.first_record(chunk)

    def read(self, chunk: int) -> bytes:
        """Decompress a chunk.

        Raises:
            MPackFormatError: its frame is damaged.
        """
        start = self._ends[chunk - 1] if chunk else 0
        return decompress(self._frames[start : self._ends[chunk]], self._raw_lengths[chunk])
