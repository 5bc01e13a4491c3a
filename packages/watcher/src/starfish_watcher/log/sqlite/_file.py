"""The file of a `SqliteEventLog`: its tables, how it is opened, and what is checked before it is used.

The file is the store together with its ``-wal`` file while any process has it open or has died
with it open; whoever copies a store copies both.
"""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, NamedTuple

from starfish_watcher._limits import BUSY_TIMEOUT_S
from starfish_watcher.errors import (
    StoreClosed,
    StoreDamagedError,
    StoreFullError,
    StoreUnavailableError,
    WatcherError,
)

__all__ = ("Check", "FileState", "connect", "prepare_file", "translated")

Check = Literal["quick", "none"]
"""What to verify on opening: the file's structure and counts, or only that it is a store."""

APPLICATION_ID: Final = 0x53464556
FORMAT_VERSION: Final = 1
SCHEMA: Final = (
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
)


class FileState(NamedTuple):
    """What a file said when it was opened."""

    store_id: str
    """What tells this store from all others."""
    closings: int
    """How often somebody closed it everywhere."""


def connect(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode that waits for other processes' writers."""
    connection = sqlite3.connect(
        path,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    # Only macOS tells fsync from what reaches the disk.
    connection.execute("PRAGMA fullfsync = ON")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


@contextmanager
def translated(location: str) -> Generator[None]:
    """Turn SQLite's errors into this package's."""
    try:
        yield
    except sqlite3.Error as error:
        raise _translation(location, error) from error


def _translation(location: str, error: sqlite3.Error) -> WatcherError:
    code: int = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StoreFullError(location, str(error))
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreDamagedError(location, str(error))
    if isinstance(error, sqlite3.ProgrammingError) and "closed database" in str(error):
        return StoreClosed()
    return StoreUnavailableError(location, str(error))


def prepare_file(path: Path, connection: sqlite3.Connection, check: Check) -> FileState:
    """Make the tables of a new file, or check those of an old one.

    Raises:
        StoreDamagedError: the file is something else, or does not hold what it should.
        StoreUnavailableError: it cannot be opened or written.
    """
    with translated(str(path)):
        # One snapshot: another process may be making the file.
        with _reading(connection):
            _refuse_foreign(path, connection)
        _switch_to_wal(connection)
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _pragma(connection, "application_id") == 0:
                for statement in SCHEMA:
                    connection.execute(statement)
                connection.execute(
                    "INSERT INTO log (id, store_id) VALUES (1, ?)", (uuid.uuid4().hex,)
                )
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        with _reading(connection):
            if check == "quick":
                _check_structure(path, connection)
            row = connection.execute("SELECT store_id, closings FROM log").fetchone()
    if row is None:
        raise StoreDamagedError(str(path), "its head row is missing")
    return FileState(*row)


@contextmanager
def _reading(connection: sqlite3.Connection) -> Generator[None]:
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)


def _refuse_foreign(path: Path, connection: sqlite3.Connection) -> None:
    application_id = _pragma(connection, "application_id")
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application_id != APPLICATION_ID and (application_id or tables):
        raise StoreDamagedError(str(path), "it is a SQLite file, but not an event store")
    version = _pragma(connection, "user_version")
    if tables and version != FORMAT_VERSION:
        raise StoreDamagedError(
            str(path), f"its format is {version}, this version reads {FORMAT_VERSION}"
        )


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Several processes may open a new file at once, and this pragma does not wait for a lock."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return


def _check_structure(path: Path, connection: sqlite3.Connection) -> None:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise StoreDamagedError(str(path), str(verdict))
    stored, newest = connection.execute("SELECT count(*), max(sequence) FROM events").fetchone()
    counted, removed = connection.execute(
        "SELECT coalesce(sum(generation), 0), coalesce(sum(removed), 0) FROM entities"
    ).fetchone()
    (last,) = connection.execute("SELECT coalesce(max(last_sequence), -1) FROM log").fetchone()
    if counted != last or stored != last - removed or (newest or 0) > last:
        raise StoreDamagedError(
            str(path),
            f"{last} events were appended and {removed} removed, but {stored} are stored, "
            f"up to sequence {newest}, and the entities count {counted}",
        )
