"""Read by the type checkers as a user's program would be; not run."""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent import futures
from pathlib import Path
from typing import assert_type

from starfish_disk import (
    BatchThread,
    GroupCommit,
    Place,
    SafeFolder,
    SnapshotReads,
    SqliteFile,
    hold_lock,
    new_file,
    replace_file,
    sweep_leftovers,
)
from starfish_disk.errors import DiskError

replace_file("settings.json", b"{}", mode=0o640)
with hold_lock(Path("lock"), timeout_s=1.5, shared=True):
    with new_file("folder") as file:
        file.write(memoryview(b"bytes"))
        assert_type(file.path, Path)
        file.publish("name", replace=False)
    assert_type(sweep_leftovers("folder"), int)
assert_type(Place("folder").is_known(), bool)


def migrate(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE note SET size = 0")


def count(connection: sqlite3.Connection) -> int:
    return len(connection.execute("SELECT * FROM note").fetchall())


notes = SqliteFile(
    "notes.sqlite",
    application_id=1,
    layouts=[["CREATE TABLE note (size INTEGER)"], [migrate, "ANALYZE"]],
    durability="normal",
    check="wal",
    adopt=lambda tables, version: 1 if "note" in tables and version == 0 else None,
)
with notes.transaction(notes.connect(create=False)) as opened:
    assert_type(opened, sqlite3.Connection)

writes = BatchThread("writes", GroupCommit(notes, as_error=lambda error: OSError(error.reason)))
reads = BatchThread("reads", SnapshotReads(notes), tick_s=1)
assert_type(writes.call(count), int)
assert_type(reads.submit_from_thread(count), futures.Future[int])


async def main() -> None:
    assert_type(reads.submit(count), asyncio.Future[int])
    assert_type(await writes.submit(count), int)
    await writes.stop()


with SafeFolder("folder") as folder:
    try:
        assert_type(folder.read("a/b", max_bytes=10), bytes)
    except DiskError as error:
        assert_type(error.path, str)
    with folder.open_file("a") as source:
        for chunk in source.chunks():
            assert_type(chunk, bytes)
