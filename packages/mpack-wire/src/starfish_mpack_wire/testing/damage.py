"""Takes packs to pieces and puts damaged ones together, with a seal that fits."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

from starfish_mpack_wire._pack.layout import (
    DIGEST_BYTES,
    HEADER,
    Section,
    Sections,
    encode_section_table,
)
from starfish_mpack_wire._pack.record_groups import RecordGroups, encode_groups
from starfish_mpack_wire.limits import Limits

__all__ = (
    "RECORD_SECTIONS",
    "assemble",
    "group_of",
    "record_count",
    "records_of",
    "reseal",
    "sections_of",
)

RECORD_SECTIONS = (Section.COMMITS, Section.SNAPSHOTS, Section.TAGS, Section.CHUNKED)
"""Sections that are groups of msgpack."""


def sections_of(pack: bytes) -> dict[Section, bytes]:
    """Give the bytes of each section of a good pack."""
    views = Sections(memoryview(pack), Limits()).views
    return {section: bytes(view) for section, view in views.items()}


def assemble(sections: Mapping[Section, bytes]) -> bytes:
    """Give a pack of these sections, whatever is in them; table and seal fit."""
    parts = [sections[section] for section in Section]
    table = encode_section_table([len(part) for part in parts])
    return reseal(b"".join((HEADER, *parts, table, bytes(DIGEST_BYTES))))


def reseal(pack: bytes) -> bytes:
    """Replace the last 32 bytes by the hash of the bytes before them."""
    body = pack[:-DIGEST_BYTES]
    return body + sha256(body).digest()


def records_of(section: bytes) -> bytes:
    """Give the msgpack of all groups of a section of records."""
    groups = RecordGroups(memoryview(section), "records", Limits())
    return b"".join(groups.read(group) for group in range(len(groups)))


def record_count(section: bytes) -> int:
    """Count the records of a section."""
    return RecordGroups(memoryview(section), "records", Limits()).record_count


def group_of(records: bytes, count: int) -> bytes:
    """Give a section of one group that claims to hold so many records."""
    if not records:
        return encode_groups([])
    return encode_groups([records, *[b""] * (count - 1)]) if count > 0 else encode_groups([records])
