"""Rows to entries, and the claims that nobody holds any more."""

from __future__ import annotations

import json
import logging
import sqlite3
from pathlib import Path
from typing import NamedTuple

from starfish_outbox._backend import Loaded
from starfish_outbox._entry import OutboxEntry, OutboxStatus, Quarantined
from starfish_outbox._process import is_certainly_dead
from starfish_outbox._sqlite_schema import open_for_reading, translate

logger = logging.getLogger(__name__)

COLUMNS = "seq, id, status, attempts, enqueued_at, not_before, owner, lease_until, item"
SELECT_ROW = f"SELECT {COLUMNS} FROM entries WHERE key = ? AND id = ?"  # noqa: S608 - constants only
SELECT_QUEUE = f"SELECT {COLUMNS} FROM entries WHERE key = ? ORDER BY seq"  # noqa: S608 - constants only


class Row(NamedTuple):
    """One row of ``entries``."""

    seq: int
    id: str
    status: OutboxStatus
    attempts: int
    enqueued_at: int
    not_before: int
    owner: str | None
    lease_until: int
    item: str

    def is_same_write(self, other: Row) -> bool:
        """Whether both are one enqueue: an id may have been removed and enqueued anew."""
        return (self.seq, self.enqueued_at, self.item) == (other.seq, other.enqueued_at, other.item)


def row_entry(row: Row) -> OutboxEntry:
    """The entry of a row.

    Raises:
        ValueError: the item is not JSON.
    """
    return OutboxEntry(row.id, json.loads(row.item), row.status, row.attempts, row.enqueued_at)


def read_queue(connection: sqlite3.Connection, key: str, now_ms: int) -> Loaded:
    """The entries of a queue in order; rows whose item is not JSON are put aside.

    For an entry that another holder is sending, ``not_before`` is the end of the lease.
    """
    entries: list[OutboxEntry] = []
    not_before: dict[str, int] = {}
    damaged: list[tuple[Row, str]] = []
    for values in connection.execute(SELECT_QUEUE, (key,)):
        row = Row(*values)
        try:
            entries.append(row_entry(row))
        except (ValueError, RecursionError) as error:
            damaged.append((row, f"item is not JSON: {error}"))
            continue
        at = row.lease_until if row.status == "sending" else row.not_before
        if at:
            not_before[row.id] = at
    quarantined = [_put_aside(connection, key, now_ms, row, reason) for row, reason in damaged]
    return Loaded(entries, not_before, quarantined)


def release_dead_claims(connection: sqlite3.Connection, key: str, reader: str, now_ms: int) -> bool:
    """Make ``queued`` what nobody alive claims, the reader left out; whether there was any."""
    claims = connection.execute(
        "SELECT seq, owner, lease_until FROM entries"
        " WHERE key = ? AND status = 'sending' AND owner IS NOT ?",
        (key, reader),
    ).fetchall()
    dead: dict[str, bool] = {}
    released = False
    for seq, owner, lease_until in claims:
        token = str(owner).rpartition("/")[0]
        if token not in dead:
            dead[token] = is_certainly_dead(token)
        if dead[token] or lease_until <= now_ms:
            connection.execute(
                "UPDATE entries SET status = 'queued', owner = NULL, lease_until = 0 WHERE seq = ?",
                (seq,),
            )
            released = True
    return released


def _put_aside(
    connection: sqlite3.Connection, key: str, now_ms: int, row: Row, reason: str
) -> Quarantined:
    entry = json.dumps(row._asdict())
    (number,) = connection.execute(
        "INSERT INTO quarantine (key, found_at, reason, entry) VALUES (?, ?, ?, ?) RETURNING seq",
        (key, now_ms, reason, entry),
    ).fetchone()
    connection.execute("DELETE FROM entries WHERE seq = ?", (row.seq,))
    logger.warning("queue %s: unreadable row moved to quarantine %d", key, number)
    return Quarantined(f"quarantine row {number}", reason)


def read_all_queues(path: Path) -> tuple[dict[str, list[OutboxEntry]], list[str]]:
    """Every queue of a file by key, and what is unreadable; the file stays as it is.

    Raises:
        OutboxPersistenceError: the file cannot be read, or is not an outbox.
    """
    queues: dict[str, list[OutboxEntry]] = {}
    unreadable: list[str] = []
    connection = open_for_reading(path)
    try:
        rows = connection.execute(f"SELECT key, {COLUMNS} FROM entries ORDER BY key, seq")  # noqa: S608 - constants only
        for key, *values in rows:
            row = Row(*values)
            try:
                queues.setdefault(key, []).append(row_entry(row))
            except (ValueError, RecursionError) as error:
                unreadable.append(f"{key}: entry {row.id!r}: {error}")
        for key, reason in connection.execute("SELECT key, reason FROM quarantine ORDER BY seq"):
            unreadable.append(f"{key}: put aside earlier: {reason}")
    except sqlite3.Error as error:
        raise translate(error, path) from error
    finally:
        connection.close()
    return queues, unreadable
