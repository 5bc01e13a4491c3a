"""Size and speed of packs: beside git's pack of the same history and dulwich's writer and reader.

Caveats. The history is made up: 400 text files, 2,000 commits that change up to three lines in five
of them. Git's pack is that of ``git repack -adf``, which looks for deltas anew as ``git gc`` does
for loose objects; its index is not counted, ours is inside. Dulwich writes and reads the same objects, trees
included; its writer stores no deltas unless told so, and that slower one is printed beside it.
Reading is with every hash checked, on both sides. Runs alternate, and medians are compared.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

from dulwich.object_format import SHA1
from dulwich.pack import Pack, write_pack_objects
from dulwich.repo import Repo

from starfish_mpack_wire import (
    MPackReader,
    SnapshotTree,
    blob_id,
    build_mpack,
    commit_id,
    parse_wire_mpack,
    snapshot_id,
    write_mpack,
)

COMMITS, FILES, CHANGED, ROUNDS = 2_000, 400, 5, 3
SMALL_BLOBS = 10_000
DELTA_SAMPLE = 500
LARGE_TREE, LARGE_COMMITS = 20_000, 1_000


def texts(rng: random.Random) -> list[dict[str, bytes]]:
    """Per commit: path to new content."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 10))) for _ in range(3_000)]

    def line() -> str:
        return " " * (4 * rng.randint(0, 3)) + " ".join(rng.choices(words, k=rng.randint(3, 9)))

    folders = [f"src/{rng.choice(words)}/{rng.choice(words)}" for _ in range(FILES // 15)]
    files = {
        f"{rng.choice(folders)}/{rng.choice(words)}_{number}.py": [
            line() for _ in range(rng.randint(30, 90))
        ]
        for number in range(FILES)
    }
    paths = list(files)
    history = [{path: "\n".join(lines).encode() for path, lines in files.items()}]
    for _ in range(COMMITS - 1):
        changed = {}
        for path in rng.sample(paths, CHANGED):
            lines = files[path]
            for _ in range(rng.randint(1, 3)):
                place = rng.randrange(len(lines))
                match rng.random():
                    case kind if kind < 0.6:
                        lines[place] = line()
                    case kind if kind < 0.9 or len(lines) < 4:
                        lines.insert(place, line())
                    case _:
                        del lines[place]
            changed[path] = "\n".join(lines).encode()
        history.append(changed)
    return history


def message(number: int) -> str:
    return f"Change {number}: the change, and the reason for it"


def git_pack(history: list[dict[str, bytes]], folder: Path) -> int:
    """Bytes of git's pack of the history."""
    subprocess.run(["git", "init", "-q", "--bare", folder], check=True)
    stream = []
    for number, changed in enumerate(history):
        text, when = message(number).encode(), 1_700_000_000 + number * 997
        person = b"Ada <ada@example.org> %d +0000" % when
        stream.append(
            b"commit refs/heads/main\nauthor %s\ncommitter %s\ndata %d\n%s\n"
            % (person, person, len(text), text)
        )
        for path, content in changed.items():
            stream.append(b"M 644 inline %s\ndata %d\n" % (path.encode(), len(content)))
            stream.append(content + b"\n")
    git = ["git", "-C", str(folder)]
    subprocess.run([*git, "fast-import", "--quiet"], input=b"".join(stream), check=True)
    subprocess.run([*git, "repack", "-adfq"], check=True)
    return next((folder / "objects/pack").glob("*.pack")).stat().st_size


def our_records(history: list[dict[str, bytes]]) -> dict[str, list[Any]]:
    tree, blobs, snapshots, commits = SnapshotTree.empty(), {}, [], []
    parent = None
    for number, changed in enumerate(history):
        ids = {path: blob_id(content) for path, content in changed.items()}
        blobs |= dict(zip(ids.values(), changed.values(), strict=True))
        tree = tree.apply(ids)
        whole = number % 64 == 0
        snapshots.append(
            {
                "snapshot_id": tree.snapshot_id,
                "parent_snapshot_id": None if whole else parent,
                "upsert": tree.manifest if whole else ids,
                "remove": [],
                "directories": [],
            }
        )
        parent = tree.snapshot_id
        minutes = number * 17
        body = {
            "branch": "main",
            "snapshot_id": parent,
            "parent_ids": [commits[-1]["commit_id"]] if commits else [],
            "message": message(number),
            "author": "Ada <ada@example.org>",
            "committed_at": f"2026-01-{1 + minutes // 1440:02}T"
            f"{minutes // 60 % 24:02}:{minutes % 60:02}:00+00:00",
            "metadata": {},
        }
        commits.append({"commit_id": commit_id(body), **body})
    return {
        "commits": commits,
        "snapshots": snapshots,
        "blobs": [{"object_id": each, "content": content} for each, content in blobs.items()],
    }


def alternate(*works: Callable[[], object]) -> list[float]:
    """Median seconds of each, run in turns."""
    seconds: list[list[float]] = [[] for _ in works]
    for _ in range(ROUNDS):
        for spent, work in zip(seconds, works, strict=True):
            started = time.perf_counter()
            work()
            spent.append(time.perf_counter() - started)
    return [statistics.median(spent) for spent in seconds]


def small_blobs(rng: random.Random) -> list[Any]:
    contents = (
        b"%d %s" % (number, rng.randbytes(150).hex().encode()) for number in range(SMALL_BLOBS)
    )
    return [{"object_id": blob_id(each), "content": each} for each in contents]


def large_tree(rng: random.Random) -> tuple[float, float]:
    """Seconds for 1,000 commits: step by step, and when each tree is hashed as a whole."""
    paths = [f"src/{n % 40}/{n % 1200}/file_{n}.py" for n in range(LARGE_TREE)]
    ids = [blob_id(b"%d" % number) for number in range(1_000)]
    tree = SnapshotTree.empty().apply({path: rng.choice(ids) for path in paths})
    changes = [
        {path: rng.choice(ids) for path in rng.sample(paths, CHANGED)} for _ in range(LARGE_COMMITS)
    ]
    manifest = tree.manifest
    started = time.perf_counter()
    for change in changes:
        tree = tree.apply(change)
    steps = time.perf_counter() - started
    started = time.perf_counter()
    for change in changes[:10]:
        manifest |= change
        snapshot_id(manifest)
    return steps, (time.perf_counter() - started) * LARGE_COMMITS / 10


def main() -> int:
    rng = random.Random(7)
    history = texts(rng)
    with tempfile.TemporaryDirectory() as folder:
        git_bytes = git_pack(history, Path(folder) / "git")
        with Repo(str(Path(folder) / "git")) as repo:
            pack: Pack = next(iter(repo.object_store.packs))
            objects = list(pack.iterobjects())
            records = our_records(history)
            ours = build_mpack(**records)
            reader = MPackReader(ours)

            def copy() -> None:
                write_mpack(
                    BytesIO(), reader.commits(), reader.snapshots(), reader.blob_ids(), reader
                )

            def dulwich_read() -> None:
                for each in pack.iterobjects():
                    if each.sha(object_format=None).hexdigest().encode() != each.id:
                        raise SystemExit("dulwich read something else")

            build, copied, parse, write, deltas, read = alternate(
                lambda: build_mpack(**records),
                copy,
                lambda: parse_wire_mpack(ours),
                lambda: write_pack_objects(BytesIO(), objects, SHA1, deltify=False),
                lambda: write_pack_objects(
                    BytesIO(), objects[:DELTA_SAMPLE], SHA1, deltify=True, delta_window_size=10
                ),
                dulwich_read,
            )
            blobs = len(records["blobs"])
            deltas *= len(objects) / DELTA_SAMPLE
            pack.close()
    small = small_blobs(rng)
    small_pack = build_mpack([], [], small)
    seal, take_apart = alternate(
        lambda: build_mpack([], [], small), lambda: parse_wire_mpack(small_pack)
    )
    steps, whole = large_tree(rng)

    print(f"{COMMITS} commits, {blobs} blobs, dulwich {version('dulwich')}, {len(objects)} objects")
    print(f"{'':34}{'bytes':>12}{'build s':>10}{'copy s':>10}{'read s':>10}")
    print(f"{'starfish-mpack-wire':34}{len(ours):12,}{build:10.2f}{copied:10.2f}{parse:10.2f}")
    print(f"{'git repack -adf':34}{git_bytes:12,}")
    print(f"{'dulwich':34}{'':12}{write:10.2f}{'':10}{read:10.2f}")
    print(f"{'dulwich with deltas, projected':34}{'':12}{deltas:10.2f}")
    print(f"{SMALL_BLOBS} blobs of 300 bytes: sealed in {seal:.2f} s, parsed in {take_apart:.2f} s")
    print(f"{LARGE_COMMITS} changes of 5 in {LARGE_TREE} files: {steps:.2f} s, whole {whole:.0f} s")

    missed = False
    for figure, measured, wanted, larger_is_better in (
        ("our bytes / git's", len(ours) / git_bytes, 1.5, False),
        ("dulwich's seconds to write / ours", write / build, 1.0, True),
        ("dulwich's seconds to read / ours", read / parse, 2.0, True),
        ("seconds of 1,000 applies / 3 s", steps / 3, 1.0, False),
        ("hashing whole trees / step by step", whole / steps, 100.0, True),
    ):
        ok = measured >= wanted if larger_is_better else measured <= wanted
        missed |= not ok
        print(f"{figure}: measured {measured:.2f}x, wanted {wanted:g}x  {'ok' if ok else 'MISSED'}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
