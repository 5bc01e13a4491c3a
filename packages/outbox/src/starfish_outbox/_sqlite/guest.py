# ruff: noqa: S608 - the names of the tables are constants
"""Queues inside the database of an application, and adding to them inside its transactions."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starfish_disk import Place
from starfish_disk.errors import ForkedError, MissingError
from starfish_disk.sqlite_errors import sqlite_errors_translated
from starfish_outbox._clock import system_now_ms
from starfish_outbox._queue.entry import check_text
from starfish_outbox._queue.json_item import encode_item
from starfish_outbox._sqlite.layout import ENTRIES, TABLES, UNIQUE_IDS
from starfish_outbox.errors import OutboxPersistenceError

_ENQUEUE = (
    f"INSERT INTO {ENTRIES} (seq, key, id, enqueued_at, size, item)"
    f" SELECT coalesce(max(seq), 0) + 1, ?, ?, ?, ?, ? FROM {ENTRIES} WHERE true"
    " ON CONFLICT (key, id) DO NOTHING"
)


class GuestFile:
    """A database that belongs to an application."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._place = Place(path)
        self._pid = os.getpid()

    def connect(self) -> sqlite3.Connection:
        """A connection in autocommit mode, the tables made when missing.

        Raises:
            DiskError: it cannot be opened.
        """
        if not self.path.exists():
            raise MissingError(self.path, "there is no such database")
        with sqlite_errors_translated(self.path):
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            try:
                connection.execute("PRAGMA fullfsync = ON")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("BEGIN IMMEDIATE")
                create_tables(connection)
                connection.execute("COMMIT")
                self._place.check()
            except BaseException:
                connection.close()
                raise
        return connection

    def check_in_place(self) -> None:
        """Fail when the file is not under its path any more.

        Raises:
            PlaceChangedError: it was moved, removed or replaced.
            ForkedError: this process was forked from the one that opened it.
        """
        if os.getpid() != self._pid:
            raise ForkedError(self.path, "it was opened before this process was forked")
        self._place.check()


def create_tables(connection: sqlite3.Connection) -> None:
    """Make the tables of `SqliteOutbox.inside` where they are missing, inside the transaction.

    Args:
        connection: to the application's database; nothing is committed.

    Raises:
        sqlite3.Error: the database did not take them.
    """
    if not _has_tables(connection):
        for statement in (*TABLES, UNIQUE_IDS):
            connection.execute(statement)


def enqueue_in(
    connection: sqlite3.Connection,
    key: str,
    id: str,  # noqa: A002 - the name of the field
    item: Any,
    ts: int | None = None,
    *,
    now_ms: Callable[[], int] = system_now_ms,
) -> bool:
    """Add a write to a queue inside a transaction of the application: a transactional outbox.

    The entry is there when the application commits, and not when it rolls back. A `SqliteOutbox.inside`
    of the same database sends it.

    Args:
        connection: to the application's database, with the tables of `create_tables`; nothing is
            committed here.
        key: the queue.
        id: the application's name for the write.
        item: the write, anything with a JSON form.
        ts: when it was made, milliseconds since the epoch; by default now.
        now_ms: the clock.

    Returns:
        ``False`` when the id is in the queue already.

    Raises:
        OutboxPersistenceError: the tables are missing: call `create_tables` first.
        sqlite3.Error: the database did not take it.
        TypeError: ``item`` has no JSON form, or the key or the id is not a text.
        ValueError: the key or the id holds a lone surrogate.

    Examples:
        >>> database = sqlite3.connect(":memory:")
        >>> with database:
        ...     create_tables(database)
        ...     enqueue_in(database, "mails", "welcome-1", {"to": "ada@example.org"})
        True
        >>> database.close()
    """
    check_text("key", key)
    check_text("id", id)
    text, _ = encode_item(item)
    if not _has_tables(connection):
        raise OutboxPersistenceError(key, "the tables are missing: call create_tables first")
    at = now_ms() if ts is None else ts
    return connection.execute(_ENQUEUE, (key, id, at, len(text), text)).rowcount == 1


def _has_tables(connection: sqlite3.Connection) -> bool:
    found = connection.execute(
        "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", (ENTRIES,)
    )
    return found.fetchone() is not None
