"""A runner keeps views of a document server's writes, by following the server's own change log."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from starfish_server import SqliteObjectStore, StoreContext, push
from starfish_server.storage.changes import ChangeSource
from starfish_watcher import AsyncRunner, SourcePositionLost, SqliteSink, View

CONTEXT = StoreContext("notes", {}, "ada", (), "push")


class Written(View[Any]):
    """A row for each write."""

    name = "written"

    def prepare(self, tables: Any) -> None:
        tables.execute("CREATE TABLE written (sequence INTEGER, document TEXT, hash TEXT)")

    def apply(self, tables: Any, event: Any) -> None:
        tables.execute(
            "INSERT INTO written VALUES (?, ?, ?)",
            (event.sequence, event.entity, event.payload.hash),
        )


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[SqliteSink]:
    with SqliteSink(tmp_path / "views.sqlite") as sink:
        yield sink


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteObjectStore]:
    store = SqliteObjectStore(tmp_path / "documents.sqlite")
    yield store
    await store.close()


def runner_over(store: SqliteObjectStore, sink: SqliteSink) -> AsyncRunner:
    return AsyncRunner(ChangeSource(store.changes), [Written()], name="r", sink=sink, batch=3)


def rows(sink: SqliteSink) -> list[tuple[int, str, str]]:
    with sink.reading() as connection:
        return connection.execute("SELECT * FROM written ORDER BY sequence").fetchall()


async def test_each_write_has_its_effects_once(store: SqliteObjectStore, sink: SqliteSink) -> None:
    pushed = [await push(store, f"notes/{n}", {"n": n}, None, context=CONTEXT) for n in range(10)]
    assert await runner_over(store, sink).run(until_end=True) == 10
    running = asyncio.create_task(runner_over(store, sink).run())
    pushed += [
        await push(store, f"notes/{n}", {"n": n}, None, context=CONTEXT) for n in range(10, 13)
    ]
    async with asyncio.timeout(20):
        while len(await asyncio.to_thread(rows, sink)) < 13:  # noqa: ASYNC110 - it is asked, as by an operator
            await asyncio.sleep(0.02)
    running.cancel()
    await asyncio.wait([running])

    assert await asyncio.to_thread(rows, sink) == [
        (n + 1, f"notes/{n}", each.hash) for n, each in enumerate(pushed)
    ]


async def test_a_store_that_was_put_back_is_an_error(tmp_path: Path, sink: SqliteSink) -> None:
    path = tmp_path / "documents.sqlite"
    store = SqliteObjectStore(path)
    await push(store, "notes/1", {"n": 1}, None, context=CONTEXT)
    await store.close()
    shutil.copy(path, tmp_path / "backup")
    store = SqliteObjectStore(path)
    for n in range(2, 4):
        await push(store, f"notes/{n}", {"n": n}, None, context=CONTEXT)
    await runner_over(store, sink).run(until_end=True)
    await store.close()

    path.unlink()
    shutil.copy(tmp_path / "backup", path)
    store = SqliteObjectStore(path)
    with pytest.raises(SourcePositionLost):
        await runner_over(store, sink).run(until_end=True)
    for n in range(4, 9):
        await push(store, f"notes/{n}", {"n": n}, None, context=CONTEXT)
    with pytest.raises(SourcePositionLost):
        await runner_over(store, sink).run(until_end=True)
    await store.close()

    assert len(await asyncio.to_thread(rows, sink)) == 3


async def test_compaction_of_the_log_does_not_disturb_it(
    store: SqliteObjectStore, sink: SqliteSink
) -> None:
    base = None
    for n in range(5):
        base = (await push(store, "notes/1", {"n": n}, base, context=CONTEXT)).hash
        await runner_over(store, sink).run(until_end=True)
    assert await store.changes.compact(tombstones_before=0) > 0
    await push(store, "notes/2", {"n": 0}, None, context=CONTEXT)
    assert await runner_over(store, sink).run(until_end=True) == 1
    assert len(await asyncio.to_thread(rows, sink)) == 6
