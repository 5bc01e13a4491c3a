"""The file of a `SqliteEventLog`: its layouts, how it is opened, and the errors that it gives.

The file is the store together with its ``-wal`` file while any process has it open or has died
with it open; a copy needs both.
"""

from __future__ import annotations

import logging
import sqlite3
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, NamedTuple

from starfish_disk import errors as disk
from starfish_disk.sqlite_errors import from_sqlite_error
from starfish_disk.sqlite_file import SqliteFile
from starfish_watcher._limits import BUSY_TIMEOUT_S
from starfish_watcher.errors import (
    StoreClosed,
    StoreDamagedError,
    StoreFormatError,
    StoreFullError,
    StoreMovedError,
    StoreUnavailableError,
    WatcherError,
)
from starfish_watcher.log.sqlite._tail import unread_commits

__all__ = ("Check", "FileState", "connect", "event_file", "prepare_file", "translated")

logger = logging.getLogger(__name__)
Check = Literal["quick", "none"]
"""What to verify on opening: the file's structure and counts, or only that it is a store."""

APPLICATION_ID: Final = 0x53464556


def _make_head(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO log (id, store_id) VALUES (1, ?)", (uuid.uuid4().hex,))


_LAYOUT_1: Final[tuple[str | Callable[[sqlite3.Connection], object], ...]] = (
    """
    CREATE TABLE events (
        sequence INTEGER PRIMARY KEY,
        entity TEXT NOT NULL,
        scope TEXT NOT NULL,
        clock INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        event_id BLOB NOT NULL,
        timestamp_us INTEGER NOT NULL,
        correlation_id BLOB,
        causation_id BLOB,
        payload BLOB NOT NULL,
        previous_hash BLOB NOT NULL,
        event_hash BLOB NOT NULL
    ) STRICT
    """,
    # The row id, which is the sequence, ends every index entry: an entity's events are in order.
    "CREATE INDEX events_by_entity ON events (entity)",
    "CREATE UNIQUE INDEX events_by_id ON events (event_id)",
    """
    CREATE TABLE entities (
        entity TEXT PRIMARY KEY,
        generation INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        event_hash BLOB NOT NULL,
        removed INTEGER NOT NULL DEFAULT 0
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE idempotency (
        key TEXT PRIMARY KEY,
        content BLOB NOT NULL,
        event_id BLOB NOT NULL,
        sequence INTEGER NOT NULL,
        clock INTEGER NOT NULL,
        event_hash BLOB NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE log (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        store_id TEXT NOT NULL,
        last_sequence INTEGER NOT NULL DEFAULT 0,
        closings INTEGER NOT NULL DEFAULT 0,
        flushes INTEGER NOT NULL DEFAULT 0
    ) STRICT
    """,
    _make_head,
)
_LAYOUT_2: Final = (
    "ALTER TABLE events ADD COLUMN metadata BLOB",
    # CRC-32 of the payload; null in rows of layout 1, whose whole hash is computed instead.
    "ALTER TABLE events ADD COLUMN payload_check INTEGER",
    "CREATE INDEX events_by_kind ON events (kind)",
    "CREATE INDEX events_by_scope ON events (scope)",
    # In which compaction, counted from 1, the entity lost events the last time.
    "ALTER TABLE entities ADD COLUMN removed_in INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX entities_by_removal ON entities (removed_in) WHERE removed_in > 0",
    "ALTER TABLE log ADD COLUMN removals INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE log ADD COLUMN newest_id BLOB",
    # 1 from before the first commit that was not synced until the next one that was.
    "ALTER TABLE log ADD COLUMN unsynced INTEGER NOT NULL DEFAULT 0",
    # The first bytes of the hash of each removed event: positions of readers refer to them.
    "CREATE TABLE removed (sequence INTEGER PRIMARY KEY, mark BLOB NOT NULL) STRICT",
    """
    CREATE TABLE cuts (
        last_sequence INTEGER NOT NULL, commits INTEGER NOT NULL, noticed_ms INTEGER NOT NULL
    ) STRICT
    """,
)


_OURS: Final[dict[type[disk.DiskError], Callable[[str, str], WatcherError]]] = {
    disk.FullError: StoreFullError,
    disk.PlaceChangedError: StoreMovedError,
    disk.DamagedError: StoreDamagedError,
}


class FileState(NamedTuple):
    """What a file said when it was opened."""

    store_id: str
    """What tells this store from all others."""
    closings: int
    """How often somebody closed it everywhere."""


def event_file(path: Path) -> SqliteFile:
    """The file at ``path``; nothing is opened yet."""
    return SqliteFile(
        path,
        application_id=APPLICATION_ID,
        layouts=(_LAYOUT_1, _LAYOUT_2),
        busy_timeout_ms=int(BUSY_TIMEOUT_S * 1000),
    )


def connect(file: SqliteFile) -> sqlite3.Connection:
    """A connection in autocommit mode that leaves nothing of a deleted row in the file."""
    connection = file.connect()
    try:
        connection.execute("PRAGMA secure_delete = ON")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def translated(location: str) -> Generator[None]:
    """Turn errors of SQLite and of `starfish_disk` into this package's."""
    try:
        yield
    except sqlite3.Error as error:
        raise _from_disk(location, from_sqlite_error(location, error)) from error
    except disk.DiskError as error:
        raise _from_disk(location, error) from error


def _from_disk(location: str, error: disk.DiskError) -> WatcherError:
    match error:
        case disk.NewerLayoutError():
            return StoreFormatError(location, error.layout, error.known)
        case disk.ForeignError():
            return StoreDamagedError(location, f"{error.reason}, not an event store")
        case disk.ForkedError() | disk.ClosedError():
            return StoreClosed(error.reason)
        case _:
            for kind, ours in _OURS.items():
                if isinstance(error, kind):
                    return ours(location, error.reason)
            return StoreUnavailableError(location, error.reason)


def prepare_file(file: SqliteFile, check: Check) -> tuple[sqlite3.Connection, FileState]:
    """Open the file, made when it is missing, and look whether it holds what it should.

    Raises:
        StoreDamagedError: the file is something else, or does not hold what it should.
        StoreFormatError: a later version wrote it.
        StoreUnavailableError: it cannot be opened or written.
    """
    location = str(file.path)
    with translated(location):
        cut = unread_commits(file.path) if check == "quick" else 0
        connection = connect(file)
        try:
            if cut:
                _record_cut(file, connection, cut)
            if check == "quick":
                _check_structure(location, connection)
            row = connection.execute("SELECT store_id, closings FROM log").fetchone()
        except BaseException:
            connection.close()
            raise
    if row is None:
        connection.close()
        raise StoreDamagedError(location, "its head row is missing")
    return connection, FileState(*row)


def _record_cut(file: SqliteFile, connection: sqlite3.Connection, commits: int) -> None:
    with file.transaction(connection):
        connection.execute(
            "INSERT INTO cuts SELECT last_sequence, ?, ? FROM log",
            (commits, time.time_ns() // 1_000_000),
        )
        (last,) = connection.execute("SELECT last_sequence FROM log").fetchone()
    logger.warning(
        "event store %s lost power while commits were not synced: it ends at sequence %d, and"
        " %d later commits are gone",
        file.path,
        last,
        commits,
    )


def _check_structure(location: str, connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")
    try:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise StoreDamagedError(location, str(verdict))
        stored, newest = connection.execute(
            "SELECT count(*), max(sequence) FROM events NOT INDEXED"
        ).fetchone()
        counted, removed = connection.execute(
            "SELECT coalesce(sum(generation), 0), coalesce(sum(removed), 0) FROM entities"
        ).fetchone()
        (last,) = connection.execute("SELECT coalesce(max(last_sequence), -1) FROM log").fetchone()
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    if counted != last or stored != last - removed or (newest or 0) > last:
        raise StoreDamagedError(
            location,
            f"{last} events were appended and {removed} removed, but {stored} are stored, "
            f"up to sequence {newest}, and the entities count {counted}",
        )
