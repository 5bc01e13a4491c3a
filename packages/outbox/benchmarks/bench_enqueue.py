"""Durable enqueues through SQLite, beside `persist-queue` and `huey` at synchronous=FULL.

The rivals block the thread that calls them. They are shown twice: called directly, as a program
without an event loop would, and through `asyncio.to_thread`, as one must from a loop that has other
things to do. Ours commits on the loop while the disk takes less than `inline_commit_ms` for one, and
on a thread when it does not: a loaded machine shows the second. All run interleaved, on the same disk;
medians of blocks.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import huey.storage
import persistqueue
from huey.serializer import Serializer

from starfish_outbox import OutboxQueue, SqliteOutbox

BLOCK = 250
ENQUEUES = 6_000
IN_FLIGHT = 64
OFF_THE_LOOP = " in a thread"
ITEM = {
    "path": "notes/1",
    "body": {"text": "bread, milk, " * 8, "done": False, "n": 5},
    "baseHash": "a" * 64,
}


class PersistQueue:
    label = "persist-queue SQLiteAckQueue"

    def __init__(self, folder: Path) -> None:
        self.queue = persistqueue.SQLiteAckQueue(
            str(folder / "pq"), multithreading=True, auto_commit=True
        )
        putter = self.queue._putter  # noqa: SLF001 - the only way to see its level
        (self.level,) = putter.execute("PRAGMA synchronous").fetchone()

    def put(self) -> None:
        self.queue.put(ITEM)

    def cycle(self) -> None:
        self.queue.put(ITEM)
        self.queue.ack(self.queue.get())


class HueyQueue:
    label = "huey SqliteStorage"

    def __init__(self, folder: Path) -> None:
        self.storage = huey.storage.SqliteStorage(filename=str(folder / "huey.db"), fsync=True)
        self.serializer = Serializer()
        (self.level,) = self.storage.conn.execute("PRAGMA synchronous").fetchone()

    def put(self) -> None:
        self.storage.enqueue(self.serializer.serialize(ITEM))

    def cycle(self) -> None:
        self.put()
        self.serializer.deserialize(self.storage.dequeue())


Runs = dict[tuple[str, str], tuple[Callable[[], Awaitable[None]], int]]


def our_runs(queue: OutboxQueue, busy_queue: OutboxQueue) -> Runs:
    numbers = itertools.count()

    async def puts() -> None:
        for _ in range(BLOCK):
            await queue.enqueue(f"n{next(numbers)}", ITEM)

    async def cycles() -> None:
        for _ in range(BLOCK):
            entry_id = f"n{next(numbers)}"
            await queue.enqueue(entry_id, ITEM)
            await queue.claim(entry_id)
            await queue.remove(entry_id)

    async def puts_in_flight() -> None:
        ids = iter([f"n{next(numbers)}" for _ in range(4 * BLOCK)])

        async def worker() -> None:
            for entry_id in ids:
                await busy_queue.enqueue(entry_id, ITEM)

        await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))

    async def puts_together() -> None:
        for _ in range(4 * BLOCK // IN_FLIGHT):
            many = [(f"n{next(numbers)}", ITEM) for _ in range(IN_FLIGHT)]
            await busy_queue.enqueue_many(many)

    return {
        ("enqueue", "ours"): (puts, BLOCK),
        ("enqueue_many", "ours"): (puts_together, 4 * BLOCK // IN_FLIGHT * IN_FLIGHT),
        ("cycle", "ours"): (cycles, BLOCK),
        ("in flight", "ours"): (puts_in_flight, 4 * BLOCK),
    }


def rival_runs(rival: PersistQueue | HueyQueue) -> Runs:
    async def repeat(call: Callable[[], None]) -> None:
        for _ in range(BLOCK):
            call()

    async def repeat_in_thread(call: Callable[[], None]) -> None:
        for _ in range(BLOCK):
            await asyncio.to_thread(call)

    runs: Runs = {}
    for what, call in (("enqueue", rival.put), ("cycle", rival.cycle)):
        runs[what, rival.label] = (partial(repeat, call), BLOCK)
        runs[what, f"{rival.label}{OFF_THE_LOOP}"] = (partial(repeat_in_thread, call), BLOCK)
    return runs


async def measure(runs: Runs) -> dict[tuple[str, str], float]:
    times: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    for _ in range(ENQUEUES // BLOCK):
        for key, (run, count) in runs.items():
            start = time.perf_counter()
            await run()
            times[key].append((time.perf_counter() - start) / count)
    return {key: statistics.median(values[2:]) for key, values in times.items()}


def report(medians: dict[tuple[str, str], float]) -> bool:
    for (what, label), median in sorted(medians.items()):
        print(f"{what:12} {label:45} {1 / median:9,.0f} /s  {median * 1e6:7.1f} us")

    def best(what: str, *, off_the_loop: bool) -> float:
        return min(
            median
            for (measured, label), median in medians.items()
            if measured == what
            and label != "ours"
            and label.endswith(OFF_THE_LOOP) is off_the_loop
            and (
                what != "cycle" or label.startswith("persist-queue")
            )  # huey has no acknowledgement
        )

    missed = False
    for what, off_the_loop, ours, wanted in (
        ("enqueue", False, "enqueue", 0.9),
        ("cycle", False, "cycle", 1.2),
        ("enqueue", True, "enqueue", 1.0),
        ("cycle", True, "cycle", 1.2),
        ("enqueue", False, "in flight", 6.0),
        ("enqueue", False, "enqueue_many", 6.0),
    ):
        ratio = best(what, off_the_loop=off_the_loop) / medians[ours, "ours"]
        missed |= ratio < wanted
        figure = f"{ours} / best rival's {what}{OFF_THE_LOOP if off_the_loop else ''}"
        verdict = "ok" if ratio >= wanted else "MISSED"
        print(f"{figure}: measured {ratio:.2f}x, wanted {wanted:.1f}x  {verdict}")
    return missed


async def commits_are_shared(folder: Path) -> bool:
    """Enqueues of two and three callers in flight, by commit."""
    missed = False
    for callers, wanted in ((2, 1.8), (3, 2.6)):
        for budget_ms, where in ((1e9, "loop"), (0, "thread")):
            path = folder / f"shared-{callers}-{where}.sqlite"
            async with SqliteOutbox(path, inline_commit_ms=budget_ms) as outbox:
                queue = OutboxQueue(outbox)
                await queue.hydrate("outbox.ada")
                statements: list[str] = []
                connection = outbox._thread.engine.connection  # noqa: SLF001 - to count its commits
                assert connection is not None
                connection.set_trace_callback(statements.append)
                ids = iter(range(600))

                async def caller(queue: OutboxQueue, ids: Iterator[int]) -> None:
                    for number in ids:
                        await queue.enqueue(str(number), ITEM)

                await asyncio.gather(*(caller(queue, ids) for _ in range(callers)))
                lone = sum(
                    "IS ?7" in s or (s.startswith("INSERT") and "WHERE" in s) for s in statements
                )
                commits = statements.count("COMMIT") + (lone if "COMMIT" not in statements else 0)
                ratio = 600 / max(1, commits)
                missed |= ratio < wanted
                verdict = "ok" if ratio >= wanted else "MISSED"
                print(
                    f"{callers} in flight on the {where}: measured {ratio:.2f} enqueues a commit,"
                    f" wanted {wanted:.1f}  {verdict}"
                )
    return missed


async def main(folder: Path) -> int:
    rivals = [PersistQueue(folder), HueyQueue(folder)]
    print("synchronous (2 is FULL): ours 2" + "".join(f", {r.label} {r.level}" for r in rivals))
    if any(rival.level != 2 for rival in rivals):
        raise SystemExit("a rival does not run at FULL: nothing to compare")
    # four times as many are enqueued in flight: in a file of their own, so that lengths compare
    async with (
        SqliteOutbox(folder / "ours.sqlite") as outbox,
        SqliteOutbox(folder / "busy.sqlite") as busy_outbox,
    ):
        queue, busy_queue = OutboxQueue(outbox), OutboxQueue(busy_outbox)
        await queue.hydrate("outbox.ada")
        await busy_queue.hydrate("outbox.ada")
        runs = our_runs(queue, busy_queue)
        for rival in rivals:
            runs |= rival_runs(rival)
        missed = report(await measure(runs))
    return int(await commits_are_shared(folder) or missed)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=".", ignore_cleanup_errors=True) as name:
        sys.exit(asyncio.run(main(Path(name).resolve())))
