"""Writing: any order, blocks, refusals, and memory."""

from __future__ import annotations

import random
import tracemalloc
from io import BytesIO
from pathlib import Path

import pytest

from starfish_mpack_wire import (
    MPackFormatError,
    MPackIntegrityError,
    MPackReader,
    ObjectNotFoundError,
    blob_id,
    build_mpack,
    parse_wire_mpack,
    write_mpack,
)
from starfish_mpack_wire._pack.cutting import cut
from starfish_mpack_wire._pack.layout import BLOB_ENTRY, Section
from starfish_mpack_wire.testing.damage import sections_of

MIB = 2**20


def snapshot_of(*object_ids: str, name: bytes = b"s") -> dict:
    return {
        "snapshot_id": blob_id(name),
        "parent_snapshot_id": None,
        "upsert": {f"file {number}": each for number, each in enumerate(object_ids)},
        "remove": [],
        "directories": [],
    }


class Generated:
    """Blobs that are made when they are asked for: one seed, one blob."""

    def __init__(self, count: int, size: int) -> None:
        self.seeds = {blob_id(self.make(seed, size)): seed for seed in range(count)}
        self.size = size
        self.lists, self.chunks = {}, {}
        for object_id, seed in self.seeds.items() if size > MIB else ():
            self.lists[object_id], contents = cut(self.make(seed, size))
            start = 0
            for chunk in self.lists[object_id]:
                self.chunks.setdefault(chunk.object_id, (seed, start, chunk.length))
                start += chunk.length
            del contents
        self.ids = [*self.seeds, *self.chunks]
        self.last = (-1, b"")

    @staticmethod
    def make(seed: int, size: int) -> bytes:
        return random.Random(seed).randbytes(size // 2) + bytes(size - size // 2)

    def chunk_lists(self, object_ids) -> dict:
        return {each: self.lists[each] for each in object_ids if each in self.lists}

    def blob(self, object_id: str) -> bytes:
        if object_id in self.chunks:
            seed, start, length = self.chunks[object_id]
            if self.last[0] != seed:
                self.last = (seed, self.make(seed, self.size))
            return self.last[1][start : start + length]
        if object_id not in self.seeds:
            raise ObjectNotFoundError(object_id)
        return self.make(self.seeds[object_id], self.size)


def test_a_pack_larger_than_the_memory_it_takes(tmp_path: Path) -> None:
    source = Generated(48, 2 * MIB)
    path = tmp_path / "large.mpack"

    tracemalloc.start()
    with path.open("wb") as out:
        written = write_mpack(out, [], [snapshot_of(*source.seeds)], source.ids, source)
    with MPackReader(path) as reader:
        reader.verify()
        total = sum(len(piece) for each in source.seeds for piece in reader.blob_pieces(each))
        assert reader.mpack_id == written.mpack_id
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert total == 96 * MIB
    assert written.size_bytes == path.stat().st_size > 48 * MIB
    assert peak < 16 * MIB


def test_versions_of_files_are_written_and_read_in_bounded_memory(tmp_path: Path) -> None:
    source = Generated(60, MIB)
    ids = list(source.seeds)
    snapshots = [
        {**snapshot_of(name=b"%d" % number), "upsert": {"file": each}}
        for number, each in enumerate(ids)
    ]
    path = tmp_path / "versions.mpack"

    tracemalloc.start()
    with path.open("wb") as out:
        write_mpack(out, [], snapshots, ids, source)
    with MPackReader(path) as reader:
        assert sum(1 for _ in reader.blobs()) == 60
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 24 * MIB  # a block of 4 MiB is held, in parts, as one and compressed


def blocks_of(pack: bytes) -> list[tuple[int, int, list[int]]]:
    """Each block of a pack: stored bytes, bytes, and those of its blobs."""
    found: dict[int, tuple[int, int, list[int]]] = {}
    entries = BLOB_ENTRY.iter_unpack(sections_of(pack)[Section.BLOB_INDEX])
    for _, offset, stored, length, _, size in sorted(entries, key=lambda each: (each[1], each[4])):
        found.setdefault(offset, (stored, length, []))[2].append(size)
    return list(found.values())


def pack_of(*contents: bytes) -> bytes:
    """Blobs in this order: versions of one file."""
    snapshots = [
        {**snapshot_of(name=b"%d" % number), "upsert": {"file": blob_id(each)}}
        for number, each in enumerate(contents)
    ]
    return build_mpack(
        [], snapshots, [{"object_id": blob_id(each), "content": each} for each in contents]
    )


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def test_a_block_is_full_with_128_kib_and_eight_times_its_first_blob() -> None:
    small = [noise(20_000, seed) for seed in range(8)]
    large = [noise(30_000, seed) for seed in range(10)]

    assert [sizes for _, _, sizes in blocks_of(pack_of(*small))] == [[20_000] * 8]
    assert [sizes for _, _, sizes in blocks_of(pack_of(*large))] == [[30_000] * 8, [30_000] * 2]
    tiny = blocks_of(pack_of(*(b"%05d" % number for number in range(30_000))))
    assert [sum(sizes) for _, _, sizes in tiny] == [131_075, 18_925]


def test_blocks_have_4_mib_at_most() -> None:
    versions = [noise(MIB - 1) + b"%d" % number for number in range(6)]

    assert [sizes for _, _, sizes in blocks_of(pack_of(*versions))] == [[MIB] * 4, [MIB] * 2]


def test_a_block_that_would_not_become_smaller_is_stored_as_it_is() -> None:
    ((stored, length, _),) = blocks_of(pack_of(noise(1000)))
    ((twice, double, _),) = blocks_of(pack_of(noise(1000), noise(1000) + b"and its end"))

    assert (stored, length) == (1000, 1000)
    assert (double, twice < 1100) == (2011, True)
    assert blocks_of(pack_of(b"")) == [(0, 0, [0])]


def test_a_source_that_gives_other_bytes_is_refused() -> None:
    class Liar(Generated):
        def blob(self, object_id: str) -> bytes:
            return b"something else"

    source = Liar(1, 100)

    with pytest.raises(MPackIntegrityError):
        write_mpack(BytesIO(), [], [], source.seeds, source)


def test_a_source_that_lacks_a_blob_is_an_error_of_its_own() -> None:
    with pytest.raises(ObjectNotFoundError):
        write_mpack(BytesIO(), [], [], [blob_id(b"absent")], Generated(0, 0))


def test_what_comes_twice_is_refused(history_contents) -> None:
    contents = history_contents

    for kind in ("commits", "snapshots", "blobs", "tags"):
        twice = {**contents, kind: contents[kind] * 2}
        with pytest.raises(MPackFormatError, match="twice"):
            build_mpack(**twice)


@pytest.mark.parametrize("kind", ["commits", "snapshots", "blobs", "tags"])
def test_a_record_that_lacks_a_member_or_is_no_map_is_refused(kind: str, history_contents) -> None:
    good = history_contents[kind][0]

    def built(record: object) -> bytes:
        return build_mpack(**{**history_contents, kind: [record]})

    built(good)
    for name in good:
        with pytest.raises(MPackFormatError, match=f"without '{name}'"):
            built({key: each for key, each in good.items() if key != name})
        with pytest.raises((MPackFormatError, MPackIntegrityError)):
            built({**good, name: 7})
    for record in (None, [], "text"):
        with pytest.raises(MPackFormatError, match="not a map"):
            built(record)
    if kind == "snapshots":
        with pytest.raises(MPackFormatError, match="'remove' of a snapshot"):
            built({**good, "remove": "a text is not a list"})


def test_snapshots_that_are_their_own_ancestor_are_refused() -> None:
    one, two = blob_id(b"1"), blob_id(b"2")
    snapshots = [
        {**snapshot_of(), "snapshot_id": one, "parent_snapshot_id": two},
        {**snapshot_of(), "snapshot_id": two, "parent_snapshot_id": one},
    ]

    with pytest.raises(MPackFormatError, match="own ancestor"):
        build_mpack([], snapshots, [])


def test_a_pack_can_be_written_to_what_only_takes_bytes() -> None:
    class Pipe:
        def __init__(self) -> None:
            self.parts: list[bytes] = []

        def write(self, data: bytes) -> int:
            self.parts.append(bytes(data))
            return len(data)

    source = Generated(3, 4 * MIB)
    pipe = Pipe()

    written = write_mpack(pipe, [], [], source.ids, source)

    assert blob_id(b"".join(pipe.parts)) == written.mpack_id
    assert len(parse_wire_mpack(b"".join(pipe.parts))["blobs"]) == 3


def test_unknown_keys_of_commits_travel_and_their_order_does_not_matter(history_contents) -> None:
    from starfish_mpack_wire import commit_id

    body = {**history_contents["commits"][0], "z": [1.5, None], "a": {"y": b"1", "x": True}}
    other = {**dict(reversed(body.items())), "a": {"x": True, "y": b"1"}}
    packs = {
        build_mpack([{**each, "commit_id": commit_id(each)}], [], []) for each in (body, other)
    }

    assert len(packs) == 1
    (commit,) = parse_wire_mpack(packs.pop())["commits"]
    assert (commit["z"], commit["a"]) == (body["z"], body["a"])
