"""Clones one history with our client, with git and with dulwich, each from its own server on loopback.

2,000 commits that change 5 files each. All three copy the history without checking files out, and every one ends
on disk: ours into a `LocalStore`, the others into a bare repository. git is a program of its own, so its time
holds the start of a process, some milliseconds; ours and dulwich's are calls in this one, after their imports.
What this program itself keeps in memory is frozen, so that neither of the two pays for collecting it. git's repository was repacked by
`git repack -adf` before, which is the best it can offer; ours is measured twice: as it was pushed, and with the server's cache emptied.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from dulwich.porcelain import clone as dulwich_clone
from wire_server import free_port, push, serving

from starfish_mpack_wire import LocalStore
from starfish_mpack_wire._model.object_ids import blob_id, commit_id
from starfish_mpack_wire._model.records import CommitRecord, SnapshotRecord
from starfish_mpack_wire._model.snapshot_tree import SnapshotTree
from starfish_mpack_wire._pack.layout import MAX_SNAPSHOT_CHAIN
from starfish_mpack_wire._pack.writer import build_mpack
from starfish_mpack_wire.client import WireClient

CHANGES, FILES = 5, 200


def versions(commits: int) -> list[dict[str, bytes]]:
    """Which files each commit changes: lines are edited here and there, as in a source tree."""
    chance = random.Random(7)
    texts = {
        f"src/part{n % 10}/module{n}.py": [
            f"value_{n}_{line} = {chance.random()}" for line in range(chance.randrange(10, 60))
        ]
        for n in range(FILES)
    }
    made: list[dict[str, bytes]] = []
    for number in range(commits):
        changed = chance.sample(sorted(texts), CHANGES) if number else sorted(texts)
        for path in changed:
            lines = texts[path]
            lines[chance.randrange(len(lines))] = f"changed_{number} = {chance.random()}"
        made.append({path: "\n".join(texts[path]).encode() + b"\n" for path in changed})
    return made


def our_pack(history: list[dict[str, bytes]]) -> tuple[bytes, str]:
    """The history as one pack, and its head."""
    commits: list[CommitRecord] = []
    snapshots: list[SnapshotRecord] = []
    blobs: dict[str, bytes] = {}
    tree, parent = SnapshotTree.empty(), None
    for number, files in enumerate(history):
        upsert = {path: blob_id(content) for path, content in files.items()}
        blobs.update(zip(upsert.values(), files.values(), strict=True))
        tree = tree.apply(upsert)
        complete = number % MAX_SNAPSHOT_CHAIN == 0
        snapshots.append(
            {
                "snapshot_id": tree.snapshot_id,
                "parent_snapshot_id": None if complete else parent,
                "upsert": tree.manifest if complete else upsert,
                "remove": [],
                "directories": [],
            }
        )
        parent = tree.snapshot_id
        record: CommitRecord = {
            "commit_id": "",
            "branch": "main",
            "snapshot_id": parent,
            "parent_ids": [commits[-1]["commit_id"]] if commits else [],
            "message": f"change number {number}",
            "author": "Ada <ada@example.org>",
            "committed_at": "2026-01-31T12:00:00Z",
        }
        record["commit_id"] = commit_id(record)
        commits.append(record)
    pack = build_mpack(
        commits, snapshots, [{"object_id": k, "content": v} for k, v in blobs.items()]
    )
    return pack, commits[-1]["commit_id"]


def git(*arguments: object, stdin: bytes | None = None) -> None:
    subprocess.run(["git", *map(str, arguments)], input=stdin, check=True, capture_output=True)


def git_repository(folder: Path, history: list[dict[str, bytes]]) -> None:
    """The same history in git."""
    stream: list[bytes] = []
    for number, files in enumerate(history):
        message = b"change number %d" % number
        stream.append(b"commit refs/heads/main\ncommitter Ada <ada@example.org> 1769860800 +0000\n")
        stream.append(b"data %d\n%s\n" % (len(message), message))
        for path, content in files.items():
            stream.append(
                b"M 100644 inline %s\ndata %d\n%s\n" % (path.encode(), len(content), content)
            )
    git("init", "--bare", "-b", "main", folder)
    git("-C", folder, "fast-import", stdin=b"".join(stream))
    git("-C", folder, "repack", "-adfq")
    (folder / "git-daemon-export-ok").touch()


def cpu_seconds() -> float:
    """What this process and those that it waited for have computed."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commits", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    history = versions(arguments.commits)
    pack, head = our_pack(history)
    with tempfile.TemporaryDirectory() as name, serving(Path(name)) as server:
        folder = Path(name)
        url = server.create("history")
        push(server, url, pack, head)
        git_repository(folder / "history.git", history)
        git_pack = sum(
            each.stat().st_size for each in folder.glob("history.git/objects/pack/*.pack")
        )
        port = free_port()
        daemon = subprocess.Popen(
            ["git", "daemon", "--listen=127.0.0.1", f"--port={port}", f"--base-path={folder}"],
            stderr=subprocess.DEVNULL,
        )
        time.sleep(1)
        git_url = f"git://127.0.0.1:{port}/history.git"

        def ours(target: Path) -> None:
            with LocalStore(target) as store, WireClient(url) as client:
                client.clone(store)
                assert store.has_commit(head)

        def built(target: Path) -> None:
            shutil.rmtree(server.data / "objects" / "built")
            ours(target)

        def gits(target: Path) -> None:
            git("clone", "-q", "--bare", git_url, target)

        def dulwich(target: Path) -> None:
            dulwich_clone(git_url, target, bare=True, errstream=open("/dev/null", "wb")).close()  # noqa: PTH123, SIM115

        rivals: dict[str, Callable[[Path], None]] = {
            "ours, as it was pushed": ours,
            "git clone from git daemon": gits,
            "ours, server builds the pack": built,
            "dulwich from git daemon": dulwich,
        }
        times: dict[str, list[float]] = {label: [] for label in rivals}
        work: dict[str, list[float]] = {label: [] for label in rivals}
        try:
            gc.freeze()
            for round_number in range(arguments.rounds):
                for number, (label, run) in enumerate(rivals.items()):
                    started, worked = time.perf_counter(), cpu_seconds()
                    run(folder / f"clone-{round_number}-{number}")
                    times[label].append(time.perf_counter() - started)
                    work[label].append(cpu_seconds() - worked)
        finally:
            daemon.terminate()  # killed, git would leave the daemon that it started
            daemon.wait()
    median = {label: statistics.median(values) for label, values in times.items()}
    for label, value in median.items():
        worked = statistics.median(work[label])
        print(f"{label:30} {value:7.2f} s, client's processor {worked:6.2f} s")
    print(
        f"load average {os.getloadavg()[0]:.1f}, pack: ours {len(pack):,} bytes, git's {git_pack:,} bytes"
    )
    first, gits_time = median["ours, as it was pushed"], median["git clone from git daemon"]
    checks = [
        ("time of git for time of ours", gits_time / first, 1.0, True),
        ("time of dulwich for time of ours", median["dulwich from git daemon"] / first, 3.0, True),
        ("size of our pack for size of git's", len(pack) / git_pack, 1.5, False),
    ]
    missed = False
    for label, measured, wanted, more in checks:
        good = measured >= wanted if more else measured <= wanted
        missed |= not good
        print(
            f"{label}: measured {measured:.2f}x, wanted at {'least' if more else 'most'} {wanted:.2f}x  {'ok' if good else 'MISSED'}"
        )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
