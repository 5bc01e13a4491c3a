"""What a fetch costs: one new commit of a short and of a long history, and a clone that was built before.

Caveats: one client, one server in a process of its own, SQLite and a local folder, loopback. Every fetch that is
measured asks for another commit, so no pack of it was built before; both histories take turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from wire_server import push, serving

from starfish_mpack_wire._messages import FetchRequest, decode_message
from starfish_mpack_wire._model.object_ids import blob_id, commit_id
from starfish_mpack_wire._model.records import CommitRecord, SnapshotRecord
from starfish_mpack_wire._model.snapshot_tree import SnapshotTree
from starfish_mpack_wire._pack.writer import build_mpack

CHANGED = 40
"""Commits at the end that change five files; those before say the same about one tree."""


def history(length: int) -> tuple[bytes, list[str]]:
    """The pack of a history, and its commits."""
    commits: list[CommitRecord] = []
    snapshots: list[SnapshotRecord] = []
    blobs: dict[str, bytes] = {}

    def change(tree: SnapshotTree, files: dict[str, bytes], parent: str | None) -> SnapshotTree:
        upsert = {path: blob_id(content) for path, content in files.items()}
        blobs.update(zip(upsert.values(), files.values(), strict=True))
        after = tree.apply(upsert)
        snapshots.append(
            {
                "snapshot_id": after.snapshot_id,
                "parent_snapshot_id": parent,
                "upsert": upsert,
                "remove": [],
                "directories": [],
            }
        )
        return after

    first = {f"folder{n % 20}/file{n}.txt": b"file %d\n" % n for n in range(500)}
    tree = change(SnapshotTree.empty(), first, None)
    for number in range(length):
        if number >= length - CHANGED:
            files = {f"folder{n}/file{n}.txt": b"%d in %d\n" % (number, n) for n in range(5)}
            tree = change(tree, files, tree.snapshot_id)
        record: CommitRecord = {
            "commit_id": "",
            "branch": "main",
            "snapshot_id": tree.snapshot_id,
            "parent_ids": [commits[-1]["commit_id"]] if commits else [],
            "message": f"commit {number}",
            "author": "Ada <ada@example.org>",
            "committed_at": "2026-01-31T12:00:00Z",
            "metadata": {},
        }
        record["commit_id"] = commit_id(record)
        commits.append(record)
    pack = build_mpack(
        commits, snapshots, [{"object_id": k, "content": v} for k, v in blobs.items()]
    )
    return pack, [each["commit_id"] for each in commits]


def timed_fetches(http: httpx.Client, url: str, commits: list[str]) -> Iterator[float]:
    """Milliseconds of fetches of one commit each, the newest first."""
    for place in range(1, CHANGED):
        request = FetchRequest(want=(commits[-place],), have=(commits[-place - 1],))
        started = time.perf_counter()
        answer = http.post(f"{url}/fetch", content=request.to_bytes())
        elapsed = (time.perf_counter() - started) * 1000
        found = decode_message(answer.raise_for_status().content)
        assert (found["commit_count"], found["blob_count"]) == (1, 5)
        yield elapsed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", type=int, default=1_000)
    parser.add_argument("--long", type=int, default=100_000)
    lengths = list(vars(parser.parse_args()).values())
    figures: dict[int, list[float]] = {length: [] for length in lengths}
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as server:
        runs = {}
        for length in lengths:
            pack, commits = history(length)
            url = server.create(f"history-{length}")
            push(server, url, pack, commits[-1])
            runs[length] = timed_fetches(server.http, url, commits)
        for _ in range(CHANGED - 1):
            for length in lengths:
                figures[length].append(next(runs[length]))
        clone = FetchRequest(want=(commits[-1],)).to_bytes()
        cached: list[float] = []
        for _ in range(10):
            started = time.perf_counter()
            server.http.post(f"{url}/fetch", content=clone).raise_for_status()
            cached.append((time.perf_counter() - started) * 1000)

    short, long = (statistics.median(figures[length]) for length in lengths)
    for length in lengths:
        print(
            f"fetch of 1 commit out of {length:>7,}: {statistics.median(figures[length]):8.1f} ms"
        )
    print(f"second clone of {lengths[-1]:,} commits: {statistics.median(cached):8.1f} ms")
    checks = [
        ("growth from the short to the long history", long / short, 2.0),
        ("second clone, in 50 ms", statistics.median(cached) / 50, 1.0),
    ]
    for label, measured, wanted in checks:
        verdict = "ok" if measured < wanted else "MISSED"
        print(f"{label}: measured {measured:.2f}x, wanted below {wanted:.2f}x  {verdict}")
    return int(any(measured >= wanted for _, measured, wanted in checks))


if __name__ == "__main__":
    sys.exit(main())
