"""The published client SDK of this protocol works against this server as it is.

It is a peer, not a dependency: it lives in an environment of its own that the test makes and
throws away, since its distribution names are the same as ours.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(180)]


def run_in_peer(python: Path, script: str, url: str) -> dict[str, object]:
    done = subprocess.run(
        [python, Path(__file__).parent / "peer" / script, url],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_the_client_pulls_pushes_conflicts_and_merges(peer_python: Path, server_url: str) -> None:
    seen = run_in_peer(peer_python, "documents.py", server_url)

    assert seen == {
        "never_written": [{}, ""],
        "pulled_back": True,
        "hashes_agree": True,
        "conflict_on_stale_hash": True,
        "merged": {"title": "hello", "by": {"ada": 1, "ben": 2}},
        "signed_author_verified": True,
        "batch": [{"title": "batch 0"}, {"title": "batch 1"}, {}],
        "config": ["inbox", "log", "notes", "photos"],
    }


def test_the_client_appends_and_follows_a_log(peer_python: Path, server_url: str) -> None:
    seen = run_in_peer(peer_python, "append.py", server_url)

    assert seen == {
        "first": [0, 1, 2],
        "second": [3],
        "tail": [2, 3],
        "since": [2, 3],
        "batch_tails": [[3], []],
        "stale_ts": 409,
        "unsigned": 400,
        "signed": ["signed"],
        "unbounded": 400,
    }


def test_the_client_moves_blobs(peer_python: Path, server_url: str) -> None:
    seen = run_in_peer(peer_python, "blobs.py", server_url)

    assert seen == {
        "same_bytes": True,
        "content_type": "image/png",
        "hash_is_sha256": True,
        "wrong_type": 415,
        "missing": 404,
    }
