"""A small history, new for each test."""

from __future__ import annotations

import pytest

from starfish_mpack_wire import SnapshotTree, blob_id, commit_id


@pytest.fixture
def history_contents() -> dict[str, list]:
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
