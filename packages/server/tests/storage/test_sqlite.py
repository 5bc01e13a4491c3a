from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from starfish_server.errors import StoreUnavailableError
from starfish_server.storage._sqlite_changes import ChangeRecorder
from starfish_server.storage._sqlite_values import Transaction, listing
from starfish_server.storage.object_store import Write
from starfish_server.storage.sqlite import SqliteObjectStore
from starfish_server.storage.values import Value
from starfish_server.testing import OpenStore, PersistentStoreContract


class TestSqliteObjectStore(PersistentStoreContract):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> OpenStore:
        return partial(SqliteObjectStore, tmp_path / "documents.sqlite")

    @pytest.fixture
    async def store(self, open_store: OpenStore) -> AsyncIterator[SqliteObjectStore]:
        store = open_store()
        yield store
        await store.close()


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A file that holds one document."""
    path = tmp_path / "documents.sqlite"
    store = SqliteObjectStore(path)
    await store.put("a", "1")
    await store.close()
    return path


def query(path: Path, statement: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


# Opening.


async def test_nothing_is_opened_before_the_first_call(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folders" / "documents.sqlite"
    store = SqliteObjectStore(str(path))
    assert not path.parent.exists()

    assert await store.get_string("a") is None
    assert path.exists()
    await store.close()


async def test_the_log_is_written_ahead_and_every_commit_synced(path: Path) -> None:
    store = SqliteObjectStore(path)

    def settings() -> list[object]:
        with contextlib.closing(store._opened().file.connect()) as connection:
            return [
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("journal_mode", "synchronous")
            ]

    assert await asyncio.to_thread(settings) == ["wal", 2]  # 2 is FULL


async def test_closing_folds_the_log_into_the_file(path: Path) -> None:
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert query(path, "SELECT key, value FROM document") == [("a", b"1")]


async def test_closing_ends_the_threads(tmp_path: Path) -> None:
    store = SqliteObjectStore(tmp_path / "ended.sqlite")
    await store.put("a", "1")  # reading has not begun
    assert sum(thread.name.startswith("ended.sqlite") for thread in threading.enumerate()) == 1
    await store.close()

    for thread in threading.enumerate():
        if thread.name.startswith("ended.sqlite"):
            await asyncio.to_thread(thread.join, 10)
            assert not thread.is_alive()


async def test_a_store_that_is_dropped_ends_its_threads(tmp_path: Path) -> None:
    store = SqliteObjectStore(tmp_path / "dropped.sqlite")
    await store.put("a", "1")
    threads = [t for t in threading.enumerate() if t.name.startswith("dropped.sqlite")]
    del store
    gc.collect()

    for thread in threads:
        await asyncio.to_thread(thread.join, 10)
        assert not thread.is_alive()


def test_one_store_serves_one_event_loop_after_the_other(tmp_path: Path) -> None:
    store = SqliteObjectStore(tmp_path / "documents.sqlite")
    asyncio.run(store.put("a", "1"))

    assert asyncio.run(store.get_string("a")) == "1"
    asyncio.run(store.close())


async def test_an_event_loop_that_is_closed_while_it_waits_does_not_hurt(tmp_path: Path) -> None:
    store = SqliteObjectStore(tmp_path / "documents.sqlite")

    def leave() -> None:
        loop = asyncio.new_event_loop()
        task = loop.create_task(store.put("a", "1"))
        loop.call_soon(loop.stop)
        loop.run_forever()
        task.cancel()
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        loop.close()

    await asyncio.to_thread(leave)
    await store.put("b", "2")

    assert await store.get_string("b") == "2"
    await store.close()


def test_the_interpreter_ends_though_nobody_closed_and_the_write_is_there(tmp_path: Path) -> None:
    path = tmp_path / "documents.sqlite"
    code = (
        "import asyncio, sys\n"
        "from starfish_server.storage.sqlite import SqliteObjectStore\n"
        "store = SqliteObjectStore(sys.argv[1])\n"
        "asyncio.run(store.put('a', '1'))\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=30)

    assert query(path, "SELECT key, value FROM document") == [("a", b"1")]


def test_a_forked_child_opens_the_file_for_itself(tmp_path: Path) -> None:
    code = (
        "import asyncio, os, sys\n"
        "from starfish_server.storage.sqlite import SqliteObjectStore\n"
        "store = SqliteObjectStore(sys.argv[1])\n"
        "asyncio.run(store.put('a', '1'))\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    asyncio.run(store.put('b', '2'))\n"
        "    asyncio.run(store.close())\n"
        "    os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "assert asyncio.run(store.get_string('b')) == '2'\n"
        "asyncio.run(store.put('c', '3'))\n"
        "asyncio.run(store.close())\n"
    )
    path = tmp_path / "documents.sqlite"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=30)

    assert query(path, "SELECT key FROM document ORDER BY key") == [("a",), ("b",), ("c",)]


# Damaged and foreign files.


async def refusals(store: SqliteObjectStore) -> list[StoreUnavailableError]:
    """What each call says, which must be the typed error and nothing else."""
    found: list[StoreUnavailableError] = []
    for call in (
        store.get_string("a"),
        store.get_with_etag("a"),
        store.get_bytes("a"),
        store.list_keys(""),
        store.put("a", "2"),
        store.put_if_match("a", "2", None),
        store.put_bytes("a", b"2", content_type="a/b"),
        store.delete("a"),
    ):
        with pytest.raises(StoreUnavailableError) as caught:
            await call
        assert not isinstance(caught.value, sqlite3.Error)
        found.append(caught.value)
    await store.close()
    return found


async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear Ada, " * 1000)
    errors = await refusals(SqliteObjectStore(path))

    assert all(error.location == str(path) for error in errors)
    assert "not a database" in str(errors[0])
    assert path.read_text() == "Dear Ada, " * 1000


async def test_a_database_of_another_application_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    query(path, "CREATE TABLE document (mine)")
    before = path.read_bytes()
    errors = await refusals(SqliteObjectStore(path))

    assert "another application" in str(errors[0])
    assert path.read_bytes() == before


async def test_a_newer_layout_is_refused_and_left_alone(path: Path) -> None:
    query(path, "PRAGMA user_version = 999")
    errors = await refusals(SqliteObjectStore(path))

    assert "layout 999" in str(errors[0])
    assert query(path, "PRAGMA user_version") == [(999,)]


async def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    errors = await refusals(SqliteObjectStore(tmp_path))

    assert str(tmp_path) in str(errors[0])


async def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    errors = await refusals(SqliteObjectStore(tmp_path / "file" / "documents.sqlite"))

    assert "file" in str(errors[0])


async def test_a_damaged_file_is_an_error_and_never_a_shorter_answer(tmp_path: Path) -> None:
    path = tmp_path / "documents.sqlite"
    store = SqliteObjectStore(path)
    await asyncio.gather(*(store.put(f"k/{number:04}", "x" * 500) for number in range(2000)))
    await store.close()
    size = path.stat().st_size
    with path.open("r+b") as file:  # all but the schema
        file.seek(3 * 4096)
        file.write(b"\x5a" * (size - 3 * 4096))

    with pytest.raises(StoreUnavailableError, match="malformed"):
        await store.list_keys("")
    with pytest.raises(StoreUnavailableError, match="malformed"):
        await store.get_string("k/1000")
    with pytest.raises(StoreUnavailableError, match="malformed"):
        await store.put("k/1000", "y")
    await store.close()


async def test_a_file_cut_short_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "documents.sqlite"
    store = SqliteObjectStore(path)
    await asyncio.gather(*(store.put(f"k/{number:04}", "x" * 500) for number in range(2000)))
    await store.close()
    os.truncate(path, path.stat().st_size // 2)

    with pytest.raises(StoreUnavailableError, match="malformed"):
        await store.list_keys("")
    await store.close()


async def test_a_file_that_was_replaced_under_the_store_is_an_error_until_it_is_closed(
    path: Path,
) -> None:
    store = SqliteObjectStore(path)
    assert await store.get_string("a") == "1"
    shutil.move(path, path.with_name("moved.sqlite"))

    errors = [await raised(store.put("a", "2")), await raised(store.get_string("a"))]
    query(path, "CREATE TABLE another (file)")
    errors += [await raised(store.put("a", "2")), await raised(store.get_string("a"))]
    assert all(isinstance(error, StoreUnavailableError) for error in errors)

    shutil.move(path.with_name("moved.sqlite"), path)
    assert await store.get_string("a") == "1"
    await store.close()


async def raised(call: Coroutine[Any, Any, object]) -> BaseException | None:
    (outcome,) = await asyncio.gather(call, return_exceptions=True)
    return outcome if isinstance(outcome, BaseException) else None


async def test_a_file_that_may_not_be_written_can_still_be_read(path: Path) -> None:
    store = SqliteObjectStore(path)
    assert await store.get_string("a") == "1"
    with contextlib.suppress(StoreUnavailableError):  # in force at once
        await on_writer(store, "PRAGMA query_only = ON")

    with pytest.raises(StoreUnavailableError, match="readonly"):
        await store.put("a", "2")
    assert await store.get_string("a") == "1"
    await store.close()


async def on_writer(store: SqliteObjectStore, statement: str) -> None:
    """Run a statement on the connection that writes."""
    worker = store._opened().writes

    def run(connection: sqlite3.Connection) -> None:
        connection.execute("COMMIT")
        connection.execute(statement)
        connection.execute("BEGIN IMMEDIATE")

    await worker.submit(run)


async def test_a_full_disk_fails_the_write_that_does_not_fit_and_no_other(path: Path) -> None:
    store = SqliteObjectStore(path)
    ((pages,),) = query(path, "PRAGMA page_count")
    assert isinstance(pages, int)
    await on_writer(store, f"PRAGMA max_page_count = {pages + 20}")

    outcomes = await asyncio.gather(
        store.put("small/1", "x"),
        store.put("big", "y" * 1_000_000),
        store.put("small/2", "x"),
        store.put_if_match("small/3", "x", None),
        return_exceptions=True,
    )

    assert isinstance(outcomes[1], StoreUnavailableError)
    assert "full" in str(outcomes[1])
    assert [isinstance(outcome, BaseException) for outcome in outcomes] == [0, 1, 0, 0]
    assert await store.list_keys("") == ["a", "small/1", "small/2", "small/3"]
    found = await store.get_with_etag("small/3")
    assert found == ("x", outcomes[3])
    await on_writer(store, "PRAGMA max_page_count = 1000000")
    await store.put("big", "y" * 1_000_000)
    await store.close()


async def test_one_write_that_fails_leaves_its_neighbours_alone(path: Path) -> None:
    store = SqliteObjectStore(path)
    await on_writer(
        store,
        "CREATE TEMP TRIGGER refuse BEFORE INSERT ON main.document WHEN new.key = 'bad' "
        "BEGIN SELECT RAISE(ABORT, 'refused by a test'); END",
    )
    keys = [f"k/{number}" for number in range(20)]
    outcomes = await asyncio.gather(
        *(store.put_if_match(key, "x", None) for key in [*keys[:10], "bad", *keys[10:]]),
        return_exceptions=True,
    )

    assert isinstance(outcomes[10], StoreUnavailableError)
    assert "refused by a test" in str(outcomes[10])
    etags = outcomes[:10] + outcomes[11:]
    for key, etag in zip(keys, etags, strict=True):
        assert await store.get_with_etag(key) == ("x", etag)
    assert await store.get_string("bad") is None
    await store.close()


async def test_an_error_of_our_own_leaves_no_transaction_open(path: Path) -> None:
    store = SqliteObjectStore(path)

    def wrong(connection: sqlite3.Connection) -> None:
        Transaction(connection, ChangeRecorder()).write(Write("half", Value(b"x")), 0)
        raise LookupError("a mistake")

    with pytest.raises(LookupError):
        await store._opened().writes.submit(wrong)
    await store.put("b", "2")
    assert await store.list_keys("") == ["a", "b"]
    await store.close()


# Together with others.


async def test_no_etag_is_given_twice_though_a_write_was_rolled_back(path: Path) -> None:
    one, other = SqliteObjectStore(path), SqliteObjectStore(path)

    def write_and_fail(connection: sqlite3.Connection) -> None:
        Transaction(connection, ChangeRecorder()).write(Write("half", Value(b"x")), 0)
        raise LookupError("a mistake")

    with pytest.raises(LookupError):
        await one._opened().writes.submit(write_and_fail)
    etags: list[str | None] = []
    for number in range(1100):
        store = (one, other)[number % 2]
        etags.append(await store.put_if_match(f"k/{number}", "x", None))

    assert len(set(etags)) == 1100
    assert None not in etags
    await one.close()
    await other.close()


async def test_a_file_that_is_locked_for_too_long_is_an_error_that_says_so(path: Path) -> None:
    store = SqliteObjectStore(path, busy_timeout_ms=50)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreUnavailableError, match=r"lock for 0\.05 s") as caught:
        await store.put("a", "2")
    assert caught.value.location == str(path)
    assert await store.get_string("a") == "1"

    holder.execute("ROLLBACK")
    holder.close()
    await store.put("a", "2")
    assert await store.get_string("a") == "2"
    await store.close()


async def test_waiting_writes_are_committed_together(path: Path) -> None:
    store = SqliteObjectStore(path)
    await store.put("a", "1")
    commits: list[None] = []
    begun, ready = threading.Event(), threading.Event()

    def hold(connection: sqlite3.Connection) -> None:
        begun.set()
        ready.wait(10)

    def count(statement: str) -> None:
        if statement == "COMMIT":
            commits.append(None)

    def watch(connection: sqlite3.Connection) -> None:
        connection.set_trace_callback(count)

    threads = store._opened()
    await threads.writes.submit(watch)
    commits.clear()
    held = threads.writes.submit(hold)
    await asyncio.to_thread(begun.wait, 10)
    writes = [asyncio.create_task(store.put(f"k/{number}", "x")) for number in range(500)]
    await asyncio.sleep(0)
    ready.set()
    await asyncio.gather(held, *writes)

    assert len(commits) == 2  # of the one that held the others up, and of all the others
    await store.close()


async def test_a_listing_does_not_hold_up_a_read(path: Path) -> None:
    store = SqliteObjectStore(path)
    await store.list_keys("")
    go = threading.Event()
    slow = store._opened().scans.submit(lambda connection: go.wait(10))

    assert await store.get_string("a") == "1"
    assert not slow.done()
    go.set()
    assert await slow
    await store.close()


@pytest.mark.parametrize("start_after", [None, "k/0500"])
async def test_a_page_reads_an_index_and_no_more_than_the_page(
    path: Path, start_after: str | None
) -> None:
    statement, values = listing("k/", start_after, 10, 0)
    connection = sqlite3.connect(path)
    plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
    connection.close()

    (step,) = [row[3] for row in plan]
    assert "USING INDEX sqlite_autoindex_document_1" in step
    assert "key>? AND key<?" in step


def test_many_processes_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    for round_ in range(30):
        path = tmp_path / str(round_) / "documents.sqlite"
        children = []
        for number in range(6):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    asyncio.run(SqliteObjectStore(path).put(str(number), "x"))
                    status = 0
                finally:
                    os._exit(status)
            children.append(child)

        assert [os.waitpid(child, 0)[1] for child in children] == [0] * 6
