"""What an append costs, by chunk size and by length of the document; SQLite, durable commits.

A small chunk is sealed often and makes full pulls read many; a large one is rewritten whole with
every append. One writer, so each append waits for its own fsync.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from starfish_protocol.clock import SystemClock
from starfish_server import SqliteObjectStore
from starfish_server.documents._append_log import DEFAULT_CHUNK_SIZE
from starfish_server.protocol.append_only import AppendLog, PullBounds

ELEMENT = {"author": "ada", "text": "x" * 300}
SIZES = (16, 32, 64, 128, 256)
SHORT, LONG = 256, 20_000
WANTED = 0.8


async def rate(log: AppendLog, key: str, count: int, chunk_size: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        await log.append(key, ELEMENT, chunk_size=chunk_size)
    return count / (time.perf_counter() - began)


async def pull_ms(log: AppendLog, key: str, bounds: PullBounds) -> float:
    times = []
    for _ in range(5):
        began = time.perf_counter()
        await log.read(key, bounds)
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


async def by_chunk_size(store: SqliteObjectStore) -> None:
    log = AppendLog(store, SystemClock())
    rates: dict[int, list[float]] = {size: [] for size in SIZES}
    for round_ in range(3):
        for size in SIZES:
            rates[size].append(await rate(log, f"r{round_}/c{size}", 512, size))
    print(f"{'chunk':>6}{'appends/s':>11}{'last=100 ms':>13}{'full of 512 ms':>16}")
    for size, found in rates.items():
        key = f"r0/c{size}"
        last = await pull_ms(log, key, PullBounds(last=100))
        full = await pull_ms(log, key, PullBounds())
        print(f"{size:>6}{statistics.median(found):>11,.0f}{last:>13.2f}{full:>16.2f}")


async def by_length(store: SqliteObjectStore) -> float:
    log = AppendLog(store, SystemClock())
    await rate(log, "long", LONG, DEFAULT_CHUNK_SIZE)
    ratios = []
    for round_ in range(5):
        short = await rate(log, f"short{round_}", SHORT, DEFAULT_CHUNK_SIZE)
        ratios.append(await rate(log, "long", SHORT, DEFAULT_CHUNK_SIZE) / short)
    return statistics.median(ratios)


async def measure() -> float:
    with tempfile.TemporaryDirectory(prefix="starfish-bench-") as folder:
        store = SqliteObjectStore(Path(folder) / "documents.sqlite")
        try:
            await by_chunk_size(store)
            return await by_length(store)
        finally:
            await store.close()


def main() -> int:
    ratio = asyncio.run(measure())
    verdict = "ok" if ratio >= WANTED else "MISSED"
    print(
        f"appends a second at {LONG:,} elements against the first {SHORT}: "
        f"measured {ratio:.2f}x, wanted {WANTED:.2f}x  {verdict}"
    )
    return int(ratio < WANTED)


if __name__ == "__main__":
    sys.exit(main())
