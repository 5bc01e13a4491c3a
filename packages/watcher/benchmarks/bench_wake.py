"""How long it takes from an append to the new state, and what many watchers cost.

Caveats. A wake-up is measured from the return of ``append``'s commit to the return of ``recv`` in
another thread, on a store where nothing else happens; with SQLite that includes the fsync when it
is measured from the call, so both are printed. 512 watchers are measured twice: received from when
the appends are done, which is what watching costs the appends; and as asyncio tasks that receive
all the time in the same process, which adds the cost of up to 10,000 looks under the interpreter
lock that the producers need too. Both end at the last state of every entity. 512 threads that each
block in ``recv`` are not measured: they cost producers more than the tasks do.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from starfish_watcher import Coordinate, EventKind, EventStore, Projection

KIND = EventKind.custom(0xF, 1)
WATCHERS = 512
APPENDS = 10_000
PRODUCERS = 16
ROUNDS = 3


class Count(Projection[int]):
    def initial(self) -> int:
        return 0

    def apply(self, state: int, event: Any) -> int:
        return max(state + 1, event.generation)


def wake_ups(store: EventStore, entity: str, count: int) -> tuple[list[float], list[float]]:
    """Milliseconds from call to state, and from visibility to state."""
    watcher = store.watch_projection(Count, entity)
    store.project(Count, entity)
    coordinate = Coordinate(entity, "eu")
    woke: list[float] = []
    waiting = threading.Semaphore(0)

    def receive() -> None:
        for _ in range(count):
            waiting.release()
            watcher.recv(30)
            woke.append(time.perf_counter())

    thread = threading.Thread(target=receive)
    thread.start()
    called, visible = [], []
    for number in range(count):
        waiting.acquire()
        time.sleep(0.002)
        called.append(time.perf_counter())
        store.append(coordinate, KIND, {})
        visible.append(time.perf_counter())
        while len(woke) == number:
            time.sleep(0.0002)
    thread.join()
    watcher.close()
    from_call = [(w - c) * 1000 for w, c in zip(woke, called, strict=True)]
    from_visible = [max(0.0, (w - v) * 1000) for w, v in zip(woke, visible, strict=True)]
    return from_call, from_visible


def looks(store: EventStore, entity: str, count: int) -> float:
    """Median microseconds of one look after one append: the part that could grow with length."""
    watcher = store.watch_projection(Count, entity, include_initial=True)
    watcher.recv(60)
    coordinate = Coordinate(entity, "eu")
    spent = []
    for _ in range(count):
        store.append(coordinate, KIND, {}, durability="none")
        started = time.perf_counter()
        assert watcher.try_recv() is not None
        spent.append((time.perf_counter() - started) * 1e6)
    watcher.close()
    return statistics.median(spent)


def fill(store: EventStore, entity: str, events: int) -> None:
    coordinate = Coordinate(entity, "eu")
    for start in range(0, events, 5_000):
        size = min(5_000, events - start)
        store.append_batch([(coordinate, KIND, {})] * size, durability="none")


def produce_all(store: EventStore) -> float:
    """Seconds that the appends took."""

    def produce(first: int) -> None:
        for number in range(first, APPENDS, PRODUCERS):
            store.append(Coordinate(f"e:{number % WATCHERS}", "eu"), KIND, {})

    producers = [threading.Thread(target=produce, args=(n,)) for n in range(PRODUCERS)]
    started = time.perf_counter()
    for thread in producers:
        thread.start()
    for thread in producers:
        thread.join()
    return time.perf_counter() - started


def with_waiting_watchers(path: Path) -> float:
    """Appends a second with watchers that are received from afterwards."""
    with EventStore.open(path) as store:
        watchers = [store.watch_projection(Count, f"e:{n}") for n in range(WATCHERS)]
        seconds = produce_all(store)
        last = [watcher.recv(60).generation for watcher in watchers]
    assert last == [len(range(number, APPENDS, WATCHERS)) for number in range(WATCHERS)]
    return APPENDS / seconds


def throughput(path: Path, *, watched: bool) -> float:
    """Appends a second with and without watchers that receive all the time."""
    with EventStore.open(path) as store:
        loop = asyncio.new_event_loop()
        last: dict[int, int] = {}

        async def follow(number: int) -> None:
            watcher = await store.aio.watch_projection(Count, f"e:{number}")
            last[number] = 0
            while last[number] < finals[number]:
                last[number] = (await watcher.recv(60)).generation
            watcher.close()

        finals = [len(range(number, APPENDS, WATCHERS)) for number in range(WATCHERS)]

        async def follow_all() -> None:
            await asyncio.gather(*(follow(number) for number in range(WATCHERS)))

        following = threading.Thread(target=lambda: loop.run_until_complete(follow_all()))
        if watched:
            following.start()
            while len(last) < WATCHERS:
                time.sleep(0.01)
        seconds = produce_all(store)
        if watched:
            following.join()
            assert [last[number] for number in range(WATCHERS)] == finals
        loop.close()
    return APPENDS / seconds


def main() -> int:
    figures: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with EventStore.open(folder / "idle.db") as store:
            from_call, from_visible = wake_ups(store, "idle", 200)
        print(
            f"SQLite, from the call to the state      median {statistics.median(from_call):.3f} ms"
        )
        print(
            f"SQLite, from visible to the state       median {statistics.median(from_visible):.3f} ms"
        )
        with EventStore.memory() as store:
            in_memory, _ = wake_ups(store, "idle", 200)
        print(
            f"memory, from the call to the state      median {statistics.median(in_memory):.3f} ms"
        )
        figures["wake-up below 2 ms, SQLite, from the call"] = (
            2 / statistics.median(from_call),
            1.0,
        )
        with EventStore.open(folder / "length.db") as store:
            fill(store, "short", 10)
            fill(store, "long", 100_000)
            short, long = [], []
            for _ in range(ROUNDS):
                short.append(looks(store, "short", 200))
                long.append(looks(store, "long", 200))
        ratio = statistics.median(long) / statistics.median(short)
        print(f"one look, entity of 10 events           median {statistics.median(short):.0f} us")
        print(f"one look, entity of 100,000 events      median {statistics.median(long):.0f} us")
        figures["independence of length (1.5 / measured ratio)"] = (1.5 / ratio, 1.0)
        plain, waiting, watched = [], [], []
        for number in range(ROUNDS):
            plain.append(throughput(folder / f"plain{number}.db", watched=False))
            waiting.append(with_waiting_watchers(folder / f"waiting{number}.db"))
            watched.append(throughput(folder / f"watched{number}.db", watched=True))
        print(f"appends without watchers                {statistics.median(plain):,.0f}/s")
        print(f"appends with {WATCHERS} receiving watchers     {statistics.median(watched):,.0f}/s")
        print(f"appends with {WATCHERS} waiting watchers       {statistics.median(waiting):,.0f}/s")
        base = statistics.median(plain)
        share = statistics.median(waiting) / base
        figures[f"append throughput with {WATCHERS} watchers"] = (share, 0.5)
        share = statistics.median(watched) / base
        figures["append throughput while all of them receive"] = (share, 0.5)
    for label, (measured, wanted) in figures.items():
        verdict = "ok" if measured >= wanted else "MISSED"
        print(f"{label}: measured {measured:.2f}x, wanted {wanted:.2f}x  {verdict}")
    return 0 if all(measured >= wanted for measured, wanted in figures.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
