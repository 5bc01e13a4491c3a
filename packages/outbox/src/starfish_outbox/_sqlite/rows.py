# ruff: noqa: S608 - the names of the tables are constants
"""Rows to entries, and the statements that the sessions share."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from starfish_outbox._queue.changes import Rest
from starfish_outbox._queue.entry import Failure, OutboxEntry, OutboxStatus, Quarantined
from starfish_outbox._queue.entry_json import failure_from_json
from starfish_outbox._sqlite.layout import ENTRIES, QUARANTINE, STATES
from starfish_outbox._sqlite.lease import Lease, LeaseClock
from starfish_outbox._sqlite.process import is_certainly_dead

logger = logging.getLogger(__name__)

STATE_COLUMNS = (
    "s.status, s.attempts, s.rest_until, s.rest_ms, s.owner, s.lease_until, s.lease_ms, s.failure"
)
QUEUED_AGAIN = "status = 'queued', owner = NULL, rest_until = 0"
"""Sets the columns of a claim that ended without an attempt."""
JOINED = f"{ENTRIES} AS e LEFT JOIN {STATES} AS s ON s.seq = e.seq"
ROW_COLUMNS = f"e.seq, e.id, e.enqueued_at, e.size, e.item, {STATE_COLUMNS}"


class State(NamedTuple):
    """A row of ``states``; the default is that of an entry without one."""

    status: OutboxStatus = "queued"
    attempts: int = 0
    rest_until: int = 0
    """While it is being sent: the end of the lease on the machine's clock since boot."""
    rest_ms: int = 0
    owner: str | None = None
    lease_until: int = 0
    lease_ms: int = 0
    failure: str | None = None

    @property
    def rest(self) -> Rest | None:
        """How long a queued entry is left alone."""
        is_resting = self.rest_until and self.status != "sending"
        return Rest(self.rest_until, self.rest_ms) if is_resting else None

    @property
    def lease(self) -> Lease:
        """How long the holder of a claim has it."""
        return Lease(self.owner, self.lease_until, self.lease_ms, self.rest_until)


class Row(NamedTuple):
    """An entry with its state."""

    seq: int
    id: str
    enqueued_at: int
    size: int
    item: str
    state: State

    def entry(self) -> OutboxEntry:
        """The entry.

        Raises:
            ValueError: the item is not JSON.
            RecursionError: it is nested too deeply.
        """
        state = self.state
        return OutboxEntry(
            self.id,
            json.loads(self.item),
            state.status,
            state.attempts,
            self.enqueued_at,
            failure_of(state.failure),
        )


def row_of(values: tuple[object, ...]) -> Row:
    """A row from the columns of ``ROW_COLUMNS``."""
    seq, entry_id, at, size, item, *state = values
    return Row(seq, entry_id, at, size, item, state_of(state))  # type: ignore[arg-type]  # STRICT tables


def state_of(values: Iterable[object]) -> State:
    """A state from the columns of ``STATE_COLUMNS``."""
    state = State(*values)  # type: ignore[arg-type]  # as above
    return State() if state.status is None else state  # type: ignore[redundant-expr]  # of the outer join


def failure_of(text: str | None) -> Failure | None:
    """A failure from its JSON text."""
    if text is None:
        return None
    try:
        return failure_from_json(json.loads(text))
    except ValueError:
        return None


def release_dead_claims(
    connection: sqlite3.Connection, reader: str, clock: LeaseClock
) -> tuple[int, int | None]:
    """Make ``queued`` every entry that nobody alive claims, the reader's left out.

    Returns:
        How many there were, and when the first of the other claims ends.
    """
    claims = connection.execute(
        f"SELECT seq, owner, lease_until, lease_ms, rest_until FROM {STATES}"
        " WHERE status = 'sending' AND owner IS NOT ?",
        (reader,),
    ).fetchall()
    dead: dict[str, bool] = {}
    released, ends = 0, list[int]()
    for seq, *columns in claims:
        lease = Lease(*columns)
        token = str(lease.owner).rpartition("/")[0]
        if token not in dead:
            dead[token] = is_certainly_dead(token)
        if dead[token] or clock.is_over(lease):
            connection.execute(f"UPDATE {STATES} SET {QUEUED_AGAIN} WHERE seq = ?", (seq,))
            released += 1
        else:
            ends.append(lease.until)
    return released, min(ends, default=None)


def last_seq(connection: sqlite3.Connection) -> int | None:
    """The highest row number that was ever given; ``None`` in a new file."""
    (last,) = connection.execute(f"SELECT max(seq) FROM {ENTRIES}").fetchone()
    return None if last is None else int(last)


def delete_row(connection: sqlite3.Connection, seq: int) -> int:
    """Take a row out, or empty it when it is the last one; the size of its item."""
    connection.execute(f"DELETE FROM {STATES} WHERE seq = ?", (seq,))
    gone = connection.execute(
        f"DELETE FROM {ENTRIES} WHERE seq = ?1 AND seq < (SELECT max(seq) FROM {ENTRIES})"
        " RETURNING size",
        (seq,),
    ).fetchone()
    if gone is None:
        gone = connection.execute(
            f"SELECT size FROM {ENTRIES} WHERE seq = ?",
            (seq,),
        ).fetchone()
        connection.execute(
            f"UPDATE {ENTRIES} SET key = NULL, id = NULL, enqueued_at = NULL, size = 0, item = NULL"
            " WHERE seq = ?",
            (seq,),
        )
    return int(gone[0]) if gone is not None else 0


def delete_emptied_rows(connection: sqlite3.Connection) -> None:
    """Take out emptied rows that are not the last one any more."""
    connection.execute(
        f"DELETE FROM {ENTRIES} WHERE item IS NULL AND seq < (SELECT max(seq) FROM {ENTRIES})"
    )


def put_aside(
    connection: sqlite3.Connection, key: str, now_ms: int, row: Row, reason: str
) -> Quarantined:
    """Move a row whose item is not JSON."""
    values = {**row.state._asdict(), "seq": row.seq, "id": row.id}
    entry = json.dumps({**values, "enqueued_at": row.enqueued_at, "item": row.item})
    (number,) = connection.execute(
        f"INSERT INTO {QUARANTINE} (key, found_at, reason, entry) VALUES (?, ?, ?, ?) RETURNING seq",
        (key, now_ms, reason, entry),
    ).fetchone()
    delete_row(connection, row.seq)
    logger.warning("queue %s: unreadable row moved to quarantine %d", key, number)
    return Quarantined(f"quarantine row {number}", reason)
