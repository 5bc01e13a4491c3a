"""The cost of one mutation through `SqliteOutbox` with 100 and with 100,000 entries queued."""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from starfish_outbox import OutboxQueue, SqliteOutbox

LENGTHS = (100, 100_000)
BLOCK = 50
ROUNDS = 40
WANTED = 1.5
ITEM = {"path": "notes/1", "body": {"text": "bread, milk, " * 8}, "baseHash": "a" * 64}


async def filled(folder: Path, length: int) -> tuple[SqliteOutbox, OutboxQueue]:
    outbox = SqliteOutbox(folder / f"{length}.sqlite")
    queue = OutboxQueue(outbox)
    await queue.hydrate("k")
    for first in range(0, length, 1000):
        ids = range(first, min(first + 1000, length))
        await asyncio.gather(*(queue.enqueue(f"n{n}", ITEM) for n in ids))
    return outbox, queue


async def block(queue: OutboxQueue, round_number: int) -> dict[str, float]:
    ids = [f"r{round_number}-{n}" for n in range(BLOCK)]
    times: dict[str, float] = {}
    for name, change in (
        ("enqueue", lambda i: queue.enqueue(i, ITEM)),
        ("claim", queue.claim),
        ("record_failure", lambda i: queue.record_failure(i, 9)),
        ("remove", queue.remove),
    ):
        start = time.perf_counter()
        for entry_id in ids:
            await change(entry_id)
        times[name] = (time.perf_counter() - start) / BLOCK
    return times


async def main(folder: Path) -> int:
    opened = {length: await filled(folder, length) for length in LENGTHS}
    taken: dict[int, list[dict[str, float]]] = {length: [] for length in LENGTHS}
    for round_number in range(ROUNDS):
        for length, (_, queue) in opened.items():
            taken[length].append(await block(queue, round_number))
    for outbox, _ in opened.values():
        await outbox.close()
    missed = False
    for name in ("enqueue", "claim", "record_failure", "remove"):
        few, many = (statistics.median(t[name] for t in taken[length][5:]) for length in LENGTHS)
        ratio = many / few
        missed |= ratio >= WANTED
        print(f"{name:15} at 100: {few * 1e6:7.1f} us, at 100,000: {many * 1e6:7.1f} us")
        verdict = "ok" if ratio < WANTED else "MISSED"
        print(f"{name} by length: measured {ratio:.2f}x, wanted < {WANTED:.1f}x  {verdict}")
    return int(missed)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=".") as name:
        sys.exit(asyncio.run(main(Path(name).resolve())))
