"""Queues in one SQLite file that several processes may share.

Rule 1: a claim is a lease: ``owner`` holds it until ``lease_until``, and the thread of the holder
extends it while the process lives. Rule 2: whoever lost a lease changes nothing that the new
holder did; only what it sent itself it may still remove. Rule 3: every decision is taken inside
the transaction that writes it.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from starfish_outbox._backend import Loaded, Outcome
from starfish_outbox._changes import (
    Change,
    Claim,
    Enqueue,
    MarkFailed,
    RecordFailure,
    Release,
    Remove,
)
from starfish_outbox._clock import system_now_ms
from starfish_outbox._process import process_token
from starfish_outbox._sqlite_read import (
    SELECT_ROW,
    Row,
    read_queue,
    release_dead_claims,
    row_entry,
)
from starfish_outbox._sqlite_writer import SqliteWriter

INSERT = (
    "INSERT INTO entries (key, id, status, attempts, enqueued_at, item) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT DO NOTHING"
)
UPDATE = (
    "UPDATE entries SET status = ?, attempts = ?, not_before = ?, owner = ?, lease_until = ?"
    " WHERE seq = ?"
)
VOLATILE = (Claim, Release)
"""Changes whose loss in a power cut only means that an entry is ``queued`` again."""
ENDS_CLAIM = (Remove, RecordFailure, MarkFailed, Release)
"""Changes after which the claim's holder no longer sends."""


class SqliteOutbox:
    """Queues in one SQLite file: rows, WAL, ``synchronous=FULL``.

    An enqueue that returned survives power loss. A mutation costs the same however long the queue
    is. Several processes, and several queues of one process, may share the file.

    Args:
        path: the file; made when missing, opened by the first use.
        lease_ms: how long a claim outlives its process where its death cannot be seen.
        now_ms: the clock, milliseconds since the epoch.

    Examples:
        >>> import asyncio, tempfile
        >>> from starfish_outbox import OutboxQueue
        >>> async def main() -> None:
        ...     async with SqliteOutbox(tempfile.mkdtemp() + "/outbox.sqlite") as outbox:
        ...         queue = OutboxQueue(outbox)
        ...         await queue.hydrate("outbox.ada")
        ...         await queue.enqueue("note-1", {"text": "hi"})
        ...         print(len(queue.get()))
        >>> asyncio.run(main())
        1
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        lease_ms: int = 30_000,
        now_ms: Callable[[], int] = system_now_ms,
    ) -> None:
        if lease_ms < 1:
            raise ValueError(f"lease_ms is {lease_ms}, must be at least 1")
        self._path = Path(path)
        self._lease_ms = lease_ms
        self._now_ms = now_ms
        self._sessions: list[SqliteSession] = []
        self._writer = SqliteWriter(
            self._path, beat=self._beat, beat_s=lease_ms / 3000, farewell=self._farewell
        )

    def bind(self, key: str) -> SqliteSession:
        """Access to one queue of the file; does no I/O."""
        session = SqliteSession(self._writer, key, lease_ms=self._lease_ms, now_ms=self._now_ms)
        self._sessions = [s for s in self._sessions if not s.released]
        self._sessions.append(session)
        return session

    async def close(self) -> None:
        """Finish what was handed in, give back the claims, close the file.

        Calling it twice is harmless.
        """
        await self._writer.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _beat(self, connection: sqlite3.Connection) -> bool:
        held = [session.extend(connection) for session in list(self._sessions)]
        return any(held)

    def _farewell(self, connection: sqlite3.Connection) -> None:
        for session in list(self._sessions):
            session.give_back(connection)


class SqliteSession:
    """A `QueueSession` over one key of the file; its claims carry its own owner id."""

    def __init__(
        self, writer: SqliteWriter, key: str, *, lease_ms: int, now_ms: Callable[[], int]
    ) -> None:
        self.released = False
        self._writer = writer
        self._key = key
        self._lease_ms = lease_ms
        self._now_ms = now_ms
        self._owner = ""
        self._held: dict[str, Row] = {}
        self._data_version = -1

    # On the event loop.

    async def load(self) -> Loaded:
        """Read everything; claims whose holder is gone are ``queued``."""
        loaded = await self._writer.submit(self._read, durable=True)
        return cast("Loaded", loaded)

    def commit(self, changes: Sequence[Change]) -> Awaitable[Sequence[Outcome]]:
        """Apply the changes in one transaction, each to the row it finds."""
        claimed: dict[str, Row] = {}
        return self._writer.submit(
            lambda connection: self._apply_all(connection, changes, claimed),
            durable=not all(isinstance(change, VOLATILE) for change in changes),
            committed=lambda: self._note_claims(changes, claimed),
        )

    async def refresh(self) -> Loaded | None:
        """Read again if another connection wrote, or a claim ended, since the last read."""
        loaded = await self._writer.submit(self._read_if_changed, durable=False)
        return cast("Loaded | None", loaded)

    def release(self) -> None:
        """Give back what this session claimed."""
        self._writer.submit_and_forget(self.give_back)

    # On the writer's thread.

    def extend(self, connection: sqlite3.Connection) -> bool:
        """Extend the leases that are held; whether there are any."""
        until = self._now_ms() + self._lease_ms
        connection.executemany(
            "UPDATE entries SET lease_until = ? WHERE seq = ? AND owner = ?",
            [(until, row.seq, self._owner) for row in self._held.values()],
        )
        return bool(self._held)

    def give_back(self, connection: sqlite3.Connection) -> None:
        """Make ``queued`` what this session claimed."""
        connection.execute(
            "UPDATE entries SET status = 'queued', owner = NULL, lease_until = 0"
            " WHERE key = ? AND status = 'sending' AND owner = ?",
            (self._key, self._owner),
        )
        self._held.clear()
        self.released = True

    def _read(self, connection: sqlite3.Connection) -> Loaded:
        if not self._owner:
            self._owner = f"{process_token()}/{uuid.uuid4().hex}"
        release_dead_claims(connection, self._key, self._owner, self._now_ms())
        (self._data_version,) = connection.execute("PRAGMA data_version").fetchone()
        return read_queue(connection, self._key, self._now_ms())

    def _read_if_changed(self, connection: sqlite3.Connection) -> Loaded | None:
        released = release_dead_claims(connection, self._key, self._owner, self._now_ms())
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if not released and version == self._data_version:
            return None
        return self._read(connection)

    def _apply_all(
        self, connection: sqlite3.Connection, changes: Sequence[Change], claimed: dict[str, Row]
    ) -> list[Outcome]:
        claimed.clear()
        return [self._apply(connection, change, claimed) for change in changes]

    def _apply(
        self, connection: sqlite3.Connection, change: Change, claimed: dict[str, Row]
    ) -> Outcome:
        if isinstance(change, Enqueue):
            new = change.new
            values = (
                self._key,
                new.id,
                new.status,
                new.attempts,
                new.enqueued_at,
                change.item_text,
            )
            if connection.execute(INSERT, values).rowcount == 1:
                return Outcome(changed=True, entry=new)
        found = connection.execute(SELECT_ROW, (self._key, change.id)).fetchone()
        if found is None:
            return Outcome(changed=False, entry=None)
        row, now = Row(*found), self._now_ms()
        stored = row_entry(row)
        before = stored
        if row.status == "sending" and row.owner != self._owner and row.lease_until <= now:
            before = replace(stored, status="queued")
        after = before if self._is_fenced(change, row, now) else change.apply(before)
        if after is before:
            return Outcome(changed=False, entry=stored, not_before=self._next_look(row))
        claimed.pop(row.id, None)
        if after is None:
            connection.execute("DELETE FROM entries WHERE seq = ?", (row.seq,))
            return Outcome(changed=True, entry=None)
        sending = after.status == "sending"
        not_before = change.not_before if isinstance(change, RecordFailure) else 0
        owner, until = (self._owner, now + self._lease_ms) if sending else (None, 0)
        connection.execute(
            UPDATE, (after.status, after.attempts, not_before, owner, until, row.seq)
        )
        if sending:
            claimed[row.id] = row
        return Outcome(changed=True, entry=after, not_before=not_before)

    def _is_fenced(self, change: Change, row: Row, now: int) -> bool:
        """Whether a change would touch what is somebody else's to decide."""
        if isinstance(change, Claim):
            if change.id in self._held and self._held[change.id].seq == row.seq:
                return True  # still being sent here, whatever the clock says
            return change.due_by is not None and row.not_before > change.due_by
        if row.status == "sending" and row.owner == self._owner:
            return False
        held = self._held.get(change.id)
        if isinstance(change, Remove):
            return held is not None and not held.is_same_write(row)
        alive = row.status == "sending" and row.lease_until > now
        return held is not None or alive

    def _next_look(self, row: Row) -> int:
        if row.status == "sending":
            return row.lease_until if row.owner != self._owner else 0
        return row.not_before

    def _note_claims(self, changes: Sequence[Change], claimed: dict[str, Row]) -> None:
        """Keep the leases alive that are held now, and no others."""
        for change in changes:
            if isinstance(change, ENDS_CLAIM):
                self._held.pop(change.id, None)
        if claimed:
            self._held.update(claimed)
            self._writer.keep_beating()
