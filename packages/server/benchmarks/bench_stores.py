"""Puts and gets a second of each store, beside the usual way to call SQLite from asyncio.

The rival hands each call to `asyncio.to_thread`, on one connection behind a lock, with a commit
and so an fsync each: the same file settings and the same durability as `SqliteObjectStore`. The
short rounds of all are interleaved, and a ratio is the median of the rounds' ratios: a disk that
others use is slow for seconds at a time. Memory and files are shown for comparison.
"""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

from starfish_server.storage.filesystem import FilesystemObjectStore
from starfish_server.storage.memory import MemoryObjectStore
from starfish_server.storage.sqlite import SqliteObjectStore

ROUNDS = 21
KEYS = 500
BODY = "x" * 1000
WARM_UP = 600
LABELS = ("memory", "filesystem", "sqlite", "to_thread")
SIZES = {("put", 1): 50, ("put", 64): 640, ("get", 1): 300, ("get", 64): 1280}
WANTED = {("put", 1): 0.8, ("put", 64): 3.0, ("get", 1): 1.0, ("get", 64): 2.0}


class Rival(Protocol):
    async def put(self, key: str, body: str) -> None: ...
    async def get_with_etag(self, key: str) -> tuple[str, str] | None: ...
    async def close(self) -> None: ...


class ToThread:
    """What one writes first: `asyncio.to_thread` a call, a commit a write."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(
            "CREATE TABLE document (key TEXT PRIMARY KEY, revision INTEGER, value TEXT)"
        )

    async def put(self, key: str, body: str) -> None:
        await asyncio.to_thread(self._put, key, body)

    def _put(self, key: str, body: str) -> None:
        with self._lock:
            self._connection.execute(
                "INSERT INTO document VALUES (?, 1, ?) ON CONFLICT (key) DO UPDATE "
                "SET revision = revision + 1, value = excluded.value",
                (key, body),
            )

    async def get_with_etag(self, key: str) -> tuple[str, str] | None:
        return await asyncio.to_thread(self._get, key)

    def _get(self, key: str) -> tuple[str, str] | None:
        with self._lock:
            row = self._connection.execute(
                "SELECT value, revision FROM document WHERE key = ?", (key,)
            ).fetchone()
        return None if row is None else (row[0], str(row[1]))

    async def close(self) -> None:
        self._connection.close()


async def calls_a_second(
    call: Callable[[int], Awaitable[object]], *, count: int, in_flight: int
) -> float:
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await call(number)

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(in_flight)))
    return count / (time.perf_counter() - started)


def call_of(store: Rival, kind: str, turn: int) -> Callable[[int], Coroutine[Any, Any, object]]:
    if kind == "get":
        return lambda number: store.get_with_etag(f"notes/{number % KEYS}")
    # Another text each time: SQLite writes nothing when the content is the same.
    return lambda number: store.put(f"notes/{number % KEYS}", f"{turn}.{number} {BODY}")


async def measure(folder: Path) -> dict[tuple[str, int], dict[str, list[float]]]:
    stores: dict[str, Rival] = {
        "memory": MemoryObjectStore(),
        "sqlite": SqliteObjectStore(folder / "ours.sqlite"),
        "filesystem": FilesystemObjectStore(folder / "files"),
        "to_thread": ToThread(folder / "rival.sqlite"),
    }
    for store in stores.values():
        # Until a write-ahead log has its full size, each commit also pays for a longer file.
        await calls_a_second(call_of(store, "put", -1), count=WARM_UP, in_flight=1)
    rates: dict[tuple[str, int], dict[str, list[float]]] = {
        figure: {label: [] for label in LABELS} for figure in SIZES
    }
    for turn in range(ROUNDS):
        for (kind, in_flight), count in SIZES.items():
            for label in LABELS:
                rate = await calls_a_second(
                    call_of(stores[label], kind, turn), count=count, in_flight=in_flight
                )
                rates[kind, in_flight][label].append(rate)
    for store in stores.values():
        await store.close()
    return rates


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        rates = asyncio.run(measure(Path(folder)))
    print(f"calls a second, documents of {len(BODY)} bytes, median of {ROUNDS} rounds")
    print(f"{'':20}" + "".join(f"{label:>12}" for label in LABELS))
    for (kind, in_flight), by_label in rates.items():
        row = "".join(f"{statistics.median(by_label[label]):>12,.0f}" for label in LABELS)
        print(f"{f'{kind}, {in_flight} in flight':20}{row}")
    missed = False
    for (kind, in_flight), wanted in WANTED.items():
        by_label = rates[kind, in_flight]
        pairs = zip(by_label["sqlite"], by_label["to_thread"], strict=True)
        ratio = statistics.median(ours / rival for ours, rival in pairs)
        verdict = "ok" if ratio >= wanted else "MISSED"
        missed |= ratio < wanted
        print(
            f"sqlite {kind}, {in_flight} in flight, against to_thread: "
            f"measured {ratio:.2f}x, wanted {wanted:.2f}x  {verdict}"
        )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
