"""Blobs above 1 MiB: cut by their content, listed, joined, and refused when a list breaks a rule."""

from __future__ import annotations

import random
import struct
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starfish_mpack_wire import (
    Limits,
    MPackFormatError,
    MPackIntegrityError,
    MPackLimitError,
    MPackReader,
    ObjectNotFoundError,
    blob_id,
    build_mpack,
    parse_wire_mpack,
)
from starfish_mpack_wire._pack.cutting import CHUNK_SIZES, cut
from starfish_mpack_wire._pack.layout import ID_ENTRY, MAX_STORED_BYTES, Section
from starfish_mpack_wire.testing.damage import assemble, group_of, sections_of

MIB = 2**20
NOISE = random.Random(11).randbytes(2 * MIB)


def record(content: bytes) -> dict[str, Any]:
    return {"object_id": blob_id(content), "content": content}


def list_of(content: bytes) -> dict[str, Any]:
    return {"object_id": blob_id(content), "chunks": [tuple(each) for each in cut(content)[0]]}


def test_a_large_blob_comes_back_whole_and_its_chunks_are_no_blobs_of_their_own() -> None:
    pack = build_mpack([], [], [record(NOISE), record(b"small")])

    with MPackReader(pack) as reader:
        reader.verify()
        assert b"".join(reader.blob_pieces(blob_id(NOISE))) == NOISE == reader.blob(blob_id(NOISE))
        assert reader.blob_length(blob_id(NOISE)) == 2 * MIB
        assert reader.is_whole(blob_id(NOISE))
        chunks = reader.chunk_lists()[blob_id(NOISE)]
        assert reader.blob_count == len(chunks) + 2
        assert all(reader.has_blob(chunk.object_id) for chunk in chunks)
    assert parse_wire_mpack(pack)["blobs"] == sorted(
        [record(NOISE), record(b"small")], key=lambda each: each["object_id"]
    )
    assert build_mpack(**parse_wire_mpack(pack)) == pack


def test_one_mib_is_stored_and_one_byte_more_is_cut() -> None:
    for size, count in ((MAX_STORED_BYTES, 0), (MAX_STORED_BYTES + 1, 1)):
        with MPackReader(build_mpack([], [], [record(NOISE[:size])])) as reader:
            assert len(reader.chunk_lists()) == count


def test_chunks_that_repeat_are_stored_once() -> None:
    content = bytes(40 * MIB)
    pack = build_mpack([], [], [record(content)])

    assert len(pack) < 2_000
    with MPackReader(pack) as reader:
        assert sum(map(len, reader.blob_pieces(blob_id(content)))) == len(content)


def test_chunks_that_the_receiver_holds_are_named_and_not_sent() -> None:
    edited = NOISE[:MIB] + b"one line more\n" + NOISE[MIB:]
    held = set(cut(NOISE)[1])
    contents = cut(edited)[1]
    sent = [record(bytes(data)) for each, data in contents.items() if each not in held]
    pack = build_mpack([], [], sent, [], [list_of(edited)])

    assert len(pack) < 4 * CHUNK_SIZES[2]
    parsed = parse_wire_mpack(pack)
    assert parsed["chunked"] == [list_of(edited)]
    assert build_mpack(**parsed) == pack
    with MPackReader(pack) as reader:
        assert not reader.is_whole(blob_id(edited))
        with pytest.raises(ObjectNotFoundError):
            reader.blob(blob_id(edited))
        assert sum(1 for _ in reader.blob_ids()) == len(sent) + 1


edits = st.lists(
    st.tuples(
        st.integers(0, 2 * MIB), st.integers(0, 300_000), st.binary(max_size=40), st.integers(0, 3)
    ),
    max_size=4,
)


def edited_by(content: bytes, script: list[tuple[int, int, bytes, int]]) -> bytes:
    """Each edit takes bytes out, and puts others in, or moves them to the front."""
    for start, length, new, kind in script:
        taken = content[start : start + length]
        content = content[:start] + new + content[start + length :]
        if kind == 1:
            content = taken + content
        elif kind == 2:
            content = content[:start] + taken * 2 + content[start:]
    return content


@settings(max_examples=25)
@given(script=edits, other=edits, seed=st.integers(0, 2))
def test_any_edit_script_and_any_chunks_held_give_the_bytes_back(
    script: Any, other: Any, seed: int
) -> None:
    base = random.Random(seed).randbytes(2 * MIB + 77)
    have, want = edited_by(base, other), edited_by(base, script)
    if len(want) <= MAX_STORED_BYTES:
        return
    held = {each: bytes(data) for each, data in cut(have)[1].items()}
    contents = cut(want)[1]
    sent = [record(bytes(data)) for each, data in contents.items() if each not in held]
    pack = build_mpack([], [], sent, [], [list_of(want)])

    with MPackReader(pack) as reader:
        reader.verify()
        chunks = reader.chunk_lists()[blob_id(want)]
        joined = b"".join(
            reader.blob(chunk.object_id)
            if reader.has_blob(chunk.object_id)
            else held[chunk.object_id]
            for chunk in chunks
        )
    assert joined == want
    # What an edit brings, and at each of its two ends the chunks until the cuts are the same again.
    new = sum(len(each["content"]) for each in sent)
    edits_made = len(script) + len(other)
    moved = sum(length for _, length, _, _ in (*script, *other))
    assert new <= 2 * moved + (3 * edits_made) * 5 * CHUNK_SIZES[2]


@pytest.mark.parametrize("seed", range(3), ids=lambda seed: f"seed{seed}")
def test_four_small_edits_of_forty_megabytes_bring_less_than_one(seed: int) -> None:
    rng = random.Random(seed)
    content = rng.randbytes(40_000_000)
    held = set(cut(content)[1])
    for _ in range(4):
        place = rng.randrange(len(content))
        content = content[:place] + b"a line\n" + content[place:]
    new = {each: data for each, data in cut(content)[1].items() if each not in held}
    pack = build_mpack(
        [], [], [record(bytes(data)) for data in new.values()], [], [list_of(content)]
    )

    assert len(pack) < 1_000_000


# Lists that break a rule.

SMALL = [NOISE[start : start + MIB // 2] for start in range(0, 2 * MIB, MIB // 2)]
STORED = sections_of(build_mpack([], [], [record(each) for each in SMALL]))
IDS = sorted(map(blob_id, SMALL))


def pack_with(*lists: tuple[bytes, list[int], list[int]]) -> bytes:
    """Lists over the stored blobs, each with its claimed id, its numbers and its lengths."""
    lists = tuple(sorted(lists))
    index = b"".join(ID_ENTRY.pack(each[0], number) for number, each in enumerate(lists))
    records = b"".join(
        msgpack.packb([struct.pack(f">{len(a)}I", *a), struct.pack(f">{len(b)}I", *b)])
        for _, a, b in lists
    )
    sections = {
        **STORED,
        Section.CHUNKED_INDEX: index,
        Section.CHUNKED: group_of(records, len(lists)),
    }
    return assemble(sections)


HALF = MIB // 2
ORDER = [IDS.index(blob_id(each)) for each in SMALL]
NAME = bytes.fromhex(blob_id(NOISE)[7:])


def test_a_list_that_keeps_the_rules_is_accepted_however_it_was_cut() -> None:
    pack = pack_with((NAME, ORDER, [HALF] * 4))

    assert parse_wire_mpack(pack)["blobs"] == [record(NOISE)]


@pytest.mark.parametrize(
    ("numbers", "lengths", "match"),
    [
        ([], [], "a blob of 0 bytes"),
        (ORDER[:2], [HALF] * 2, "must be stored"),
        (ORDER, [HALF] * 3, "bytes of numbers"),
        (ORDER, [HALF] * 3 + [HALF - 1], "of another blob"),
        (ORDER, [HALF] * 3 + [0], "each must have"),
        ([*ORDER, 0], [HALF] * 4 + [MIB + 1], "each must have"),
        ([*ORDER, 4], [HALF] * 5, "another list"),
        ([*ORDER, 5], [HALF] * 5, "foreign id"),
        ([*ORDER, 2**32 - 1], [HALF] * 5, "foreign id"),
    ],
    ids=lambda value: None if isinstance(value, list) else str(value),
)
def test_lists_that_break_a_rule(numbers: list[int], lengths: list[int], match: str) -> None:
    pack = pack_with((NAME, numbers, lengths))

    with pytest.raises(MPackFormatError, match=match):
        parse_wire_mpack(pack)
    with pytest.raises(MPackFormatError, match=match), MPackReader(pack) as reader:
        reader.chunk_lists()


def test_a_list_of_other_bytes_does_not_have_its_id() -> None:
    pack = pack_with((NAME, ORDER[::-1], [HALF] * 4))

    with pytest.raises(MPackIntegrityError):
        parse_wire_mpack(pack)
    with MPackReader(pack) as reader:
        with pytest.raises(MPackIntegrityError):
            reader.verify()
        with pytest.raises(MPackIntegrityError):
            list(reader.blob_pieces(blob_id(NOISE)))


def test_a_blob_is_stored_or_listed_and_never_both() -> None:
    name = bytes.fromhex(IDS[0][7:])

    with pytest.raises(MPackFormatError, match="both"):
        parse_wire_mpack(pack_with((name, ORDER, [HALF] * 4)))


def test_lists_make_no_more_bytes_than_the_limits_allow() -> None:
    bomb = pack_with((NAME, ORDER[:1] * 10_000, [HALF] * 10_000))
    two = pack_with((NAME, ORDER, [HALF] * 4), (bytes(32), ORDER, [HALF] * 4))

    with pytest.raises(MPackLimitError, match="max_blob_bytes"):
        parse_wire_mpack(bomb)
    with pytest.raises(MPackLimitError, match="max_unpacked_bytes"):
        parse_wire_mpack(two, limits=Limits(max_unpacked_bytes=3 * MIB))
    with pytest.raises(MPackLimitError, match="max_content_bytes"):
        parse_wire_mpack(
            build_mpack([], [], [record(NOISE)]), limits=Limits(max_content_bytes=3 * MIB)
        )


def test_lists_in_any_but_their_one_encoding() -> None:
    good = sections_of(pack_with((NAME, ORDER, [HALF] * 4)))
    numbers, lengths = struct.pack(">4I", *ORDER), struct.pack(">4I", *[HALF] * 4)
    for other in (
        [numbers],
        [numbers, lengths, b""],
        [numbers.hex(), lengths],
        [ORDER, [HALF] * 4],
        {},
        None,
    ):
        section = group_of(msgpack.packb(other), 1)
        with pytest.raises((MPackFormatError, MPackLimitError)):
            parse_wire_mpack(assemble({**good, Section.CHUNKED: section}))
    long = b"\x92\xc5\x00\x10" + numbers + b"\xc4\x10" + lengths
    with pytest.raises(MPackFormatError, match="encoding"):
        parse_wire_mpack(assemble({**good, Section.CHUNKED: group_of(long, 1)}))


@pytest.mark.parametrize(
    "chunks",
    [[], [("sha256:" + "1" * 64, 5)], [("sha256:" + "1" * 64, MIB + 1)], [("nothing", MIB)]],
    ids=["empty", "small", "too large a chunk", "not an id"],
)
def test_a_given_list_that_breaks_a_rule_is_refused(chunks: Any) -> None:
    with pytest.raises(MPackFormatError):
        build_mpack([], [], [], [], [{"object_id": blob_id(NOISE), "chunks": chunks}])
