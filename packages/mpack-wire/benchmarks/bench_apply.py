"""Taking a pack in: 25,000 small blobs; 1,000 commits in a tree of 20,000 files.

Beside it git's own program (`git index-pack`) and dulwich take in a pack of git with the same files, which
checks hashes too but neither snapshots nor closure. All of it ends on disk.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from dulwich.objects import Blob, Commit, ShaFile, Tree
from dulwich.repo import Repo

from starfish_mpack_wire import (
    LocalStore,
    SnapshotTree,
    apply_mpack,
    blob_id,
    build_mpack,
    commit_id,
)

ROUNDS = 3
SMALL_BLOBS = 25_000
COMMITS, CHANGES, FILES = 1_000, 5, 20_000
BLOBS_WANTED_S, COMMITS_WANTED_S = 2.0, 3.0


def small_blobs() -> tuple[bytes, list[bytes]]:
    contents = [f"record {n} ".encode() + os.urandom(40).hex().encode() for n in range(SMALL_BLOBS)]
    blobs = [{"object_id": blob_id(each), "content": each} for each in contents]
    return build_mpack([], [], blobs), contents


def long_history() -> tuple[bytes, list[dict[str, bytes]]]:
    first = {f"dir{n % 200}/file{n}": b"start %d" % n for n in range(FILES)}
    steps = [first]
    for step in range(1, COMMITS):
        changed = [(step * 7 + each * 3_331) % FILES for each in range(CHANGES)]
        steps.append({f"dir{n % 200}/file{n}": b"step %d of %d" % (step, n) for n in changed})
    tree, parents, chain = SnapshotTree.empty(), [], 0
    commits, snapshots, blobs = [], [], {}
    for step, files in enumerate(steps):
        upsert = {path: blob_id(content) for path, content in files.items()}
        blobs |= {blob_id(content): content for content in files.values()}
        before, tree = tree, tree.apply(upsert)
        whole = chain == 0
        snapshots.append(
            {
                "snapshot_id": tree.snapshot_id,
                "parent_snapshot_id": None if whole else before.snapshot_id,
                "upsert": tree.manifest if whole else upsert,
                "remove": [],
                "directories": [],
            }
        )
        chain = (chain + 1) % 64
        record = {
            "branch": "main",
            "snapshot_id": tree.snapshot_id,
            "parent_ids": parents,
            "message": f"step {step}",
            "author": "Ada",
            "committed_at": "2026-01-31T12:00:00Z",
        }
        record["commit_id"] = commit_id(record)
        parents = [record["commit_id"]]
        commits.append(record)
    pack = build_mpack(
        commits, snapshots, [{"object_id": i, "content": c} for i, c in blobs.items()]
    )
    return pack, steps


def git_pack(folder: Path, objects: list[ShaFile]) -> Path:
    with Repo.init_bare(str(folder), mkdir=True) as repo:
        repo.object_store.add_objects([(each, None) for each in objects])
    return next((folder / "objects/pack").glob("*.pack"))


def git_history(steps: list[dict[str, bytes]]) -> list[ShaFile]:
    objects: dict[bytes, ShaFile] = {}
    folders: dict[str, Tree] = {}
    root, parent = Tree(), None
    for step, files in enumerate(steps):
        touched = set()
        for path, content in files.items():
            above, name = path.split("/")
            blob = Blob.from_string(content)
            objects[blob.id] = blob
            if above not in touched:
                folders[above] = folders[above].copy() if above in folders else Tree()
                touched.add(above)
            folders[above].add(name.encode(), 0o100644, blob.id)
        root = root.copy()
        for above in touched:
            objects[folders[above].id] = folders[above]
            root.add(above.encode(), 0o40000, folders[above].id)
        objects[root.id] = root
        above = b"parent " + parent + b"\n" if parent else b""
        person = b"Ada <a@b> 1700000000 +0000"
        raw = b"tree " + root.id + b"\n" + above + b"author " + person + b"\ncommitter " + person
        commit = Commit.from_string(raw + b"\n\nstep %d" % step)
        objects[commit.id] = commit
        parent = commit.id
    return list(objects.values())


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(scratch: Path, name: str, pack: bytes, rival: Path) -> dict[str, float]:
    figures: dict[str, list[float]] = {"mpack": [], "git index-pack": [], "dulwich": []}
    for number in range(ROUNDS):
        folder = scratch / f"{name}{number}"

        def ours(folder: Path = folder) -> None:
            with LocalStore(folder / "ours") as store:
                apply_mpack(store, pack)
            assert len(list((folder / "ours/packs").iterdir())) == 1

        def git(folder: Path = folder) -> None:
            with rival.open("rb") as data:
                subprocess.run(
                    ["git", "index-pack", "--stdin", "--strict"],
                    stdin=data,
                    cwd=folder / "git",
                    check=True,
                    capture_output=True,
                )

        def dulwich(folder: Path = folder) -> None:
            with Repo(str(folder / "dulwich")) as repo, rival.open("rb") as data:
                repo.object_store.add_thin_pack(data.read, None)

        for other in ("git", "dulwich"):
            Repo.init_bare(str(folder / other), mkdir=True) if folder.exists() else None
            (folder / other).mkdir(parents=True, exist_ok=True)
            if not (folder / other / "objects").exists():
                Repo.init_bare(str(folder / other))
        figures["mpack"].append(timed(ours))
        if shutil.which("git"):
            figures["git index-pack"].append(timed(git))
        figures["dulwich"].append(timed(dulwich))
        shutil.rmtree(folder)
    return {label: statistics.median(times) for label, times in figures.items() if times}


def main() -> int:
    missed = 0
    lines = []
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        pack, contents = small_blobs()
        rival = git_pack(scratch / "rival1", [Blob.from_string(each) for each in contents])
        first = measure(scratch, "blobs", pack, rival)
        history, steps = long_history()
        rival = git_pack(scratch / "rival2", git_history(steps))
        second = measure(scratch, "commits", history, rival)
    print(f"{'':18}{'25,000 blobs':>16}{'1,000 commits':>16}   (s, medians of {ROUNDS})")
    for label in first:
        print(f"{label:18}{first[label]:16.2f}{second[label]:16.2f}")
    for figure, seconds, wanted in (
        ("apply of 25,000 small blobs", first["mpack"], BLOBS_WANTED_S),
        ("apply of 1,000 commits", second["mpack"], COMMITS_WANTED_S),
    ):
        ratio = wanted / seconds
        verdict = "ok" if ratio >= 1 else "MISSED"
        missed += ratio < 1
        lines.append(f"{figure}: measured {ratio:.2f}x of {wanted:g} s, wanted 1.00x  {verdict}")
    print("\n".join(lines))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
