"""A queue of 100,000 entries: its memory, and how long the event loop stands still while it is loaded."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from starfish_outbox import OutboxEntry, OutboxQueue, SqliteOutbox, drain_outbox

COUNT = 100_000
ITEM = {"body": {"t": "x" * 225}}
WANTED_MB = 30.0
WANTED_MS = 50.0
MEMORY = """
import asyncio, re, sys
from pathlib import Path
from starfish_outbox import OutboxQueue, SqliteOutbox

async def main():
    async with SqliteOutbox(sys.argv[1]) as outbox:
        queue = OutboxQueue(outbox)
        await queue.hydrate(sys.argv[2])
        await queue.enqueue("one more", 1)
        print(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

asyncio.run(main())
"""


def kilobytes(path: Path, key: str) -> int:
    program = [sys.executable, "-c", MEMORY, str(path), key]
    return int(subprocess.run(program, capture_output=True, text=True, check=True).stdout)


class Lag:
    """The longest time that the loop stood still."""

    worst_ms = 0.0

    async def watch(self) -> None:
        while True:
            begin = time.perf_counter()
            await asyncio.sleep(0.001)
            self.worst_ms = max(self.worst_ms, (time.perf_counter() - begin) * 1e3 - 1)


async def main(folder: Path) -> int:
    path = folder / "long.sqlite"
    async with SqliteOutbox(path) as outbox:
        queue = OutboxQueue(outbox)
        await queue.hydrate("k")
        for start in range(0, COUNT, 2000):
            await queue.enqueue_many([(f"n{n}", ITEM) for n in range(start, start + 2000)])
    empty, full = kilobytes(path, "nobody"), kilobytes(path, "k")
    missed = (full - empty) / 1024 >= WANTED_MB
    print(
        f"memory of {COUNT:,} entries: measured {(full - empty) / 1024:.1f} MB, wanted < {WANTED_MB}"
    )
    lag, sent = Lag(), 0
    watching = asyncio.create_task(lag.watch())
    async with SqliteOutbox(path) as outbox:
        queue = OutboxQueue(outbox)
        await asyncio.sleep(0.05)
        await queue.hydrate("k")
        loading, lag.worst_ms = lag.worst_ms, 0.0

        async def send(_entry: OutboxEntry) -> None:
            nonlocal sent
            sent += 1
            if sent == 2000:
                queue.pause()

        await drain_outbox(queue, send, concurrency=64)
    watching.cancel()
    for what, worst in (("loading", loading), ("draining", lag.worst_ms)):
        missed |= worst >= WANTED_MS
        print(
            f"the loop stood still while {what}: measured {worst:.0f} ms, wanted < {WANTED_MS:.0f}"
        )
    return int(missed)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=".") as name:
        sys.exit(asyncio.run(main(Path(name).resolve())))
