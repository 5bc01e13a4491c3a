"""The runner over a document server's change log, into SQLite tables, beside bare sqlite3.

The bare loop reads no log and keeps no position: it writes the same rows in transactions of the
same size, and is what the runner's figure is a share of. Runs alternate, medians are compared.
"""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starfish_server import SqliteObjectStore, StoreContext
from starfish_server.storage.changes import ChangeSource, DocumentVersion
from starfish_watcher import AsyncRunner, SqliteSink, View

CHANGES = 20_000
BATCH = 2048
ROUNDS = 3
CONTEXT = StoreContext("notes", {"note": "x"}, "ada", (), "push")
TABLE = "CREATE TABLE written (document TEXT, hash TEXT, timestamp INTEGER)"
INSERT = "INSERT INTO written VALUES (?, ?, ?)"


class Written(View[Any]):
    name = "written"

    def prepare(self, tables: Any) -> None:
        tables.execute(TABLE)

    def apply(self, tables: Any, event: Any) -> None:
        self.apply_all(tables, (event,))

    def apply_all(self, tables: Any, events: Sequence[Any]) -> None:
        rows = [(e.entity, e.payload.hash, e.payload.timestamp) for e in events]
        tables.executemany(INSERT, rows)


async def fill(store: SqliteObjectStore) -> None:
    for start in range(0, CHANGES, 1000):
        await asyncio.gather(
            *(
                store.put(
                    f"notes/{n}", "{}", context=CONTEXT.writing(DocumentVersion(f"h{n:060}", n))
                )
                for n in range(start, start + 1000)
            )
        )


async def ours(folder: Path, number: int) -> float:
    store = SqliteObjectStore(folder / "documents.sqlite")
    sink = SqliteSink(folder / f"views{number}.sqlite")
    runner = AsyncRunner(ChangeSource(store.changes), [Written()], name="r", sink=sink, batch=BATCH)
    started = time.perf_counter()
    count = await runner.run(until_end=True)
    seconds = time.perf_counter() - started
    assert count == CHANGES
    sink.close()
    await store.close()
    return CHANGES / seconds


def bare(folder: Path, number: int) -> float:
    connection = sqlite3.connect(folder / f"bare{number}.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(TABLE)
    rows = [(f"notes/{n}", f"h{n:060}", n) for n in range(CHANGES)]
    started = time.perf_counter()
    for start in range(0, CHANGES, BATCH):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(INSERT, rows[start : start + BATCH])
        connection.execute("COMMIT")
    seconds = time.perf_counter() - started
    connection.close()
    return CHANGES / seconds


async def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = SqliteObjectStore(folder / "documents.sqlite")
        await fill(store)
        await store.close()
        rates: dict[str, list[float]] = {"runner over the change log": [], "bare sqlite3": []}
        for number in range(ROUNDS):
            rates["runner over the change log"].append(await ours(folder, number))
            rates["bare sqlite3"].append(bare(folder, number))
    for label, found in rates.items():
        print(f"{label:44} {statistics.median(found):10,.0f} events/s")
    rate = statistics.median(rates["runner over the change log"])
    verdict = "ok" if rate >= 20_000 else "MISSED"
    print(f"runner of 20,000 events/s: measured {rate / 20_000:.2f}x, wanted 1.00x  {verdict}")
    return 0 if rate >= 20_000 else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
