"""The published JavaScript client and queue of this protocol work with ours as they are."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from starfish_outbox import OutboxQueue
from starfish_outbox.testing import MemoryCache

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(180)]


def run_in_peer(folder: Path, script: str, argument: str) -> dict[str, Any]:
    # Node finds packages beside the script, so the script goes where they are.
    shutil.copy(Path(__file__).parent / "peer" / script, folder)
    done = subprocess.run(
        ["node", script, argument], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_the_javascript_client_works_unchanged(peer_folder: Path, server_url: str) -> None:
    seen = run_in_peer(peer_folder, "documents.mjs", server_url)

    assert seen == {
        "hashes_agree": True,
        "merged": {"title": "hello", "by": {"ada": 1, "ben": 2}},
        "signed": ["signed"],
        "log": [0, 1, 2],
        "tail": [1, 2],
        "blob": True,
        "batch": [True, False],
    }


async def test_a_queue_goes_from_python_to_javascript_and_back(peer_folder: Path) -> None:
    cache = MemoryCache()
    queue = OutboxQueue(cache)
    await queue.hydrate("outbox.ada")
    await queue.enqueue("kept", {"text": "é😀\u2028", "n": 1e21}, 1)
    await queue.enqueue("refused", {"n": [1.5, None, True]}, 2)
    ours = await cache.get_item("outbox.ada")
    assert ours is not None

    seen = run_in_peer(peer_folder, "outbox.mjs", ours)

    assert seen["taken"] == json.loads(ours)
    assert seen["sent"] == ["kept"]
    await cache.set_item("outbox.ada", seen["text"])
    again = OutboxQueue(cache)
    await again.hydrate("outbox.ada")
    assert [(e.id, e.status, e.attempts, e.enqueued_at) for e in again.get()] == [
        ("refused", "failed", 1, 2),
        ("from-js", "queued", 0, 1_700_000_000_000),
    ]
    assert again.get()[1].item == {"path": "notes/1", "body": {"text": "é😀"}}
