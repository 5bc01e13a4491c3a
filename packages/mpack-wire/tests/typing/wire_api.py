"""Read by the type checker, never run: what a user's code may rely on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, assert_type

from starfish_mpack_wire import (
    Entry,
    Limits,
    MPackReader,
    SnapshotTree,
    WrittenPack,
    blob_id,
    build_mpack,
    commit_id,
    parse_wire_mpack,
    snapshot_id,
    write_mpack,
)
from starfish_mpack_wire._model.records import (
    BlobRecord,
    CommitRecord,
    PackContents,
    SnapshotRecord,
    TagRecord,
)


def ids(commit: CommitRecord) -> None:
    assert_type(blob_id(b""), str)
    assert_type(blob_id(memoryview(b"")), str)
    assert_type(commit_id(commit), str)
    assert_type(commit_id({"branch": "main"}), str)
    assert_type(snapshot_id({"a": blob_id(b"")}, ["empty"]), str)


def packs(commits: list[CommitRecord], snapshots: list[SnapshotRecord], out: BinaryIO) -> None:
    blobs: list[BlobRecord] = [{"object_id": blob_id(b""), "content": b""}]
    pack = build_mpack(commits, snapshots, blobs)
    assert_type(pack, bytes)
    contents = parse_wire_mpack(pack, limits=Limits(max_blobs=10))
    assert_type(contents, PackContents)
    assert_type(contents["commits"], list[CommitRecord])
    assert_type(contents["blobs"][0]["content"], bytes)
    assert_type(build_mpack(**contents), bytes)
    reader = MPackReader(Path("a.mpack"))
    written = write_mpack(out, commits, snapshots, reader.blob_ids(), reader)
    assert_type(written, WrittenPack)
    assert_type(written.mpack_id, str)


def reading(reader: MPackReader) -> None:
    with reader as opened:
        assert_type(opened, MPackReader)
    assert_type(reader.mpack_id, str)
    assert_type(reader.commits(), Iterator[CommitRecord])
    assert_type(reader.snapshots(), Iterator[SnapshotRecord])
    assert_type(reader.tags(), list[TagRecord])
    assert_type(reader.blob(""), bytes)
    assert_type(reader.blobs(), Iterator[tuple[str, bytes]])
    assert_type(reader.has_blob(""), bool)
    assert_type(reader.blob_ids(), Iterator[str])
    assert_type(reader.commit(""), CommitRecord)
    assert_type(reader.verify(), None)


def trees(tree: SnapshotTree) -> None:
    assert_type(SnapshotTree.empty(), SnapshotTree)
    assert_type(tree.apply({"a": blob_id(b"")}, ["b"], ["c"]), SnapshotTree)
    assert_type(tree.snapshot_id, str)
    assert_type(tree.manifest, dict[str, Entry])
    assert_type(tree.directories, tuple[str, ...])
    assert_type(tree.get("a"), Entry | None)
    assert_type(len(tree), int)
