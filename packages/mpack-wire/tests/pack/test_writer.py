"""Writing: any order, frames from other packs, refusals, and memory."""

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
    StoredBlob,
    blob_id,
    build_mpack,
    parse_wire_mpack,
    write_mpack,
)

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

    @staticmethod
    def make(seed: int, size: int) -> bytes:
        return random.Random(seed).randbytes(size // 2) + bytes(size - size // 2)

    def blob(self, object_id: str) -> bytes:
        if object_id not in self.seeds:
            raise ObjectNotFoundError(object_id)
        return self.make(self.seeds[object_id], self.size)

    def stored_blob(self, object_id: str) -> StoredBlob | None:
        return None


def test_a_pack_larger_than_the_memory_it_takes(tmp_path: Path) -> None:
    source = Generated(48, 2 * MIB)
    path = tmp_path / "large.mpack"

    tracemalloc.start()
    with path.open("wb") as out:
        written = write_mpack(out, [], [snapshot_of(*source.seeds)], source.seeds, source)
    with MPackReader(path) as reader:
        reader.verify()
        total = sum(len(content) for _, content in reader.blobs())
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

    assert peak < 48 * MIB  # at most 32 bases of 1 MiB are held


def test_stored_frames_from_another_pack_give_the_same_bytes_as_their_content() -> None:
    old = b"a line of text that comes again\n" * 40
    new = old + b"and its end\n"
    first = build_mpack(
        [], [], [{"object_id": blob_id(each), "content": each} for each in (old, new)]
    )
    snapshots = [snapshot_of(blob_id(old)), snapshot_of(blob_id(new), name=b"t")]
    given = [{"object_id": blob_id(each), "content": each} for each in (old, new)]

    reader = MPackReader(first)
    copied = build_mpack([], snapshots, [reader.stored_blob(each) for each in reader.blob_ids()])
    back = MPackReader(copied)
    again = build_mpack([], [], [back.stored_blob(each) for each in back.blob_ids()])

    assert copied == build_mpack([], snapshots, given)
    assert {back.stored_blob(each).base_id for each in back.blob_ids()} >= {None}
    assert any(back.stored_blob(each).base_id for each in back.blob_ids())
    assert again == first


def test_a_stored_frame_whose_base_is_missing_is_refused() -> None:
    old = b"a line of text that comes again\n" * 40
    new = old + b"and its end\n"
    given = [{"object_id": blob_id(each), "content": each} for each in (old, new)]
    pack = build_mpack([], [snapshot_of(blob_id(old)), snapshot_of(blob_id(new), name=b"t")], given)
    reader = MPackReader(pack)
    upon = [each for each in map(reader.stored_blob, reader.blob_ids()) if each.base_id]

    with pytest.raises(ObjectNotFoundError):
        build_mpack([], [], upon)


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
        with pytest.raises(MPackFormatError, match="no map"):
            built(record)
    if kind == "snapshots":
        with pytest.raises(MPackFormatError, match="'remove' of a snapshot"):
            built({**good, "remove": "a text is no list"})


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

    written = write_mpack(pipe, [], [], source.seeds, source)

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
