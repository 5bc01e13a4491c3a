"""What the log of changes holds, and who is woken by it."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from starfish_protocol.events import Event, SubscriptionClosed
from starfish_server import (
    FilesystemObjectStore,
    SqliteObjectStore,
    StoreContext,
    StoreUnavailableError,
    push,
)
from starfish_server.storage.changes import Change, ChangeSource, DocumentVersion

CONTEXT = StoreContext("notes", {"note": "x"}, "ada", (), "push", "team")


def version(number: int) -> StoreContext:
    return CONTEXT.writing(DocumentVersion(f"h{number}", number))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteObjectStore]:
    store = SqliteObjectStore(tmp_path / "documents.sqlite")
    yield store
    await store.close()


async def test_a_write_is_recorded_with_who_wrote_what(store: SqliteObjectStore) -> None:
    await store.put_if_match("team/notes/1", "a", None, context=version(1))
    await store.put("team/notes/2", "b", context=version(2))
    await store.put_bytes("team/notes/1", b"c", content_type="x/y", context=version(3))

    changes = await store.changes.read(0, 10)
    assert [replace(change, position="") for change in changes] == [
        Change(1, "notes", {"note": "x"}, "team/notes/1", 1, "h1", 1, "team", "ada"),
        Change(2, "notes", {"note": "x"}, "team/notes/2", 1, "h2", 2, "team", "ada"),
        Change(3, "notes", {"note": "x"}, "team/notes/1", 2, "h3", 3, "team", "ada"),
    ]
    assert await store.changes.last_sequence() == 3
    assert [await store.changes.generation(key) for key in ("team/notes/1", "x")] == [2, 0]
    assert [each.sequence for each in await store.changes.read(0, 10, key="team/notes/1")] == [1, 3]
    assert [each.sequence for each in await store.changes.read(1, 1)] == [2]


async def test_what_is_no_version_of_a_document_is_not_recorded(store: SqliteObjectStore) -> None:
    await store.put("a", "1")
    await store.put("a", "2", context=CONTEXT)
    assert await store.put_if_match("a", "3", None, context=version(1)) is None
    assert await store.put_if_match("a", "3", "gone", context=version(1)) is None

    assert await store.changes.read(0, 10) == []
    assert await store.changes.last_sequence() == 0


async def test_a_push_records_the_hash_that_it_answers(store: SqliteObjectStore) -> None:
    pushed = await push(store, "k", {"n": 1}, None, context=CONTEXT)
    refused = await push(store, "k", {"n": 2}, None, context=CONTEXT)

    changes = await store.changes.read(0, 10)
    assert [(each.hash, each.timestamp) for each in changes] == [(pushed.hash, pushed.timestamp)]
    assert refused != pushed


async def test_stores_without_a_log_say_so(tmp_path: Path) -> None:
    assert FilesystemObjectStore(tmp_path).changes is None


async def test_a_write_whose_record_fails_is_undone_and_the_others_are_not(
    store: SqliteObjectStore, tmp_path: Path
) -> None:
    await store.put("before", "1", context=version(1))
    outside = sqlite3.connect(tmp_path / "documents.sqlite")
    outside.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON change WHEN new.key = 'bad' "
        "BEGIN SELECT raise(ABORT, 'no room'); END"
    )
    outside.close()

    writes = [store.put(key, "2", context=version(2)) for key in ("a", "bad", "b")]
    answers = await asyncio.gather(*writes, return_exceptions=True)

    assert answers[0] is None
    assert answers[2] is None
    assert isinstance(answers[1], StoreUnavailableError)
    assert await store.get_string("bad") is None
    assert [each.key for each in await store.changes.read(0, 10)] == ["before", "a", "b"]


LAYOUT_1 = """
    CREATE TABLE document (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        revision INTEGER NOT NULL,
        content_type TEXT,
        value BLOB NOT NULL
    );
    CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO counter (name, value) VALUES ('revision', 1000);
    INSERT INTO document VALUES (1, 'old', 3, NULL, '1');
    INSERT INTO document VALUES
        (2, 'notes/1', 4, 'application/json', '{"v":1,"data":{},"ts":123,"hash":"ab"}');
    INSERT INTO document VALUES (3, 'blob', 5, 'image/png;starfish-written=456', x'00ff');
    PRAGMA application_id = 0x53544653;
    PRAGMA user_version = 1;
"""
LAYOUT_2 = """
    CREATE TABLE change (
        sequence INTEGER PRIMARY KEY,
        collection TEXT NOT NULL,
        params TEXT NOT NULL,
        key TEXT NOT NULL,
        generation INTEGER NOT NULL,
        hash TEXT NOT NULL,
        timestamp INTEGER NOT NULL,
        namespace TEXT,
        identity TEXT
    );
    CREATE INDEX change_by_key ON change (key, sequence);
    INSERT INTO change VALUES (1, 'notes', '{"n":"1"}', 'notes/1', 1, 'aa', 100, NULL, NULL);
    INSERT INTO change VALUES (2, 'notes', '{"n":"1"}', 'notes/1', 2, 'ab', 123, NULL, 'ada');
    PRAGMA user_version = 2;
"""


@pytest.mark.parametrize("script", [LAYOUT_1, LAYOUT_1 + LAYOUT_2])
async def test_a_file_of_an_older_layout_keeps_its_values_and_goes_on(
    tmp_path: Path, script: str
) -> None:
    path = tmp_path / "documents.sqlite"
    outside = sqlite3.connect(path)
    outside.executescript(script)
    outside.close()
    store = SqliteObjectStore(path)
    changed = script != LAYOUT_1

    assert await store.get_string("old") == "1"
    assert await store.get_bytes("blob") == (b"\x00\xff", "image/png")
    note, blob = await store.stat("notes/1"), await store.stat("blob")
    assert note is not None
    assert blob is not None
    assert (note.etag, note.hash, note.written_at, note.size) == ("4", "ab", 123, 38)
    assert note.generation == (2 if changed else 1)
    assert (blob.hash, blob.written_at, blob.size) == (None, 456, 2)

    await store.put("notes/1", "2", context=version(2))
    changes = await store.changes.read(0, 10)
    assert [each.generation for each in changes if each.key == "notes/1"][-1] == (
        3 if changed else 2
    )
    assert [each.identity for each in changes] == ([None, "ada", "ada"] if changed else ["ada"])
    assert (await store.stat("notes/1") or note).etag not in {"3", "4", "5"}
    await store.close()


async def test_a_waiter_is_woken_by_the_next_change(store: SqliteObjectStore) -> None:
    log = store.changes
    await store.put("a", "1", context=version(1))

    assert await log.last_sequence(wait_after=0, timeout=60) == 1
    assert await log.last_sequence(wait_after=1, timeout=0.01) == 1
    waiters = [asyncio.create_task(log.last_sequence(wait_after=1, timeout=60)) for _ in range(3)]
    patient = asyncio.create_task(log.last_sequence(wait_after=2, timeout=60))
    await asyncio.sleep(0)
    await store.put("a", "2", context=version(2))

    assert await asyncio.gather(*waiters) == [2, 2, 2]
    assert not patient.done()
    patient.cancel()


async def test_a_change_made_by_another_process_wakes_too(
    store: SqliteObjectStore, tmp_path: Path
) -> None:
    await store.put("a", "1")
    waiting = asyncio.create_task(store.changes.last_sequence(wait_after=0, timeout=30))
    script = (
        "import asyncio, sys\n"
        "from starfish_server import SqliteObjectStore, StoreContext, push\n"
        "context = StoreContext('notes', {}, None, (), 'push')\n"
        "asyncio.run(push(SqliteObjectStore(sys.argv[1]), 'k', {}, None, context=context))\n"
    )
    path = str(tmp_path / "documents.sqlite")
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script, path], check=True, capture_output=True
    )

    assert done.returncode == 0
    assert await waiting == 1


async def test_a_waiter_hears_when_the_store_fails(
    store: SqliteObjectStore, tmp_path: Path
) -> None:
    await store.put("a", "1")
    waiting = asyncio.create_task(store.changes.last_sequence(wait_after=0, timeout=30))
    await asyncio.sleep(0.01)
    (tmp_path / "documents.sqlite").rename(tmp_path / "elsewhere")

    with pytest.raises(StoreUnavailableError):
        await waiting


async def test_a_source_keeps_the_promises_of_event_sources(store: SqliteObjectStore) -> None:
    source = ChangeSource(store.changes)
    everything = await source.subscribe()
    only_a = await source.subscribe(entity="a")
    for number, key in enumerate("aba", 1):
        await store.put(key, "x", context=version(number))

    events = await source.read(0, 10)
    assert all(isinstance(event, Event) for event in events)
    assert [(event.sequence, event.entity, event.kind) for event in events] == [
        (1, "a", "notes"),
        (2, "b", "notes"),
        (3, "a", "notes"),
    ]
    assert [await source.generation(entity) for entity in ("a", "b", "c")] == [2, 1, 0]
    assert await everything.pull_batch(2, 5) == events[:2]
    assert await everything.pull_batch(2, 5) == events[2:]
    assert await only_a.pull_batch(9, 5) == [events[0], events[2]]
    assert await only_a.pull_batch(9, 0.01) == []

    waiting = asyncio.create_task(only_a.pull_batch(9, None))
    await asyncio.sleep(0)
    await store.put("b", "y", context=version(4))
    await store.put("a", "y", context=version(5))
    assert [event.sequence for event in await waiting] == [5]

    closing = asyncio.create_task(everything.pull_batch(9, None))
    assert [event.sequence for event in await closing] == [4, 5]
    everything.close()
    with pytest.raises(SubscriptionClosed):
        await everything.pull_batch(9, None)
