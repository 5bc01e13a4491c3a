# ruff: noqa: S608 - the names of the tables are constants
"""One queue of the file.

Rule 1: a claim is a lease: ``owner`` holds it until ``lease_until``, and the thread of the holder
extends it while the process lives. Rule 2: a holder that lost its lease changes nothing that the next
holder did; only the entry that it sent itself it may still remove. Rule 3: every decision is taken
inside the transaction that writes it.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from starfish_outbox._queue.backend import Loaded, Outcome, Page
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
from starfish_outbox._queue.entry import NOT_READ, OutboxEntry, Quarantined
from starfish_outbox._queue.entry_json import failure_json
from starfish_outbox._sqlite.engine import EngineThread, Job
from starfish_outbox._sqlite.index import UNKNOWN
from starfish_outbox._sqlite.layout import ENTRIES, STATES
from starfish_outbox._sqlite.lease import LeaseClock
from starfish_outbox._sqlite.process import process_token
from starfish_outbox._sqlite.rows import (
    JOINED,
    QUEUED_AGAIN,
    ROW_COLUMNS,
    STATE_COLUMNS,
    Row,
    State,
    delete_emptied_rows,
    delete_row,
    failure_of,
    put_aside,
    release_dead_claims,
    row_of,
    state_of,
)

WINDOW = 1_000
"""Entries kept in memory; a longer queue is read in pages."""
PAGE_ENTRIES = 256
PAGE_BYTES = 1 << 20
"""A page ends with the item that makes it longer."""
ONE_PAGE = 4096

VOLATILE = (Claim, Release)
"""Changes whose loss in a power cut only means that an entry is ``queued`` again."""
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
SELECT_QUEUE = f"SELECT {ROW_COLUMNS} FROM {JOINED} WHERE e.key = ? ORDER BY e.seq"
SELECT_PAGE = (
    f"SELECT {ROW_COLUMNS} FROM {JOINED} WHERE e.seq > ? AND e.seq <= ? AND e.key = ?"
    " ORDER BY e.seq"
)
SELECT_SOME = f"SELECT {ROW_COLUMNS} FROM {JOINED} WHERE e.id IS NOT NULL AND e.seq IN"
SELECT_IDS = f"SELECT seq, id, size FROM {ENTRIES} WHERE key = ? ORDER BY seq"
SELECT_NEW = f"SELECT seq, key, id FROM {ENTRIES} WHERE seq > ? AND id IS NOT NULL ORDER BY seq"


_ApplyAll = Callable[[sqlite3.Connection], Sequence[Outcome]]


class _Found(NamedTuple):
    seq: int
    enqueued_at: int
    state: State


class SqliteSession:
    """A `QueueSession` over one key of the file; its claims carry its own owner id."""

    window = WINDOW

    def __init__(
        self, thread: EngineThread, key: str, *, lease_clock: LeaseClock, now_ms: Callable[[], int]
    ) -> None:
        self.released = False
        self._thread = thread
        self._engine = thread.engine
        self._ids = thread.engine.ids
        self._key = key
        self._lease_clock = lease_clock
        self._now_ms = now_ms
        self._owner = ""
        self._held: dict[str, int] = {}
        self._emptied: int | None = None
        self._bytes = 0
        self._count = 0
        self._is_whole = True
        self._data_version = -1
        self._generation = 0
        self._next_lease_end: int | None = None
        self._ids.bind(key)

    # On the event loop.

    async def load(self) -> Loaded:
        """Read everything that fits memory; claims whose holder is gone are ``queued``."""
        return await self._thread.submit_to_thread(Job(self._read, pages=0))

    def commit(self, changes: Sequence[Change]) -> Awaitable[Sequence[Outcome]]:
        """Apply the changes in one transaction, each to the row it finds."""
        pending = _Pending()
        adds = any(isinstance(change, Enqueue | Replace) for change in changes)
        size = sum(len(c.item_text) for c in changes if isinstance(c, Enqueue | Replace))
        is_lone = False
        if len(changes) == 1 and isinstance(changes[0], Enqueue):
            ids = self._ids.of(self._key)
            is_lone = ids is not None and changes[0].id not in ids and self._ids.last != UNKNOWN
        job: Job[Sequence[Outcome]] = Job(
            lambda connection: self._apply_all(connection, changes, pending),
            is_lone=is_lone,
            durable=not all(isinstance(change, VOLATILE) for change in changes),
            adds=adds,
            committed=lambda: self._note(changes, pending),
            pages=2 + len(changes) // 8 + size // ONE_PAGE,
            size=size,
        )
        if not is_lone:
            return self._thread.submit(job)
        apply_all = job.work

        def enqueue(connection: sqlite3.Connection) -> Sequence[Outcome]:
            return self._enqueue_lone(connection, changes[0], apply_all)

        job.work = enqueue
        return self._thread.submit(job)

    async def refresh(self) -> Loaded | None:
        """Read again if another connection wrote, or a claim ended, since the last read."""
        if await self._thread.submit(Job(self._is_unchanged, writes=False)):
            return None
        return await self._thread.submit_to_thread(Job(self._read_if_changed, pages=0))

    def release(self) -> None:
        """Give back every claim of this session."""
        self._thread.submit_and_forget(Job(self.give_back, durable=False))

    def forget(self) -> None:
        """Let go of the known ids."""
        self._ids.unbind(self._key)

    def size(self) -> tuple[int, int]:
        """Entries, and bytes of their items, as far as this process has seen."""
        ids = self._ids.of(self._key)
        return (self._count if ids is None else len(ids)), self._bytes

    async def end(self) -> int:
        """A position behind the last entry that there is now."""
        return await self._thread.submit(Job(_last, writes=False)) or 0

    async def page(self, begin: int, end: int) -> Page:
        """The entries from one position on, as many as fit a page, and none behind the other."""
        page, damaged = await self._thread.submit_to_thread(
            Job(lambda connection: self._read_page(connection, begin, end), writes=False)
        )
        if damaged:
            await self._thread.submit_to_thread(
                Job(lambda connection: self._put_aside(connection, damaged))
            )
        return page

    def read_now(self) -> Loaded:
        """Everything, on the caller's thread."""
        return self._engine.read_now(self._read_all)

    # With the connection.

    def holds(self) -> bool:
        """Whether it claims anything."""
        return bool(self._held)

    def extend(self, connection: sqlite3.Connection) -> None:
        """Extend the leases that are held."""
        if self._held:
            owner, *ends = self._lease_clock.begin(self._owner)
            connection.execute(
                f"UPDATE {STATES} SET lease_until = ?, lease_ms = ?, rest_until = ?"
                " WHERE status = 'sending' AND owner = ?",
                (*ends, owner),
            )

    def give_back(self, connection: sqlite3.Connection) -> None:
        """Make ``queued`` every entry that this session claimed."""
        if self._owner:
            connection.execute(
                f"UPDATE {STATES} SET {QUEUED_AGAIN} WHERE status = 'sending' AND owner = ?",
                (self._owner,),
            )
        self._held.clear()
        self.released = True

    def _read(self, connection: sqlite3.Connection) -> Loaded:
        """The first look: it goes through all rows once."""
        if not self._owner:
            self._owner = f"{process_token()}/{uuid.uuid4().hex}"
        self._begin_to_read(connection)
        delete_emptied_rows(connection)
        rows = connection.execute(SELECT_IDS, (self._key,)).fetchall()
        self._count, self._bytes = len(rows), sum(size for _, _, size in rows)
        self._ids.set(self._key, ((seq, entry_id) for seq, entry_id, _ in rows))
        return self._read_known(connection)

    def _begin_to_read(self, connection: sqlite3.Connection) -> None:
        _, self._next_lease_end = release_dead_claims(connection, self._owner, self._lease_clock)
        self._data_version = _data_version(connection)
        self._generation = self._ids.generation(self._key)
        self._catch_up(connection, _last(connection))

    def _read_known(self, connection: sqlite3.Connection) -> Loaded:
        """The rows of the ids that are known, when they fit memory."""
        self._is_whole = self.size()[0] <= WINDOW
        if not self._is_whole:
            return Loaded((), is_whole=False)
        entries: list[OutboxEntry] = []
        rests: dict[str, Rest] = {}
        damaged: list[tuple[Row, str]] = []
        rows = self._known_rows(connection)
        for row in rows:
            self._add_row(row, entries, rests, damaged)
        self._count, self._bytes = len(rows), sum(row.size for row in rows)
        self._ids.set(self._key, ((row.seq, row.id) for row in rows))
        return Loaded(entries, rests, self._put_aside(connection, damaged))

    def _known_rows(self, connection: sqlite3.Connection) -> list[Row]:
        rows: list[Row] = []
        seqs = sorted((self._ids.of(self._key) or {}).values())
        for start in range(0, len(seqs), PAGE_ENTRIES):
            part = seqs[start : start + PAGE_ENTRIES]
            places = ",".join("?" * len(part))
            found = connection.execute(f"{SELECT_SOME} ({places}) ORDER BY e.seq", part)
            rows += [row_of(values) for values in found]
        return rows

    def _read_all(self, connection: sqlite3.Connection) -> Loaded:
        entries: list[OutboxEntry] = []
        rests: dict[str, Rest] = {}
        for values in connection.execute(SELECT_QUEUE, (self._key,)):
            self._add_row(row_of(values), entries, rests, [])
        return Loaded(entries, rests)

    def _read_page(
        self, connection: sqlite3.Connection, begin: int, end: int
    ) -> tuple[Page, list[tuple[Row, str]]]:
        entries: list[OutboxEntry] = []
        rests: dict[str, Rest] = {}
        damaged: list[tuple[Row, str]] = []
        size = 0
        cursor = connection.execute(SELECT_PAGE, (begin, end, self._key))
        for values in cursor:
            row = row_of(values)
            self._add_row(row, entries, rests, damaged)
            size += row.size
            if len(entries) >= PAGE_ENTRIES or size >= PAGE_BYTES:
                cursor.close()
                return Page(entries, rests, row.seq), damaged
        return Page(entries, rests, None), damaged

    def _add_row(
        self,
        row: Row,
        entries: list[OutboxEntry],
        rests: dict[str, Rest],
        damaged: list[tuple[Row, str]],
    ) -> None:
        try:
            entries.append(row.entry())
        except (ValueError, RecursionError) as error:
            damaged.append((row, f"item is not JSON: {error}"))
            return
        wait = self._wait(row.state)
        if wait is not None:
            rests[row.id] = wait

    def _put_aside(
        self, connection: sqlite3.Connection, damaged: Sequence[tuple[Row, str]]
    ) -> list[Quarantined]:
        now = self._now_ms()
        for row, _ in damaged:
            self._ids.discard(self._key, row.id)
        return [put_aside(connection, self._key, now, row, reason) for row, reason in damaged]

    def _is_unchanged(self, connection: sqlite3.Connection) -> bool:
        if _data_version(connection) != self._data_version:
            return False
        if self._ids.generation(self._key) != self._generation:
            return False
        if self._next_lease_end is not None:
            return False  # the other holder may be gone
        return self._is_whole or self.size()[0] > WINDOW // 2

    def _read_if_changed(self, connection: sqlite3.Connection) -> Loaded:
        was_whole = self._is_whole
        self._begin_to_read(connection)
        if not was_whole:
            (oldest,) = connection.execute(f"SELECT min(seq) FROM {ENTRIES}").fetchone()
            self._ids.trim(self._key, oldest or 0)
            if self.size()[0] > 2 * self._count + WINDOW:
                return self._read(connection)
        return self._read_known(connection)

    def _catch_up(self, connection: sqlite3.Connection, last: int | None) -> None:
        """Know the rows that other processes added."""
        known = self._ids.last
        if last is not None and known != UNKNOWN and (known is None or last > known):
            for seq, key, entry_id in connection.execute(SELECT_NEW, (known or 0,)):
                self._ids.add(key, entry_id, seq)
        self._ids.last = last

    def _apply_all(
        self, connection: sqlite3.Connection, changes: Sequence[Change], pending: _Pending
    ) -> list[Outcome]:
        pending.clear()
        self._catch_up(connection, _last(connection))
        return [self._apply(connection, change, pending) for change in changes]

    def _enqueue_lone(
        self, connection: sqlite3.Connection, change: Change, apply_all: _ApplyAll
    ) -> Sequence[Outcome]:
        """One statement, which finds out by itself whether another process added rows."""
        if not isinstance(change, Enqueue) or connection.in_transaction:
            return apply_all(connection)
        last = self._ids.last
        seq = (last or 0) + 1
        values = self._values(change, seq)
        if connection.execute(INSERT_LONE, (*values, last)).rowcount != 1:
            connection.execute("BEGIN IMMEDIATE")
            outcomes = apply_all(connection)
            connection.execute("COMMIT")
            return outcomes
        self._ids.add(self._key, change.id, seq)
        self._ids.last = seq
        return [Outcome(changed=True, entry=change.new)]

    def _values(self, change: Enqueue, seq: int) -> tuple[object, ...]:
        new = change.new
        return seq, self._key, new.id, new.enqueued_at, len(change.item_text), change.item_text

    def _apply(self, connection: sqlite3.Connection, change: Change, pending: _Pending) -> Outcome:
        seq = self._seq_of(connection, change.id)
        if isinstance(change, Enqueue):
            row = None if seq is None else self._row(connection, seq, change.id)
            if row is None:
                return self._enqueue(connection, change)
            return Outcome(changed=False, entry=row.entry(), rest=self._wait(row.state))
        if seq is None:
            return Outcome(changed=False, entry=None)
        if isinstance(change, Claim) and change.id not in self._held:
            claimed = self._claim_fresh(connection, change, seq, pending)
            if claimed is not None:
                return claimed
        if isinstance(change, Remove) and self._held.get(change.id) == seq:
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
        self, connection: sqlite3.Connection, change: Claim, seq: int, pending: _Pending
    ) -> Outcome | None:
        """Claim an entry that was never tried; ``None`` when it was."""
        values = (seq, change.id, *self._lease_clock.begin(self._owner))
        if connection.execute(CLAIM_FRESH, values).rowcount != 1:
            return None
        row = self._row(connection, seq, change.id)
        if row is None:
            return None
        pending.claimed[change.id] = seq
        return Outcome(changed=True, entry=row.entry())

    def _remove(
        self, connection: sqlite3.Connection, change: Change, seq: int, pending: _Pending
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
        self, connection: sqlite3.Connection, change: Change, seq: int, pending: _Pending
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
        if state.status == "sending" and state.owner != self._owner and self._is_over(state):
            before = replace(stored, status="queued")
        after = before if self._is_fenced(change, found) else change.apply(before)
        if after is before:
            wait = self._wait(state)
            ours = state.status == "sending" and state.owner == self._owner
            return Outcome(changed=False, entry=stored, rest=None if ours else wait)
        if after is None:
            return self._remove(connection, change, seq, pending)
        pending.claimed.pop(change.id, None)
        if isinstance(change, Replace):
            connection.execute(
                f"UPDATE {ENTRIES} SET item = ?, size = ? WHERE seq = ?",
                (change.item_text, len(change.item_text), seq),
            )
            return Outcome(changed=True, entry=after, rest=self._wait(state))
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
            owner, lease_until, lease_ms, rest_until = self._lease_clock.begin(self._owner)
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

    def _wait(self, state: State) -> Rest | None:
        """The rest, or the lease while it is being sent."""
        return self._lease_clock.rest(state.lease) if state.status == "sending" else state.rest

    def _is_over(self, state: State) -> bool:
        return self._lease_clock.is_over(state.lease)

    def _is_fenced(self, change: Change, found: _Found) -> bool:
        """Whether a change would touch something that is somebody else's to decide."""
        state, held = found.state, self._held.get(change.id)
        if isinstance(change, Claim):
            if held == found.seq:
                return True  # still being sent here, whatever the clock says
            rest = state.rest
            return (
                change.due_by is not None and rest is not None and not rest.is_over(change.due_by)
            )
        if state.status == "sending" and state.owner == self._owner:
            return False
        if isinstance(change, Remove):
            return held is not None and held != found.seq
        alive = state.status == "sending" and not self._is_over(state)
        return held is not None or alive

    def _note(self, changes: Sequence[Change], pending: _Pending) -> None:
        """Keep the leases alive that are held now, and no others."""
        for change in changes:
            if isinstance(change, ENDS_CLAIM):
                self._held.pop(change.id, None)
            elif isinstance(change, Enqueue):
                self._bytes += len(change.item_text)
        self._held.update(pending.claimed)
        self._bytes = max(0, self._bytes - pending.removed_bytes)
        if pending.emptied is not None:
            self._emptied = pending.emptied
        if self.size()[0] > WINDOW:
            self._is_whole = False
        if self._ids.count_commit(self._key) == self._generation + 1:
            self._generation += 1


class _Pending:
    """Results of a transaction that count once it is committed."""

    def __init__(self) -> None:
        self.claimed: dict[str, int] = {}
        self.removed_bytes = 0
        self.emptied: int | None = None

    def clear(self) -> None:
        """Begin anew."""
        self.claimed, self.removed_bytes, self.emptied = {}, 0, None


def _last(connection: sqlite3.Connection) -> int | None:
    (last,) = connection.execute(f"SELECT max(seq) FROM {ENTRIES}").fetchone()
    return None if last is None else int(last)


def _data_version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA data_version").fetchone()
    return int(version)
