# ruff: noqa: S608 - the names of the tables are constants
"""The tables of a `SqliteOutbox`, and how older ones become the newest.

Rule 1: a row of ``entries`` is written once; everything that changes is in ``states``, so that no change
of status reads or writes an item. Rule 2: the last row of ``entries`` is never deleted; it is emptied
(``key``, ``id`` and ``item`` become null), so that a number is never given twice, and rows with a higher
number than before are exactly the new ones. Rule 3: ids are unique in a key because every writer
knows the rows up to a number, and adds its own only while that is still the highest one.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from starfish_disk.errors import (
    ClosedError,
    DamagedError,
    DiskError,
    ForeignError,
    ForkedError,
    NewerLayoutError,
    PlaceChangedError,
)
from starfish_disk.sqlite_file import Layout, SqliteFile
from starfish_outbox.errors import (
    OutboxClosedError,
    OutboxDamagedError,
    OutboxError,
    OutboxForkedError,
    OutboxMovedError,
    OutboxPersistenceError,
    UnsupportedSchemaError,
)

APPLICATION_ID = 0x53464F42
"""``SFOB``: tells an outbox from other SQLite files."""
PAGE_SIZE = 4096
"""Bytes; set when the file is made."""
WAL_LIMIT_BYTES = 4 << 20
"""The log is brought back to this length; a thousand pages, as SQLite does by itself."""

ENTRIES = "starfish_outbox_entries"
STATES = "starfish_outbox_states"
QUARANTINE = "starfish_outbox_quarantine"

TABLES = (
    f"""CREATE TABLE {ENTRIES} (
      seq INTEGER PRIMARY KEY,
      key TEXT,
      id TEXT,
      enqueued_at INTEGER,
      size INTEGER NOT NULL,
      item TEXT
    ) STRICT""",
    f"""CREATE TABLE {STATES} (
      seq INTEGER PRIMARY KEY,
      status TEXT NOT NULL CHECK (status IN ('queued', 'sending', 'failed')),
      attempts INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
      rest_until INTEGER NOT NULL DEFAULT 0,
      rest_ms INTEGER NOT NULL DEFAULT 0,
      owner TEXT,
      lease_until INTEGER NOT NULL DEFAULT 0,
      lease_ms INTEGER NOT NULL DEFAULT 0,
      failure TEXT
    ) STRICT""",
    f"""CREATE TABLE {QUARANTINE} (
      seq INTEGER PRIMARY KEY,
      key TEXT NOT NULL,
      found_at INTEGER NOT NULL,
      reason TEXT NOT NULL,
      entry TEXT NOT NULL
    ) STRICT""",
)
UNIQUE_IDS = f"CREATE UNIQUE INDEX {ENTRIES}_ids ON {ENTRIES} (key, id)"
"""Where programs add rows that know no others: in the database of an application."""

LAYOUTS: tuple[Layout, ...] = (
    (
        """CREATE TABLE entries (
          seq INTEGER PRIMARY KEY, key TEXT NOT NULL, id TEXT NOT NULL, status TEXT NOT NULL,
          attempts INTEGER NOT NULL, enqueued_at INTEGER NOT NULL,
          not_before INTEGER NOT NULL DEFAULT 0, owner TEXT,
          lease_until INTEGER NOT NULL DEFAULT 0, item TEXT NOT NULL, UNIQUE (key, id)
        ) STRICT""",
        """CREATE TABLE quarantine (
          seq INTEGER PRIMARY KEY, key TEXT NOT NULL, found_at INTEGER NOT NULL,
          reason TEXT NOT NULL, entry TEXT NOT NULL
        ) STRICT""",
    ),
    (
        *TABLES,
        f"""INSERT INTO {ENTRIES} (seq, key, id, enqueued_at, size, item)
          SELECT seq, key, id, enqueued_at, length(item), item FROM entries ORDER BY seq""",
        f"""INSERT INTO {STATES} (seq, status, attempts, rest_until, rest_ms)
          SELECT seq, CASE status WHEN 'failed' THEN 'failed' ELSE 'queued' END, attempts,
            CASE status WHEN 'queued' THEN not_before ELSE 0 END, 300000
          FROM entries WHERE status <> 'queued' OR attempts > 0 OR not_before > 0""",
        f"INSERT INTO {QUARANTINE} SELECT seq, key, found_at, reason, entry FROM quarantine",
        "DROP TABLE entries",
        "DROP TABLE quarantine",
    ),
)
"""Each from the one before; the first is the one that version 4.0 wrote."""


def outbox_file(path: Path, busy_timeout_ms: int = 10_000) -> SqliteFile:
    """The file of an outbox; does no I/O."""
    return SqliteFile(
        path,
        application_id=APPLICATION_ID,
        layouts=LAYOUTS,
        busy_timeout_ms=busy_timeout_ms,
        wal_limit_bytes=WAL_LIMIT_BYTES,
        page_size=PAGE_SIZE,
    )


def own_error(path: Path, error: DiskError) -> OutboxError:
    """The outbox's error for one of the file."""
    location, reason = str(path), error.reason
    own: OutboxError
    if isinstance(error, ClosedError):
        own = OutboxClosedError(location)
    elif isinstance(error, ForkedError):
        own = OutboxForkedError(location)
    elif isinstance(error, PlaceChangedError):
        own = OutboxMovedError(location, reason)
    elif isinstance(error, NewerLayoutError):
        own = UnsupportedSchemaError(location, error.layout, error.known)
    elif isinstance(error, ForeignError | DamagedError):
        own = OutboxDamagedError(location, reason)
    else:
        own = OutboxPersistenceError(location, reason)
    own.__cause__ = error.__cause__ if isinstance(error.__cause__, sqlite3.Error) else error
    return own
