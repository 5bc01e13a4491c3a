"""Sections of records: groups of msgpack, each one zstd frame, behind a table of their sizes.

``count of groups (4 bytes) | records, stored bytes, decompressed bytes (4 bytes each) … | frames …``
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterable

from starfish_mpack_wire._pack.frame import compress, decompress
from starfish_mpack_wire._pack.layout import GROUP_BYTES, GROUP_ENTRY
from starfish_mpack_wire.errors import MPackFormatError, MPackLimitError
from starfish_mpack_wire.limits import Limits

__all__ = ("RecordGroups", "encode_groups")


def encode_groups(records: Iterable[bytes]) -> bytes:
    """Give the section of these records."""
    table: list[bytes] = []
    frames: list[bytes] = []
    pending: list[bytes] = []
    size = 0

    def close() -> None:
        raw = b"".join(pending)
        frames.append(compress(raw))
        table.append(GROUP_ENTRY.pack(len(pending), len(frames[-1]), len(raw)))

    for record in records:
        pending.append(record)
        size += len(record)
        if size >= GROUP_BYTES:
            close()
            pending, size = [], 0
    if pending:
        close()
    return b"".join((len(table).to_bytes(4, "big"), *table, *frames))


class RecordGroups:
    """The groups of a section.

    Raises:
        MPackFormatError: the table does not describe the section.
        MPackLimitError: a group, or all of them, would be larger than the limits allow.
    """

    __slots__ = ("_ends", "_frames", "_raw_lengths", "_record_ends")

    def __init__(self, section: memoryview, name: str, limits: Limits) -> None:
        count = int.from_bytes(section[:4], "big")
        frames_at = 4 + count * GROUP_ENTRY.size
        if len(section) < frames_at or len(section) < 4:
            raise MPackFormatError(f"section {name} is too short for a table of {count} groups")
        entries: list[tuple[int, int, int]] = list(GROUP_ENTRY.iter_unpack(section[4:frames_at]))
        for records, _, raw_length in entries:
            if raw_length > limits.max_group_bytes:
                raise MPackLimitError("max_group_bytes", raw_length, limits.max_group_bytes)
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
            raise MPackFormatError(f"the groups of {name} do not fill their section")

    def __len__(self) -> int:
        """Count the groups."""
        return len(self._ends)

    @property
    def record_count(self) -> int:
        """Records in all groups."""
        return self._record_ends[-1] if self._record_ends else 0

    @property
    def raw_bytes(self) -> int:
        """Bytes of all groups, decompressed."""
        return sum(self._raw_lengths)

    def find(self, record: int) -> tuple[int, int]:
        """Give the group of a record, and the place of the record in it."""
        group = bisect_right(self._record_ends, record)
        return group, record - self.first_record(group)

    def first_record(self, group: int) -> int:
        """Give the number of the first record of a group."""
        return self._record_ends[group - 1] if group else 0

    def records_in(self, group: int) -> int:
        """Count the records of a group."""
        return self._record_ends[group] - self.first_record(group)

    def read(self, group: int) -> bytes:
        """Decompress a group.

        Raises:
            MPackFormatError: its frame is damaged.
        """
        start = self._ends[group - 1] if group else 0
        return decompress(self._frames[start : self._ends[group]], self._raw_lengths[group])
