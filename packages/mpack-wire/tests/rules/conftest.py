"""A small history, new for each test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from starfish_mpack_wire import SnapshotTree, blob_id, commit_id


@pytest.fixture
def history() -> Callable[[], dict[str, list[Any]]]:
    """Two commits, one after the other, of one file that changes."""

    def make() -> dict[str, list[Any]]:
        contents = [b"line of text\n" * 9, b"line of text\n" * 9 + b"more\n"]
        tree, parent, commits, snapshots = SnapshotTree.empty(), None, [], []
        for number, content in enumerate(contents):
            tree = tree.apply({"docs/file": blob_id(content)})
            snapshots.append(
                {
                    "snapshot_id": tree.snapshot_id,
                    "parent_snapshot_id": parent,
                    "upsert": {"docs/file": blob_id(content)},
                    "remove": [],
                    "directories": [],
                }
            )
            parent = tree.snapshot_id
            body = {
                "branch": "main",
                "snapshot_id": tree.snapshot_id,
                "parent_ids": [each["commit_id"] for each in commits],
                "message": f"change {number}",
                "author": "Ada",
                "committed_at": "2026-01-31T12:00:00Z",
            }
            commits.append({"commit_id": commit_id(body), **body})
        return {
            "commits": commits,
            "snapshots": snapshots,
            "blobs": [{"object_id": blob_id(each), "content": each} for each in contents],
            "tags": [],
        }

    return make
