"""Packs that were made to harm their reader, one attack each."""

from __future__ import annotations

import struct
import sys
import tracemalloc
from hashlib import sha256

import msgpack
import pytest

from starfish_mpack_wire import (
    Limits,
    MPackFormatError,
    MPackIntegrityError,
    MPackLimitError,
    MPackReader,
    blob_id,
    build_mpack,
    commit_id,
    parse_wire_mpack,
)
from starfish_mpack_wire._pack.layout import (
    BLOB_ENTRY,
    GROUP_ENTRY,
    HEADER,
    MAX_BLOCK_BYTES,
    MAX_STORED_BYTES,
    Section,
    encode_section_table,
)
from starfish_mpack_wire.testing.damage import assemble, group_of, reseal, sections_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

EMPTY = sections_of(build_mpack([], [], []))
MIB = 2**20


def digest(content: bytes) -> bytes:
    return sha256(content).digest()


def pack_of_blobs(stored: bytes, *entries: tuple[bytes, int, int, int, int, int]) -> bytes:
    index = b"".join(BLOB_ENTRY.pack(*entry) for entry in entries)
    return assemble({**EMPTY, Section.BLOBS: stored, Section.BLOB_INDEX: index})


def refuse(pack: bytes, match: str, error=MPackFormatError) -> None:
    """Expect the error of the parser and of ``verify``, with little memory used on the way."""
    tracemalloc.start()
    with pytest.raises(error, match=match):
        parse_wire_mpack(pack)
    with pytest.raises(error, match=match):
        MPackReader(pack).verify()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * len(pack) + 24 * MIB


def test_bytes_that_are_no_pack() -> None:
    for data in (b"", b"PACK", b"\x1f\x8b\x08", b"<!doctype html>" * 40, HEADER, HEADER * 2):
        with pytest.raises(MPackFormatError):
            parse_wire_mpack(data)


def test_a_pack_that_went_through_a_text_mode_is_named() -> None:
    with pytest.raises(MPackFormatError, match="not a pack"):
        parse_wire_mpack(build_mpack([], [], []).replace(b"\r\n", b"\n"))


def test_another_version_and_unknown_flags() -> None:
    for header in (HEADER[:10] + b"\0\2\0\0\0\0", HEADER[:10] + b"\0\1\0\0\0\1"):
        pack = reseal(header + build_mpack([], [], [])[16:])
        refuse(pack, "version")


@pytest.mark.parametrize("cut", [1, 31, 32, 33, 100, 191, 192])
def test_a_pack_that_is_cut_off_or_longer(cut: int) -> None:
    pack = build_mpack([], [], [{"object_id": blob_id(b"x"), "content": b"x"}])

    for damaged in (pack[:-cut], pack + bytes(cut)):
        with pytest.raises((MPackFormatError, MPackIntegrityError)):
            parse_wire_mpack(damaged)
        with pytest.raises(MPackFormatError):
            parse_wire_mpack(reseal(damaged))


def table_with(change) -> bytes:
    pack = build_mpack([], [], [{"object_id": blob_id(b"x"), "content": b"x"}])
    table = [list(each) for each in struct.iter_unpack(">IQQ", pack[-192:-32])]
    change(table)
    packed = b"".join(struct.pack(">IQQ", *each) for each in table)
    return reseal(pack[:-192] + packed + bytes(32))


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table[1].__setitem__(0, 1),
        lambda table: table.reverse(),
        lambda table: table[0].__setitem__(0, 99),
        lambda table: table[0].__setitem__(1, 0),
        lambda table: table[1].__setitem__(1, 16),
        lambda table: table[0].__setitem__(2, 2**64 - 1),
        lambda table: table[7].__setitem__(2, 0),
        lambda table: table[1].__setitem__(1, 2**64 - 1),
    ],
    ids=["twice", "reversed", "unknown", "at 0", "overlap", "huge", "gap", "far away"],
)
def test_a_table_that_names_sections_twice_over_each_other_or_outside(change) -> None:
    refuse(table_with(change), "section|bytes belong")


def test_a_frame_that_makes_more_than_was_declared_stops_there() -> None:
    bomb = zstd.compress(bytes(512 * MIB))
    assert zstd.get_frame_info(bomb).decompressed_size == 512 * MIB
    name = digest(bytes(512 * MIB))
    raw = len(bomb) + 1

    refuse(pack_of_blobs(bomb, (name, 0, len(bomb), raw, 0, raw)), "frame")


def test_a_frame_that_does_not_say_its_size_stops_there_as_well() -> None:
    bomb = zstd.compress(bytes(512 * MIB), options={zstd.CompressionParameter.content_size_flag: 0})
    raw = len(bomb) + 1

    refuse(pack_of_blobs(bomb, (bytes(32), 0, len(bomb), raw, 0, raw)), "frame")


def test_a_group_of_records_that_makes_more_than_was_declared_stops_there() -> None:
    bomb = zstd.compress(bytes(512 * MIB))
    section = b"\0\0\0\1" + GROUP_ENTRY.pack(1, len(bomb), 100) + bomb

    refuse(assemble({**EMPTY, Section.TAGS: section}), "frame")


def test_a_declared_size_beyond_the_limits_is_refused_before_it_is_used() -> None:
    frame = zstd.compress(bytes(1000))
    entry = (digest(bytes(1000)), 0, len(frame), 1 << 31, 0, 1 << 31)
    group = b"\0\0\0\1" + GROUP_ENTRY.pack(1, len(frame), 1 << 31) + frame

    refuse(pack_of_blobs(frame, entry), "list of chunks")
    refuse(assemble({**EMPTY, Section.TAGS: group}), "max_group_bytes", MPackLimitError)


def test_a_frame_that_wants_a_large_window_is_refused() -> None:
    content = b"".join(digest(b"%d" % number) for number in range(1000)) * 2
    compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
    frame = compressor.compress(content) + compressor.flush()
    assert zstd.decompress(frame) == content
    entry = (digest(content), 0, len(frame), len(content), 0, len(content))

    refuse(pack_of_blobs(frame, entry), "frame")


@pytest.mark.parametrize("kind", ["two frames", "bytes behind", "skippable", "short", "no frame"])
def test_a_stored_block_is_exactly_one_frame_of_the_declared_size(kind: str) -> None:
    content = bytes(200)
    frame = zstd.compress(content)
    stored, length = {
        "two frames": (zstd.compress(bytes(100)) * 2, 200),
        "bytes behind": (frame + b"\0", 200),
        "skippable": (b"\x50\x2a\x4d\x18\0\0\0\0" + frame, 200),
        "short": (frame, 201),
        "no frame": (b"not a frame", 200),
    }[kind]
    entry = (digest(content), 0, len(stored), length, 0, length)

    refuse(pack_of_blobs(stored, entry), "frame")


X = digest(b"x")
RAW = (X, 0, 1, 1, 0, 1)


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        ((X, 0, 1, 0, 0, 0), "is stored as 1"),
        ((X, 0, 1, 1, 0, 2), "not in its block"),
        ((X, 0, 1, 1, 1, 1), "not in its block"),
        ((X, 0, 1, 1, 2**32 - 1, 1), "not in its block"),
        ((X, 0, 1, MAX_BLOCK_BYTES + 1, 0, 1), "at most"),
        ((X, 0, 1, 2**32 - 1, 0, 1), "at most"),
        ((X, 0, 1, 2, 0, 1), "no blob"),
        ((X, 0, 1, 2, 1, 1), "leave a gap"),
        ((X, 1, 1, 1, 0, 1), "outside"),
        ((X, 2**64 - 1, 1, 1, 0, 1), "outside"),
        ((X, 0, 2, 2, 0, 2), "outside"),
        ((digest(b""), 0, 0, 0, 0, 0), "no blob"),
    ],
)
def test_an_entry_that_contradicts_itself(entry, match: str) -> None:
    refuse(pack_of_blobs(b"x", entry), match)


@pytest.mark.parametrize(
    ("stored", "one", "two", "match"),
    [
        (b"xy", (1, 1, 1, 0, 1), (0, 1, 1, 0, 1), None),
        (b"xy", (0, 2, 2, 0, 1), (0, 2, 2, 1, 1), None),
        (b"x", (0, 1, 1, 0, 1), (0, 1, 1, 0, 1), "overlap"),
        (b"xyz", (0, 1, 1, 0, 1), (2, 1, 1, 0, 1), "gap"),
        (b"xy", (0, 2, 2, 0, 1), (0, 2, 2, 0, 2), "overlap"),
        (b"xyz", (0, 3, 3, 0, 1), (0, 3, 3, 2, 1), "gap"),
        (b"xyz", (0, 3, 3, 0, 1), (0, 3, 3, 1, 1), "no blob"),
        (b"xyz", (0, 2, 2, 0, 1), (2, 1, 1, 0, 1), "no blob"),
        (b"xy", (0, 2, 2, 0, 2), (1, 1, 1, 0, 1), "overlap"),
        (b"xy", (0, 1, 2, 0, 1), (0, 2, 2, 1, 1), "no blob"),
        (b"xy", (0, 0, 1, 0, 1), (0, 2, 2, 0, 2), "frame"),
    ],
)
def test_blobs_and_blocks_stand_side_by_side(stored: bytes, one, two, match: str | None) -> None:
    names = [digest(stored[each[0] + each[3] :][: each[4]]) for each in (one, two)]
    if names[0] == names[1]:
        names[1] = digest(b"another")
    entries = sorted(zip(names, (one, two), strict=True))
    pack = pack_of_blobs(stored, *((name, *entry) for name, entry in entries))

    if match is None:
        assert len(parse_wire_mpack(pack)["blobs"]) == 2
    else:
        refuse(pack, match)


def test_a_blob_of_more_than_1_mib_is_never_stored_as_its_bytes() -> None:
    content = bytes(MAX_STORED_BYTES + 1)
    frame = zstd.compress(content)
    alone = (digest(content), 0, len(frame), len(content), 0, len(content))
    double = content * 2
    second = zstd.compress(double)
    block = (0, len(second), len(double))
    two = [
        (digest(content), *block, 0, len(content)),
        (digest(b"x"), *block, len(content), len(content)),
    ]

    refuse(pack_of_blobs(frame, alone), "list of chunks")
    refuse(pack_of_blobs(second, *sorted(two)), "list of chunks")


def test_blobs_twice_or_out_of_order() -> None:
    one, two = sorted((digest(b"x"), digest(b"y")))

    refuse(pack_of_blobs(b"x", RAW, RAW), "twice")
    refuse(pack_of_blobs(b"xy", (two, 0, 1, 1, 0, 1), (one, 1, 1, 1, 0, 1)), "order")


def test_many_blobs_of_one_bomb_decompress_it_once_and_no_further_than_declared() -> None:
    content = bytes(MAX_BLOCK_BYTES)
    frame = zstd.compress(content)
    entries = [
        (digest(b"%d" % number), 0, len(frame), MAX_BLOCK_BYTES, 0, 1) for number in range(100)
    ]

    refuse(pack_of_blobs(frame, *sorted(entries)), "overlap")


@pytest.mark.parametrize(
    "record",
    [
        b"\x91" * 100_000,
        b"\xdd\x00\x00\x0f\xff" * 20_000,
        b"\x81\xa1a" * 50_000,
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc7\xff\x01" + bytes(255),
        b"\xd6\xff\x00\x00\x00\x00",
        b"\xc1",
        b"\xc0",
        b"\xa1\xff",
    ],
    ids=[
        "nested lists",
        "nested lists that claim members",
        "nested maps",
        "huge map",
        "huge list",
        "huge text",
        "huge bytes",
        "extension",
        "timestamp",
        "reserved",
        "nil",
        "no UTF-8",
    ],
)
@pytest.mark.parametrize("section", [Section.TAGS, Section.COMMITS, Section.SNAPSHOTS])
def test_msgpack_bombs_and_values_of_other_kinds(record: bytes, section: Section) -> None:
    index = {Section.COMMITS: Section.COMMIT_INDEX, Section.SNAPSHOTS: Section.SNAPSHOT_INDEX}
    sections = {**EMPTY, section: group_of(record, 1)}
    if section in index:
        sections[index[section]] = struct.pack(">32sI", bytes(32), 0)

    refuse(assemble(sections), ".", (MPackFormatError, MPackLimitError))


def commit_pack(record: bytes) -> bytes:
    entry = struct.pack(">32sI", bytes(32), 0)
    foreign = bytes(31) + b"\1"
    return assemble(
        {
            **EMPTY,
            Section.COMMIT_INDEX: entry,
            Section.COMMITS: group_of(record, 1),
            Section.FOREIGN_IDS: foreign,
        }
    )


BODY = {
    "branch": "main",
    "snapshot_id": 0,
    "parent_ids": [],
    "message": "m",
    "author": "a",
    "committed_at": "2026-01-31T12:00:00Z",
}


def test_a_record_in_any_but_its_one_encoding() -> None:
    good = msgpack.packb(BODY)
    swapped = dict(reversed(BODY.items()))
    forms = {
        "another order": msgpack.packb(swapped),
        "a key twice": b"\x87" + good[1:] + msgpack.packb("author") + msgpack.packb("b"),
        "a long form": good.replace(b"\xa1m", b"\xd9\x01m"),
        "bytes as key": good.replace(b"\xa6author", b"\xc4\x06author"),
        "a number as parent list": msgpack.packb({**BODY, "parent_ids": 0}),
        "a parent by id": msgpack.packb({**BODY, "parent_ids": [blob_id(b"")]}),
        "no number": msgpack.packb({**BODY, "snapshot_id": True}),
        "a negative number": msgpack.packb({**BODY, "snapshot_id": -1}),
        "its own parent": msgpack.packb({**BODY, "parent_ids": [0]}),
        "no such number": msgpack.packb({**BODY, "parent_ids": [2**40]}),
        "a parent twice": msgpack.packb({**BODY, "parent_ids": [1, 1]}),
        "its id inside": msgpack.packb({**BODY, "commit_id": "x"}),
        "a key missing": msgpack.packb({key: BODY[key] for key in list(BODY)[1:]}),
        "not a number": msgpack.packb({**BODY, "x": float("nan")}),
        "a short float": good[:1].replace(b"\x86", b"\x87") + good[1:] + b"\xa1x\xca\0\0\0\0",
        "metadata of numbers": msgpack.packb({**BODY, "metadata": {"a": 1}}),
        "no time": msgpack.packb({**BODY, "committed_at": "yesterday"}),
    }

    for record in forms.values():
        with pytest.raises(MPackFormatError):
            parse_wire_mpack(commit_pack(record))
    with pytest.raises(MPackIntegrityError):  # the good one is refused for its id only
        parse_wire_mpack(commit_pack(good))


def test_a_foreign_id_that_nothing_names_twice_or_out_of_order() -> None:
    one, two = bytes(31) + b"\1", bytes(31) + b"\2"

    for foreign in (one, one + one, two + one):
        with pytest.raises(MPackFormatError, match="foreign"):
            parse_wire_mpack(assemble({**EMPTY, Section.FOREIGN_IDS: foreign}))
    refuse(assemble({**EMPTY, Section.FOREIGN_IDS: one[:-1]}), "multiple")


def test_a_chain_of_65_snapshots_is_refused() -> None:
    snapshots, parent = [], None
    for number in range(65):
        name = blob_id(b"%d" % number)
        snapshots.append(
            {
                "snapshot_id": name,
                "parent_snapshot_id": parent,
                "upsert": {},
                "remove": [],
                "directories": [],
            }
        )
        parent = name

    assert len(parse_wire_mpack(build_mpack([], snapshots[:64], []))["snapshots"]) == 64
    with pytest.raises(MPackFormatError, match="at most 63"):
        build_mpack([], snapshots, [])


def test_indexes_that_do_not_fit_their_records() -> None:
    entry = struct.pack(">32sI", bytes(32), 0)
    other = struct.pack(">32sI", bytes(31) + b"\1", 0)
    snapshot = group_of(msgpack.packb([None, "", b"", "", ""]), 1)
    two = group_of(msgpack.packb([None, "", b"", "", ""]) * 2, 2)
    far = struct.pack(">32sI", bytes(32), 9)

    for index, records in (
        (entry, EMPTY[Section.SNAPSHOTS]),
        (b"", snapshot),
        (far, snapshot),
        (entry + other, two),
        (entry[:-1], snapshot),
    ):
        refuse(
            assemble({**EMPTY, Section.SNAPSHOT_INDEX: index, Section.SNAPSHOTS: records}),
            "index|INDEX",
        )


@pytest.mark.parametrize(
    ("limit", "value"),
    [
        ("max_pack_bytes", 300),
        ("max_commits", 1),
        ("max_snapshots", 1),
        ("max_blobs", 1),
        ("max_tags", 0),
        ("max_blob_bytes", 100),
        ("max_content_bytes", 150),
        ("max_unpacked_bytes", 150),
        ("max_group_bytes", 20),
        ("max_records_bytes", 20),
        ("max_items", 0),
        ("max_text_bytes", 1),
        ("max_foreign_ids", 0),
    ],
)
def test_each_limit_is_kept_and_named(limit: str, value: int) -> None:
    bodies = [{**BODY, "snapshot_id": blob_id(b"%d" % each), "message": "text"} for each in (0, 1)]
    bodies[1]["parent_ids"] = [commit_id(bodies[0])]
    snapshots = [
        {
            "snapshot_id": blob_id(b"%d" % each),
            "parent_snapshot_id": blob_id(b"elsewhere"),
            "upsert": {},
            "remove": [],
            "directories": [],
        }
        for each in (0, 1)
    ]
    commits = [{"commit_id": commit_id(body), **body} for body in bodies]
    blobs = [{"object_id": blob_id(each), "content": each} for each in (bytes(101), b"1" * 101)]
    tags = [{"name": "v1", "commit_id": commits[0]["commit_id"]}]
    pack = build_mpack(commits, snapshots, blobs, tags)
    parse_wire_mpack(pack)

    with pytest.raises(MPackLimitError) as caught:
        parse_wire_mpack(pack, limits=Limits(**{limit: value}))

    assert (caught.value.limit, caught.value.allowed) == (limit, value)


def test_a_table_of_sections_is_what_its_lengths_say() -> None:
    assert encode_section_table([0] * 10)[:20] == struct.pack(">IQQ", 1, 16, 0)
