"""Many small files at once, beside one transaction and two fsyncs for each file.

Both leave the same on disk when a file is acknowledged: its bytes under their hash, file and folder
synced, and its row committed with ``synchronous=FULL``. The rival does no more than that: two
hashes, one INSERT, no event log, no manifest. It runs one file after the other, as such code does.
Ours runs on uvloop, as ``serve`` does.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import uvloop
from blake3 import blake3

from starfish_artifact_registry.dataplane import InProcessDataPlane
from starfish_artifact_registry.db.engine import create_engine
from starfish_artifact_registry.db.schema import create_schema
from starfish_artifact_registry.events import RegistryViewWriter
from starfish_artifact_registry.registry import Registry
from starfish_artifact_registry.storage import LocalBackend

SIZE = 4096
IN_FLIGHT = 16
WANTED = 3.0


def _file(number: int) -> bytes:
    return number.to_bytes(8, "big") * (SIZE // 8)


async def registry_rate(folder: Path, files: range) -> float:
    engine = create_engine(f"sqlite:///{folder / 'registry.sqlite'}")
    await create_schema(engine)
    registry = Registry(
        engine, InProcessDataPlane(LocalBackend(folder / "content")), RegistryViewWriter()
    )
    package_id = await registry.create_package(
        name="n", producer="p", subject="s", retention_class="derived", actor="ada"
    )
    numbers = iter(files)

    async def stream(data: bytes) -> AsyncIterator[bytes]:
        yield data

    async def worker() -> None:
        for number in numbers:
            await registry.ingest_file(
                package_id,
                relative_path=f"{number // 1000}/{number}",
                media_type="application/octet-stream",
                stream=stream(_file(number)),
                actor="ada",
            )

    begin = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    taken = time.perf_counter() - begin
    await engine.dispose()
    return len(files) / taken


def one_by_one_rate(folder: Path, files: range) -> float:
    (folder / "content").mkdir(exist_ok=True)
    database = sqlite3.connect(folder / "files.sqlite", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute(
        "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, size, blake3, sha256)"
    )
    begin = time.perf_counter()
    for number in files:
        data = _file(number)
        name = blake3(data).hexdigest()
        sha256 = hashlib.sha256(data).hexdigest()
        target = folder / "content" / name[:2] / name
        target.parent.mkdir(exist_ok=True)
        draft = target.with_suffix(".draft")
        with draft.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        draft.rename(target)
        opened = os.open(target.parent, os.O_RDONLY)
        os.fsync(opened)
        os.close(opened)
        database.execute("BEGIN IMMEDIATE")
        database.execute("INSERT INTO files VALUES (?, ?, ?, ?)", (number, SIZE, name, sha256))
        database.execute("COMMIT")
    taken = time.perf_counter() - begin
    database.close()
    return len(files) / taken


def measure(files: int, rounds: int) -> int:
    ours: list[float] = []
    rival: list[float] = []
    share = files // rounds
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            part = range(number * share, (number + 1) * share)
            for name in ("ours", "rival"):
                Path(folder, name).mkdir(exist_ok=True)
            rival.append(one_by_one_rate(Path(folder, "rival"), part))
            ours.append(uvloop.run(registry_rate(Path(folder, "ours"), part)))
    print(f"{'files a second':<44}{'median':>8}{'all rounds':>40}")
    for label, rates in (
        ("a transaction and two fsyncs a file", rival),
        (f"this registry, {IN_FLIGHT} in flight", ours),
    ):
        every = " ".join(f"{rate:.0f}" for rate in rates)
        print(f"{label:<44}{statistics.median(rates):>8.0f}{every:>40}")
    ratio = statistics.median(mine / other for mine, other in zip(ours, rival, strict=True))
    verdict = "ok" if ratio >= WANTED else "MISSED"
    print(f"small files: measured {ratio:.2f}x, wanted {WANTED:.0f}x  {verdict}")
    return 0 if ratio >= WANTED else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    sys.exit(measure(arguments.files, arguments.rounds))
