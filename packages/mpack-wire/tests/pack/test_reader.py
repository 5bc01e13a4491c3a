"""Reading in place: files, threads, closing, and parts that are not looked at."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from starfish_mpack_wire import (
    MPackFormatError,
    MPackIntegrityError,
    MPackReader,
    ObjectNotFoundError,
    blob_id,
    build_mpack,
)
from starfish_mpack_wire._pack import parts

LINE = b"a line of some text, to be compressed\n"


def versions(count: int) -> tuple[list, list, dict[str, bytes]]:
    """Snapshots of one file that grows, and its blobs."""
    blobs = {}
    snapshots = []
    for number in range(count):
        content = LINE * 3 + b"".join(b"%d " % each for each in range(number))
        blobs[blob_id(content)] = content
        snapshots.append(
            {
                "snapshot_id": blob_id(b"snapshot %d" % number),
                "parent_snapshot_id": snapshots[-1]["snapshot_id"] if number % 64 else None,
                "upsert": {"file": blob_id(content)},
                "remove": [],
                "directories": [],
            }
        )
    return snapshots, [{"object_id": each, "content": blobs[each]} for each in blobs], blobs


@pytest.fixture
def pack_file(tmp_path: Path) -> Path:
    path = tmp_path / "a.mpack"
    snapshots, given, _ = versions(300)
    path.write_bytes(build_mpack([], snapshots, given))
    return path


def test_a_file_is_read_in_place_and_has_the_id_of_its_bytes(pack_file: Path) -> None:
    blobs = versions(300)[2]

    with MPackReader(pack_file) as reader:
        assert reader.mpack_id == blob_id(pack_file.read_bytes())
        assert reader.size_bytes == pack_file.stat().st_size
        assert (reader.blob_count, reader.snapshot_count, reader.commit_count) == (300, 300, 0)
        assert {each: reader.blob(each) for each in blobs} == blobs
        assert list(reader.blob_ids()) == sorted(blobs)
        reader.verify()


def test_what_is_not_there_is_told_apart_from_what_is_no_id(pack_file: Path) -> None:
    absent = blob_id(b"absent")
    with MPackReader(pack_file) as reader:
        assert not reader.has_blob(absent)
        assert not reader.has_commit(absent)
        assert not reader.has_snapshot(absent)
        for read in (
            reader.blob,
            reader.blob_length,
            reader.commit,
            reader.snapshot,
            lambda each: list(reader.blobs([each])),
        ):
            with pytest.raises(ObjectNotFoundError):
                read(absent)


def test_threads_read_one_pack_at_once(pack_file: Path) -> None:
    snapshots, _, blobs = versions(300)
    by_id = {each["snapshot_id"]: each for each in snapshots}

    with MPackReader(pack_file) as reader, ThreadPoolExecutor(8) as pool:
        contents = pool.map(reader.blob, list(blobs) * 4)
        records = pool.map(reader.snapshot, list(by_id) * 4)

        assert list(contents) == list(blobs.values()) * 4
        assert list(records) == list(by_id.values()) * 4


def test_closing_under_a_reading_thread_is_an_error_and_no_crash(pack_file: Path) -> None:
    reader = MPackReader(pack_file)
    running = reader.blobs()
    first = next(running)

    reader.close()
    reader.close()

    assert first[0] not in dict(running)
    with pytest.raises(ValueError, match="closed"):
        reader.blob(first[0])


def test_an_empty_or_absent_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()

    with pytest.raises(MPackFormatError, match="empty"):
        MPackReader(tmp_path / "empty")
    with pytest.raises(FileNotFoundError):
        MPackReader(tmp_path / "absent")


def test_damage_in_one_blob_is_met_by_who_reads_it_and_by_verify(tmp_path: Path) -> None:
    given = [{"object_id": blob_id(each), "content": each} for each in (b"good", b"fine")]
    pack = bytearray(build_mpack([], [], given))
    pack[pack.index(b"good")] ^= 1

    reader = MPackReader(bytes(pack))

    assert reader.blob(blob_id(b"fine")) == b"fine"
    with pytest.raises(MPackIntegrityError):
        reader.blob(blob_id(b"good"))
    with pytest.raises(MPackIntegrityError):
        reader.verify()


def test_reading_one_of_many_blobs_decompresses_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    snapshots, given, blobs = versions(1000)
    reader = MPackReader(build_mpack([], snapshots, given))
    decompress, made = parts.decompress, []

    def counted(frame: bytes, length: int) -> bytes:
        made.append(length)
        return decompress(frame, length)

    monkeypatch.setattr(parts, "decompress", counted)

    for each in (next(iter(blobs)), list(blobs)[-1]):
        assert reader.blob(each) == blobs[each]
    assert len(made) == 2
    assert max(made) < 140_000
    assert dict(reader.blobs()) == blobs
    assert sum(made[2:]) == sum(map(len, blobs.values()))


def test_blobs_asked_for_as_they_are_stored_decompress_each_block_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    snapshots, given, blobs = versions(1000)
    reader = MPackReader(build_mpack([], snapshots, given))
    stored_order = [each for each, _ in reader.blobs()]
    decompress, made = parts.decompress, []
    monkeypatch.setattr(
        parts, "decompress", lambda *each: made.append(each[1]) or decompress(*each)
    )

    assert all(reader.blob(each) == blobs[each] for each in stored_order)

    assert sum(made) == sum(map(len, blobs.values()))


def test_blobs_in_blocks_of_one_length_are_told_apart() -> None:
    large = [random.Random(seed).randbytes(2**20 + 1) for seed in range(2)]
    reader = MPackReader(
        build_mpack([], [], [{"object_id": blob_id(each), "content": each} for each in large])
    )

    assert [reader.blob(blob_id(each)) for each in large * 2] == large * 2


def test_what_similar_blobs_share_is_stored_once() -> None:
    common = random.Random(1).randbytes(10_000)
    given = [
        {"object_id": blob_id(each), "content": each}
        for each in (common + b"%d" % number for number in range(10))
    ]

    assert len(build_mpack([], [], given)) < 13_000
