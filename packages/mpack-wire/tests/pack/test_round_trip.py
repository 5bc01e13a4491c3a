"""Packs: what goes in comes out, and equal content gives equal bytes."""

from __future__ import annotations

from io import BytesIO

from starfish_mpack_wire import (
    MPackReader,
    SnapshotTree,
    blob_id,
    build_mpack,
    commit_id,
    parse_wire_mpack,
    write_mpack,
)


def small_history() -> dict[str, list]:
    tree = SnapshotTree.empty()
    commits: list = []
    snapshots: list = []
    blobs: dict[str, bytes] = {}
    for number in range(5):
        content = b"a line of text\n" * 20 + b"version %d\n" % number
        object_id = blob_id(content)
        blobs[object_id] = content
        before = tree.snapshot_id if snapshots else None
        tree = tree.apply({"src/one.txt": object_id})
        snapshots.append(
            {
                "snapshot_id": tree.snapshot_id,
                "parent_snapshot_id": before,
                "upsert": {"src/one.txt": object_id},
                "remove": [],
                "directories": [],
            }
        )
        commit = {
            "branch": "main",
            "snapshot_id": tree.snapshot_id,
            "parent_ids": [commits[-1]["commit_id"]] if commits else [],
            "message": f"version {number}",
            "author": "Ada",
            "committed_at": "2026-01-01T00:00:00Z",
        }
        commits.append({"commit_id": commit_id(commit), **commit})
    return {
        "commits": commits,
        "snapshots": snapshots,
        "blobs": [{"object_id": each, "content": blobs[each]} for each in sorted(blobs)],
        "tags": [{"name": "v1", "commit_id": commits[0]["commit_id"]}],
    }


def test_parsing_gives_what_was_built_and_building_that_gives_the_same_bytes() -> None:
    history = small_history()

    pack = build_mpack(**history)

    assert parse_wire_mpack(pack) == history
    assert build_mpack(**parse_wire_mpack(pack)) == pack


def test_records_in_another_order_give_the_same_bytes() -> None:
    history = small_history()

    backwards = {kind: records[::-1] for kind, records in history.items()}

    assert build_mpack(**backwards) == build_mpack(**history)


def test_a_reader_is_a_source_whose_frames_are_copied_as_they_are() -> None:
    pack = build_mpack(**small_history())
    reader = MPackReader(pack)
    out = BytesIO()

    written = write_mpack(
        out, reader.commits(), reader.snapshots(), reader.blob_ids(), reader, reader.tags()
    )

    assert out.getvalue() == pack
    assert (written.mpack_id, written.size_bytes) == (blob_id(pack), len(pack))
