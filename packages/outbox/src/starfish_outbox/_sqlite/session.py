# ruff: noqa: S608 - the names of the tables are constants
"""One queue of the file.

Rule 1: every decision is taken inside the transaction that writes it. Rule 2: what this process knows of
the rows counts once the transaction that read or wrote them is through.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Awaitable, Callable, Sequence

from starfish_outbox._queue.backend import Loaded, Outcome, Page
from starfish_outbox._queue.changes import (
    Change,
    Claim,
    Enqueue,
    Release,
    Replace,
    Rest,
)
from starfish_outbox._queue.entry import OutboxEntry, Quarantined
from starfish_outbox._sqlite.engine import EngineThread, Job
from starfish_outbox._sqlite.layout import ENTRIES
from starfish_outbox._sqlite.lease import LeaseClock
from starfish_outbox._sqlite.process import process_token
from starfish_outbox._sqlite.row_changes import Pending, RowChanges
from starfish_outbox._sqlite.rows import (
    JOINED,
    ROW_COLUMNS,
    Row,
    delete_emptied_rows,
    last_seq,
    put_aside,
    release_dead_claims,
    row_of,
)

WINDOW = 1_000
"""Entries kept in memory; a longer queue is read in pages."""
PAGE_ENTRIES = 256
PAGE_BYTES = 1 << 20
"""A page ends with the item that makes it longer."""
ONE_PAGE = 4096

VOLATILE = (Claim, Release)
"""Changes whose loss in a power cut only means that an entry is ``queued`` again."""
SELECT_QUEUE = f"SELECT {ROW_COLUMNS} FROM {JOINED} WHERE e.key = ? ORDER BY e.seq"
SELECT_PAGE = (
    f"SELECT {ROW_COLUMNS} FROM {JOINED} WHERE e.seq > ? AND e.seq <= ? AND e.key = ?"
    " ORDER BY e.seq"
)
SELECT_SOME = f"SELECT {ROW_COLUMNS} FROM {JOINED} WHERE e.id IS NOT NULL AND e.seq IN"
SELECT_IDS = f"SELECT seq, id, size FROM {ENTRIES} WHERE key = ? ORDER BY seq"


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
        self._rows = RowChanges(key, thread.engine.ids, lease_clock)
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
        return self._thread.submit(self._job(changes))

    def commit_now(self, changes: Sequence[Change]) -> Sequence[Outcome] | None:
        """The same on the caller's thread; ``None`` where it would have to wait."""
        is_done, outcomes = self._thread.try_now(self._job(changes))
        return outcomes if is_done else None

    def _job(self, changes: Sequence[Change]) -> Job[Sequence[Outcome]]:
        pending = Pending()
        if len(changes) == 1 and isinstance(change := changes[0], Enqueue):
            return self._enqueue_job(change, pending)
        size = sum(len(c.item_text) for c in changes if isinstance(c, Enqueue | Replace))
        return Job(
            lambda connection: self._rows.apply_all(connection, changes, pending),
            durable=not all(isinstance(change, VOLATILE) for change in changes),
            adds=any(isinstance(change, Enqueue | Replace) for change in changes),
            committed=lambda: self._note(changes, pending),
            pages=2 + len(changes) // 8 + size // ONE_PAGE,
            size=size,
        )

    def _enqueue_job(self, change: Enqueue, pending: Pending) -> Job[Sequence[Outcome]]:
        """One statement where the id is certainly new; it takes most of an enqueue to store a row."""
        rows, size = self._rows, len(change.item_text)
        is_lone = rows.is_new(change.id)

        def store(connection: sqlite3.Connection) -> Sequence[Outcome]:
            if is_lone:
                return rows.enqueue_lone(connection, change, pending)
            return rows.apply_all(connection, (change,), pending)

        return Job(
            store,
            is_lone=is_lone,
            adds=True,
            committed=lambda: self._note((change,), pending),
            pages=2 + size // ONE_PAGE,
            size=size,
        )

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
        return await self._thread.submit(Job(last_seq, writes=False)) or 0

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
        return bool(self._rows.held)

    def extend(self, connection: sqlite3.Connection) -> None:
        """Extend the leases that are held."""
        self._rows.extend_leases(connection)

    def give_back(self, connection: sqlite3.Connection) -> None:
        """Make ``queued`` every entry that this session claimed."""
        self._rows.give_claims_back(connection)
        self.released = True

    def _read(self, connection: sqlite3.Connection) -> Loaded:
        """The first look: it goes through all rows once."""
        if not self._rows.owner:
            self._rows.owner = f"{process_token()}/{uuid.uuid4().hex}"
        self._begin_to_read(connection)
        delete_emptied_rows(connection)
        rows = connection.execute(SELECT_IDS, (self._key,)).fetchall()
        self._count, self._bytes = len(rows), sum(size for _, _, size in rows)
        self._ids.set(self._key, ((seq, entry_id) for seq, entry_id, _ in rows))
        return self._read_known(connection)

    def _begin_to_read(self, connection: sqlite3.Connection) -> None:
        _, self._next_lease_end = release_dead_claims(
            connection, self._rows.owner, self._lease_clock
        )
        self._data_version = _data_version(connection)
        self._generation = self._ids.generation(self._key)
        self._rows.catch_up(connection, last_seq(connection))

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
        wait = self._rows.wait(row.state)
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

    def _note(self, changes: Sequence[Change], pending: Pending) -> None:
        """Take note of changes that are on disk."""
        self._rows.settle(changes, pending)
        for change in changes:
            if isinstance(change, Enqueue):
                self._bytes += len(change.item_text)
        self._bytes = max(0, self._bytes - pending.removed_bytes)
        if self.size()[0] > WINDOW:
            self._is_whole = False
        if self._ids.count_commit(self._key) == self._generation + 1:
            self._generation += 1


def _data_version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA data_version").fetchone()
    return int(version)
