"""The file of a `SqliteOutbox`: how it is opened, what is in it, what its errors mean.

Rule: a file that is not ours, or newer than us, is left as it is.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from starfish_outbox.errors import (
    OutboxDamagedError,
    OutboxPersistenceError,
    UnsupportedSchemaError,
)

APPLICATION_ID = 0x53464F42
"""``SFOB``: what tells an outbox from other SQLite files."""
SCHEMA_VERSION = 1
PAGE_SIZE = 4096
"""Bytes; set when the file is made."""
BUSY_TIMEOUT_S = 10.0
"""How long to wait for another process's transaction; each one is a few milliseconds."""

SCHEMA = """
CREATE TABLE entries (
  seq INTEGER PRIMARY KEY,
  key TEXT NOT NULL,
  id TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('queued', 'sending', 'failed')),
  attempts INTEGER NOT NULL CHECK (attempts >= 0),
  enqueued_at INTEGER NOT NULL,
  not_before INTEGER NOT NULL DEFAULT 0,
  owner TEXT,
  lease_until INTEGER NOT NULL DEFAULT 0,
  item TEXT NOT NULL,
  UNIQUE (key, id)
) STRICT;
CREATE INDEX sending ON entries (key) WHERE status = 'sending';
CREATE TABLE quarantine (
  seq INTEGER PRIMARY KEY,
  key TEXT NOT NULL,
  found_at INTEGER NOT NULL,
  reason TEXT NOT NULL,
  entry TEXT NOT NULL
) STRICT;
"""


def open_for_writing(path: Path) -> sqlite3.Connection:
    """A connection in WAL mode with ``synchronous=FULL``, the tables made when missing.

    Raises:
        OutboxPersistenceError: the file cannot be opened, is not an outbox, or is too new.
    """
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_S
        )
        version = check_is_outbox(connection, path)
        if version == 0:
            connection.execute(f"PRAGMA page_size={PAGE_SIZE}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        if version == 0:
            _create(connection)
    except sqlite3.Error as error:
        _close(connection)
        raise translate(error, path) from error
    except BaseException:
        _close(connection)
        raise
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A connection that changes neither the file nor its write-ahead log.

    Raises:
        OutboxPersistenceError: as `open_for_writing`, and when there is no such file.
    """
    # Without a log nobody has it open and nothing must be created beside it.
    mode = "mode=ro" if Path(f"{path}-wal").exists() else "immutable=1"
    connection: sqlite3.Connection | None = None
    try:
        uri = f"{path.absolute().as_uri()}?{mode}"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S)
        version = check_is_outbox(connection, path)
    except sqlite3.Error as error:
        _close(connection)
        raise translate(error, path) from error
    except BaseException:
        _close(connection)
        raise
    if version == 0:
        connection.close()
        raise OutboxDamagedError(str(path), "an empty file, not an outbox")
    return connection


def check_is_outbox(connection: sqlite3.Connection, path: Path) -> int:
    """The schema version of a file, 0 for an empty one.

    Raises:
        OutboxDamagedError: it holds something else.
        UnsupportedSchemaError: it is newer than this package.
    """
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application_id == APPLICATION_ID:
        if version > SCHEMA_VERSION:
            raise UnsupportedSchemaError(str(path), version, SCHEMA_VERSION)
        return int(version)
    if connection.execute("SELECT 1 FROM sqlite_schema").fetchone() is not None:
        raise OutboxDamagedError(str(path), "a SQLite file of another application")
    return 0


def _create(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have been first.
        if connection.execute("PRAGMA user_version").fetchone() == (0,):
            for statement in SCHEMA.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _close(connection: sqlite3.Connection | None) -> None:
    if connection is not None:
        connection.close()


def translate(error: sqlite3.Error, path: str | os.PathLike[str]) -> OutboxPersistenceError:
    """What a SQLite error means to a queue."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    kind = OutboxPersistenceError
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        kind = OutboxDamagedError
    return kind(str(path), str(error))
