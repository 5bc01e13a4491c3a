# ruff: noqa: S608 - the names of the tables are constants
"""What a change does to the rows of one queue, inside the transaction that writes it.

Rule 1: a claim is a lease: ``owner`` holds it until it is over, and the thread of the holder extends it
while the process lives. Rule 2: a holder that lost its lease changes nothing that the next holder did;
only the entry that it sent itself it may still remove.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from starfish_outbox._queue.backend import Outcome
from starfish_outbox._queue.changes import (
    Change,
    Claim,
    Defer,
    Enqueue,
    MarkFailed,
    RecordFailure,
    Release,
    Remove,
    Replace,
    Rest,
    rest_after,
)
from starfish_outbox._queue.entry import NOT_READ, OutboxEntry
from starfish_outbox._queue.entry_json import failure_json
from starfish_outbox._sqlite.index import UNKNOWN, KnownIds
from starfish_outbox._sqlite.layout import ENTRIES, STATES
from starfish_outbox._sqlite.lease import LeaseClock
from starfish_outbox._sqlite.rows import (
    JOINED,
    QUEUED_AGAIN,
    ROW_COLUMNS,
    STATE_COLUMNS,
    Row,
    State,
    delete_row,
    failure_of,
    last_seq,
    row_of,
    state_of,
)

ENDS_CLAIM = (Remove, RecordFailure, MarkFailed, Defer, Release)
"""Changes after which the claim's holder no longer sends."""

_LAST = f"(SELECT max(seq) FROM {ENTRIES})"
INSERT = f"INSERT INTO {ENTRIES} (seq, key, id, enqueued_at, size, item) VALUES (?, ?, ?, ?, ?, ?)"
INSERT_LONE = (
    f"INSERT INTO {ENTRIES} (seq, key, id, enqueued_at, size, item)"
    f" SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE {_LAST} IS ?7"
)
CLAIM_FRESH = (
    f"INSERT INTO {STATES} (seq, status, owner, lease_until, lease_ms, rest_until)"
    f" SELECT e.seq, 'sending', ?3, ?4, ?5, ?6 FROM {ENTRIES} AS e WHERE e.seq = ?1 AND e.id = ?2"
    f" AND NOT EXISTS (SELECT 1 FROM {STATES} WHERE seq = ?1)"
)
PUT_STATE = (
    f"INSERT OR REPLACE INTO {STATES} (seq, status, attempts, rest_until, rest_ms, owner,"
    " lease_until, lease_ms, failure) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
SELECT_STATE = f"SELECT e.enqueued_at, {STATE_COLUMNS} FROM {JOINED} WHERE e.seq = ? AND e.id = ?"
SELECT_ROW = f"SELECT {ROW_COLUMNS} FROM {JOINED} WHERE e.seq = ? AND e.id = ?"
SELECT_SEQ = f"SELECT seq FROM {ENTRIES} WHERE key = ? AND id = ?"
SELECT_NEW = f"SELECT seq, key, id FROM {ENTRIES} WHERE seq > ? AND id IS NOT NULL ORDER BY seq"


class _Found(NamedTuple):
    seq: int
    enqueued_at: int
    state: State


class RowChanges:
    """Applies the changes of one key; its claims carry its own owner id.

    Args:
        key: of the queue.
        ids: those that this process knows.
        lease_clock: of its claims.
    """

    def __init__(self, key: str, ids: KnownIds, lease_clock: LeaseClock) -> None:
        self.owner = ""
        """Of the claims; set before the first one."""
        self.held: dict[str, int] = {}
        """Row numbers of the entries that are claimed here, by id."""
        self._key = key
        self._ids = ids
        self._lease_clock = lease_clock
        self._emptied: int | None = None

    def is_new(self, entry_id: str) -> bool:
        """Whether no row that this process knows has the id, and it knows them all up to now."""
        ids = self._ids.of(self._key)
        return ids is not None and entry_id not in ids and self._ids.last != UNKNOWN

    def extend_leases(self, connection: sqlite3.Connection) -> None:
        """Extend the leases that are held."""
        if self.held:
            owner, *ends = self._lease_clock.begin(self.owner)
            connection.execute(
                f"UPDATE {STATES} SET lease_until = ?, lease_ms = ?, rest_until = ?"
                " WHERE status = 'sending' AND owner = ?",
                (*ends, owner),
            )

    def give_claims_back(self, connection: sqlite3.Connection) -> None:
        """Make ``queued`` every entry that was claimed here."""
        if self.owner:
            connection.execute(
                f"UPDATE {STATES} SET {QUEUED_AGAIN} WHERE status = 'sending' AND owner = ?",
                (self.owner,),
            )
        self.held.clear()

    def catch_up(self, connection: sqlite3.Connection, last: int | None) -> None:
        """Know the rows that other processes added."""
        known = self._ids.last
        if last is not None and known != UNKNOWN and (known is None or last > known):
            for seq, key, entry_id in connection.execute(SELECT_NEW, (known or 0,)):
                self._ids.add(key, entry_id, seq)
        self._ids.last = last

    def apply_all(
        self, connection: sqlite3.Connection, changes: Sequence[Change], pending: Pending
    ) -> list[Outcome]:
        """Apply changes in their order, each to the row that it finds."""
        pending.clear()
        self.catch_up(connection, last_seq(connection))
        return [self._apply(connection, change, pending) for change in changes]

    def enqueue_lone(
        self, connection: sqlite3.Connection, change: Enqueue, pending: Pending
    ) -> Sequence[Outcome]:
        """One statement, which finds out by itself whether another process added rows."""
        if connection.in_transaction:
            return self.apply_all(connection, [change], pending)
        last = self._ids.last
        seq = (last or 0) + 1
        values = self._values(change, seq)
        if connection.execute(INSERT_LONE, (*values, last)).rowcount != 1:
            connection.execute("BEGIN IMMEDIATE")
            outcomes = self.apply_all(connection, [change], pending)
            connection.execute("COMMIT")
            return outcomes
        self._ids.add(self._key, change.id, seq)
        self._ids.last = seq
        return [Outcome(changed=True, entry=change.new)]

    def _values(self, change: Enqueue, seq: int) -> tuple[object, ...]:
        new = change.new
        return seq, self._key, new.id, new.enqueued_at, len(change.item_text), change.item_text

    def _apply(self, connection: sqlite3.Connection, change: Change, pending: Pending) -> Outcome:
        seq = self._seq_of(connection, change.id)
        if isinstance(change, Enqueue):
            row = None if seq is None else self._row(connection, seq, change.id)
            if row is None:
                return self._enqueue(connection, change)
            return Outcome(changed=False, entry=row.entry(), rest=self.wait(row.state))
        if seq is None:
            return Outcome(changed=False, entry=None)
        if isinstance(change, Claim) and change.id not in self.held:
            claimed = self._claim_fresh(connection, change, seq, pending)
            if claimed is not None:
                return claimed
        if isinstance(change, Remove) and self.held.get(change.id) == seq:
            return self._remove(connection, change, seq, pending)
        return self._change(connection, change, seq, pending)

    def _seq_of(self, connection: sqlite3.Connection, entry_id: str) -> int | None:
        ids = self._ids.of(self._key)
        if ids is not None:
            return ids.get(entry_id)
        found = connection.execute(SELECT_SEQ, (self._key, entry_id)).fetchone()
        return None if found is None else int(found[0])

    def _row(self, connection: sqlite3.Connection, seq: int, entry_id: str) -> Row | None:
        found = connection.execute(SELECT_ROW, (seq, entry_id)).fetchone()
        return None if found is None else row_of(found)

    def _enqueue(self, connection: sqlite3.Connection, change: Enqueue) -> Outcome:
        seq = (self._ids.last or 0) + 1
        connection.execute(INSERT, self._values(change, seq))
        self._ids.add(self._key, change.id, seq)
        self._ids.last = seq
        return Outcome(changed=True, entry=change.new)

    def _claim_fresh(
        self, connection: sqlite3.Connection, change: Claim, seq: int, pending: Pending
    ) -> Outcome | None:
        """Claim an entry that was never tried; ``None`` when it was."""
        values = (seq, change.id, *self._lease_clock.begin(self.owner))
        if connection.execute(CLAIM_FRESH, values).rowcount != 1:
            return None
        row = self._row(connection, seq, change.id)
        if row is None:
            return None
        pending.claimed[change.id] = seq
        return Outcome(changed=True, entry=row.entry())

    def _remove(
        self, connection: sqlite3.Connection, change: Change, seq: int, pending: Pending
    ) -> Outcome:
        pending.claimed.pop(change.id, None)
        pending.removed_bytes += delete_row(connection, seq)
        if self._emptied is not None and self._emptied != seq:
            connection.execute(
                f"DELETE FROM {ENTRIES} WHERE seq = ? AND item IS NULL AND seq < {_LAST}",
                (self._emptied,),
            )
        if seq == self._ids.last:
            pending.emptied = seq
        self._ids.discard(self._key, change.id)
        return Outcome(changed=True, entry=None)

    def _change(
        self, connection: sqlite3.Connection, change: Change, seq: int, pending: Pending
    ) -> Outcome:
        values = connection.execute(SELECT_STATE, (seq, change.id)).fetchone()
        if values is None:
            self._ids.discard(self._key, change.id)
            return Outcome(changed=False, entry=None)
        found = _Found(seq, values[0], state_of(values[1:]))
        state = found.state
        stored = OutboxEntry(
            change.id,
            NOT_READ,
            state.status,
            state.attempts,
            found.enqueued_at,
            failure_of(state.failure),
        )
        before = stored
        if state.status == "sending" and state.owner != self.owner and self._is_over(state):
            before = replace(stored, status="queued")
        after = before if self._is_fenced(change, found) else change.apply(before)
        if after is before:
            wait = self.wait(state)
            ours = state.status == "sending" and state.owner == self.owner
            return Outcome(changed=False, entry=stored, rest=None if ours else wait)
        if after is None:
            return self._remove(connection, change, seq, pending)
        pending.claimed.pop(change.id, None)
        if isinstance(change, Replace):
            connection.execute(
                f"UPDATE {ENTRIES} SET item = ?, size = ? WHERE seq = ?",
                (change.item_text, len(change.item_text), seq),
            )
            return Outcome(changed=True, entry=after, rest=self.wait(state))
        rest = rest_after(change)
        self._put_state(connection, seq, after, rest)
        if after.status == "sending":
            pending.claimed[change.id] = seq
            row = self._row(connection, seq, change.id)
            after = after if row is None else row.entry()
        return Outcome(changed=True, entry=after, rest=rest)

    def _put_state(
        self,
        connection: sqlite3.Connection,
        seq: int,
        entry: OutboxEntry,
        rest: Rest | None,
    ) -> None:
        owner, lease_until, lease_ms, rest_until = None, 0, 0, 0
        if entry.status == "sending":
            owner, lease_until, lease_ms, rest_until = self._lease_clock.begin(self.owner)
        elif rest is not None:
            rest_until = rest.until
        if entry.status == "queued" and not entry.attempts and not entry.failure and rest is None:
            connection.execute(f"DELETE FROM {STATES} WHERE seq = ?", (seq,))
            return
        connection.execute(
            PUT_STATE,
            (
                seq,
                entry.status,
                entry.attempts,
                rest_until,
                rest.length_ms if rest is not None else 0,
                owner,
                lease_until,
                lease_ms,
                failure_json(entry.failure) if entry.failure is not None else None,
            ),
        )

    def wait(self, state: State) -> Rest | None:
        """The rest, or the lease while it is being sent."""
        return self._lease_clock.rest(state.lease) if state.status == "sending" else state.rest

    def _is_over(self, state: State) -> bool:
        return self._lease_clock.is_over(state.lease)

    def _is_fenced(self, change: Change, found: _Found) -> bool:
        """Whether a change would touch something that is somebody else's to decide."""
        state, held = found.state, self.held.get(change.id)
        if isinstance(change, Claim):
            if held == found.seq:
                return True  # still being sent here, whatever the clock says
            rest = state.rest
            return (
                change.due_by is not None and rest is not None and not rest.is_over(change.due_by)
            )
        if state.status == "sending" and state.owner == self.owner:
            return False
        if isinstance(change, Remove):
            return held is not None and held != found.seq
        alive = state.status == "sending" and not self._is_over(state)
        return held is not None or alive

    def settle(self, changes: Sequence[Change], pending: Pending) -> None:
        """Keep the leases alive that are held now, once the changes are on disk, and no others."""
        for change in changes:
            if isinstance(change, ENDS_CLAIM):
                self.held.pop(change.id, None)
        self.held.update(pending.claimed)
        if pending.emptied is not None:
            self._emptied = pending.emptied


class Pending:
    """Results of a transaction that count once it is committed."""

    def __init__(self) -> None:
        self.claimed: dict[str, int] = {}
        self.removed_bytes = 0
        self.emptied: int | None = None

    def clear(self) -> None:
        """Begin anew."""
        self.claimed, self.removed_bytes, self.emptied = {}, 0, None
