"""A log in one SQLite file: the embedded default.

WAL mode; writers of all processes take turns at the file's write lock, so that sequences have no
holes; readers never wait. ``commit`` fsyncs the write-ahead log before it returns
(``synchronous=FULL``). ``batched`` and ``none`` leave that to a later flush or to the system
(``synchronous=NORMAL``): they survive the death of the process, a power failure may take back the
newest of them, and never leaves a hole or a damaged file.
"""

# ruff: noqa: S608 - only names of this module and numbers are put into a statement's text

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Final

import msgspec

from starfish_watcher._model.event import Event, RawEvent
from starfish_watcher._model.new_event import Durability, PreparedEvent
from starfish_watcher._model.receipt import Receipt
from starfish_watcher._model.region import EVERYWHERE, Region
from starfish_watcher._model.stored_payload import payload_check, verified
from starfish_watcher.fault_points import FaultPoint
from starfish_watcher.log.base import (
    MARK_BYTES,
    NO_EVENTS,
    AppendResult,
    EntityHead,
    History,
    HistoryMovedError,
    Listener,
    Removals,
    Stamp,
)
from starfish_watcher.log.plan import AppendPlan, KeyRecord, entities_of, keys_of
from starfish_watcher.log.sqlite._columns import CHECKED_COLUMNS
from starfish_watcher.log.sqlite._file import Check, event_file, prepare_file, translated
from starfish_watcher.log.sqlite._finding import find, namespace_bounds
from starfish_watcher.log.sqlite._listener import SqliteListener
from starfish_watcher.log.sqlite._readers import ReaderPool

__all__ = ("SqliteEventLog",)

logger = logging.getLogger(__name__)

SELECT_HEAD: Final = (
    "SELECT generation, sequence, event_hash, removed FROM entities WHERE entity = ?"
)
ROWS_PER_STATEMENT: Final = 64
"""Each statement gives up the interpreter's lock, and getting it back from busy threads takes long."""
MAX_KNOWN_HEADS: Final = 65_536
"""Heads that the writer remembers between its commits, about 20 MB."""
HISTORY_PAGE: Final = 2048
"""Events of a history that are read in one transaction; its reader works between two of them."""
COMMITS_BETWEEN_LOOKS: Final = 64
"""After so many commits the length of the write-ahead log is looked at."""
ERASE_PATIENCE_S: Final = 5.0
"""How long a removal waits for readers that hold the write-ahead log."""


class SqliteEventLog:
    """Keeps events in one file that several threads and processes may share."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        check: Check = "quick",
        patience_s: float = 300.0,
    ) -> None:
        """Open the file, made when it is missing.

        Args:
            path: Of the file.
            check: ``quick`` verifies its structure and counts.
            patience_s: How long listeners try again while the file cannot be read, as when the
                process has no descriptors left.

        Raises:
            StoreDamagedError: the file is something else, or does not hold what it should.
            StoreFormatError: a later version wrote it.
            StoreUnavailableError: it cannot be opened or written.
        """
        self._path = Path(path).absolute()
        self._location = str(self._path)
        self._write_lock = threading.Lock()
        self._file = event_file(self._path)
        self._writer, self._state = prepare_file(self._file, check)
        self._readers = ReaderPool(self._file)
        self._patience_s = patience_s
        self._commits = 0
        self._listeners: list[SqliteListener] = []
        self._synchronous = "FULL"
        # Heads are remembered only as long as nobody else appended in between.
        self._known_heads: dict[str, EntityHead] = {}
        self._known_at = -1

    @property
    def location(self) -> str:
        """The file's path."""
        return self._location

    @property
    def store_id(self) -> str:
        """Made with the file and kept in it."""
        return self._state.store_id

    def append(
        self,
        requests: Sequence[Sequence[PreparedEvent]],
        *,
        stamp: Stamp,
        durability: Durability,
        reached: Callable[[FaultPoint], None],
    ) -> AppendResult:
        """As `EventLog.append`: one transaction."""
        with self._writing(durability) as connection:
            last, newest_id = connection.execute(
                "SELECT last_sequence, newest_id FROM log"
            ).fetchone()
            if last != self._known_at or len(self._known_heads) > MAX_KNOWN_HEADS:
                self._known_heads.clear()
            self._known_at = -1
            heads = self._heads_for_writing(connection, entities_of(requests))
            records = self._records_for_writing(connection, keys_of(requests))
            plan = AppendPlan(last, heads, records, stamp, newest_id)
            outcomes = [plan.add(request) for request in requests]
            if plan.events:
                self._write(connection, plan, reached)
            reached("after_write")
        self._known_heads.update(plan.heads)
        self._known_at = plan.events[-1].sequence if plan.events else last
        return AppendResult(outcomes, plan.events)

    def _heads_for_writing(
        self, connection: sqlite3.Connection, entities: Sequence[str]
    ) -> dict[str, EntityHead]:
        known = self._known_heads
        for entity in entities:
            if entity not in known:
                row = connection.execute(SELECT_HEAD, (entity,)).fetchone()
                known[entity] = EntityHead(*row) if row else NO_EVENTS
        return known

    def _records_for_writing(
        self, connection: sqlite3.Connection, keys: Sequence[str]
    ) -> dict[str, KeyRecord]:
        records: dict[str, KeyRecord] = {}
        for key in keys:
            row = connection.execute(
                "SELECT content, event_id, sequence, clock, event_hash FROM idempotency"
                " WHERE key = ?",
                (key,),
            ).fetchone()
            if row:
                records[key] = KeyRecord(row[0], Receipt(*row[1:]))
        return records

    def _write(
        self,
        connection: sqlite3.Connection,
        plan: AppendPlan,
        reached: Callable[[FaultPoint], None],
    ) -> None:
        rows = [
            (*msgspec.structs.astuple(event), payload_check(event.payload_bytes))
            for event in plan.events
        ]
        for chunk in _chunks(rows):
            connection.execute(
                f"INSERT INTO events ({CHECKED_COLUMNS}) VALUES {_places(14, len(chunk))}",
                tuple(chain.from_iterable(chunk)),
            )
            reached("mid_batch")
        for chunk in _chunks([(entity, *head[:3]) for entity, head in plan.heads.items()]):
            connection.execute(
                "INSERT INTO entities (entity, generation, sequence, event_hash)"
                f" VALUES {_places(4, len(chunk))} ON CONFLICT (entity) DO UPDATE SET"
                " generation = excluded.generation, sequence = excluded.sequence,"
                " event_hash = excluded.event_hash",
                tuple(chain.from_iterable(chunk)),
            )
        if plan.records:
            connection.executemany(
                "INSERT INTO idempotency (key, content, event_id, sequence, clock, event_hash)"
                " VALUES (?,?,?,?,?,?)",
                (
                    (key, record.content, *msgspec.structs.astuple(record.receipt))
                    for key, record in plan.records.items()
                ),
            )
        newest = plan.events[-1]
        connection.execute(
            "UPDATE log SET last_sequence = ?, newest_id = ?", (newest.sequence, newest.id_bytes)
        )

    @contextmanager
    def _writing(self, durability: Durability = "commit") -> Generator[sqlite3.Connection]:
        with self._write_lock, translated(self._location):
            synced = durability == "commit"
            try:
                if not synced:
                    self._announce_unsynced()
                self._set_synchronous("FULL" if synced else "NORMAL")
                with self._file.transaction(self._writer):
                    yield self._writer
                    if synced and self._unsynced:
                        self._writer.execute("UPDATE log SET unsynced = 0 WHERE unsynced")
                if synced:
                    self._unsynced = False
            except BaseException:
                self._known_at = -1
                raise
            self._commits += 1
            if self._commits % COMMITS_BETWEEN_LOOKS == 0:
                self._file.keep_wal_bounded(self._writer)

    _unsynced = True

    def _announce_unsynced(self) -> None:
        """Before the first commit that a power cut may tear, so that it is known for one."""
        (unsynced,) = self._writer.execute("SELECT unsynced FROM log").fetchone()
        if not unsynced:
            self._set_synchronous("FULL")
            with self._file.transaction(self._writer):
                self._writer.execute("UPDATE log SET unsynced = 1")
        self._unsynced = True

    def _set_synchronous(self, level: str) -> None:
        if level != self._synchronous:
            self._writer.execute(f"PRAGMA synchronous = {level}")
            self._synchronous = level

    def read(
        self, after: int, limit: int, *, entity: str | None = None, region: Region | None = None
    ) -> Sequence[Event]:
        """As `EventLog.read`."""
        with self._readers.connection() as connection:
            rows = find(connection, after, limit, entity, region or EVERYWHERE)
        return list(verified(self._location, rows))

    def get(self, event_id: bytes) -> Event | None:
        """As `EventLog.get`."""
        query = f"SELECT {CHECKED_COLUMNS} FROM events WHERE event_id = ?"
        with self._readers.connection() as connection:
            rows = connection.execute(query, (event_id,)).fetchall()
        return next(verified(self._location, rows), None)

    def head(self, entity: str) -> EntityHead:
        """As `EventLog.head`."""
        with self._readers.connection() as connection:
            row = connection.execute(SELECT_HEAD, (entity,)).fetchone()
        return EntityHead(*row) if row else NO_EVENTS

    def heads(self, prefix: str | None) -> dict[str, EntityHead]:
        """As `EventLog.heads`."""
        query = "SELECT entity, generation, sequence, event_hash, removed FROM entities"
        values: tuple[str, ...] = ()
        if prefix is not None:
            query += " WHERE entity = ? OR (entity >= ? AND entity < ?)"
            values = namespace_bounds(prefix)
        with self._readers.connection() as connection:
            return {row[0]: EntityHead(*row[1:]) for row in connection.execute(query, values)}

    def last_sequence(self) -> int:
        """As `EventLog.last_sequence`."""
        with self._readers.connection() as connection:
            (last,) = connection.execute("SELECT last_sequence FROM log").fetchone()
        return int(last)

    @contextmanager
    def history(
        self, entity: str, *, after: int, kinds: Sequence[int], raw: bool
    ) -> Generator[History]:
        """As `EventLog.history`: head and first page from one snapshot, and no transaction left."""
        event_type = RawEvent if raw else Event
        with self._readers.connection() as connection:
            connection.execute("BEGIN")
            row = connection.execute(SELECT_HEAD, (entity,)).fetchone()
            head = EntityHead(*row) if row else NO_EVENTS
            rows = self._page(connection, entity, after, head, kinds)
        first = verified(self._location, rows, event_type)
        if len(rows) < HISTORY_PAGE:
            yield History(head, first)
        else:
            later = self._later_pages(entity, rows[-1][0], head, kinds, event_type)
            yield History(head, chain(first, later))

    def _page(
        self,
        connection: sqlite3.Connection,
        entity: str,
        after: int,
        head: EntityHead,
        kinds: Sequence[int],
    ) -> list[tuple[Any, ...]]:
        if head.sequence <= after:
            return []
        selected = f" AND +kind IN ({','.join(map(str, kinds))})" if kinds else ""
        return connection.execute(
            f"SELECT {CHECKED_COLUMNS} FROM events WHERE entity = ? AND sequence > ?"
            f" AND sequence <= ?{selected} ORDER BY sequence LIMIT {HISTORY_PAGE}",
            (entity, after, head.sequence),
        ).fetchall()

    def _later_pages(
        self,
        entity: str,
        after: int,
        head: EntityHead,
        kinds: Sequence[int],
        event_type: type[Event],
    ) -> Iterator[Event]:
        while True:
            with self._readers.connection() as connection:
                connection.execute("BEGIN")
                row = connection.execute(SELECT_HEAD, (entity,)).fetchone()
                if row is None or row[3] != head.removed:
                    raise HistoryMovedError(self._location, entity)
                rows = self._page(connection, entity, after, head, kinds)
            yield from verified(self._location, rows, event_type)
            if len(rows) < HISTORY_PAGE:
                return
            after = rows[-1][0]

    def remove(self, sequences: Sequence[int]) -> int:
        """As `EventLog.remove`: one transaction; then the write-ahead log is emptied.

        A reader that stays in a transaction, as a backup does, keeps the removed bytes in the
        write-ahead log until it ends; a warning says so.
        """
        with self._writing() as connection:
            connection.execute("CREATE TEMP TABLE IF NOT EXISTS unwanted (id INTEGER PRIMARY KEY)")
            connection.execute("DELETE FROM unwanted")
            connection.executemany("INSERT INTO unwanted VALUES (?)", ((n,) for n in sequences))
            connection.execute("UPDATE log SET removals = removals + 1")
            connection.execute(
                "UPDATE entities SET removed = removed + gone.count,"
                " removed_in = (SELECT removals FROM log) FROM"
                " (SELECT entity, count(*) AS count FROM events"
                "  WHERE sequence IN (SELECT id FROM unwanted) GROUP BY entity) AS gone"
                " WHERE entities.entity = gone.entity"
            )
            connection.execute(
                f"INSERT OR IGNORE INTO removed SELECT sequence, substr(event_hash, 1, {MARK_BYTES})"
                " FROM events WHERE sequence IN (SELECT id FROM unwanted)"
            )
            cursor = connection.execute(
                "DELETE FROM events WHERE sequence IN (SELECT id FROM unwanted)"
            )
            connection.execute("DELETE FROM unwanted")
        self._empty_wal()
        return cursor.rowcount

    def _empty_wal(self) -> None:
        deadline = time.monotonic() + ERASE_PATIENCE_S
        with self._write_lock, translated(self._location):
            while True:
                (busy, _, _) = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                if not busy:
                    return
                if time.monotonic() > deadline:
                    break
                time.sleep(0.02)
        logger.warning(
            "event store %s: a reader that stays in a transaction keeps removed events in the"
            " write-ahead log until it ends",
            self._location,
        )

    def removals(self, after: int) -> Removals:
        """As `EventLog.removals`: by an index of the entities that lost events."""
        with self._readers.connection() as connection:
            (count,) = connection.execute("SELECT removals FROM log").fetchone()
            entities = ()
            if count != after:
                entities = tuple(
                    entity
                    for (entity,) in connection.execute(
                        "SELECT entity FROM entities WHERE removed_in > ? AND removed_in > 0",
                        (after,),
                    )
                )
        return Removals(count, entities)

    def mark(self, sequence: int) -> bytes | None:
        """As `EventLog.mark`."""
        with self._readers.connection() as connection:
            row = connection.execute(
                f"SELECT substr(event_hash, 1, {MARK_BYTES}) FROM events WHERE sequence = ?1"
                " UNION ALL SELECT mark FROM removed WHERE sequence = ?1",
                (sequence,),
            ).fetchone()
        return None if row is None else bytes(row[0])

    def listen(
        self, changed: Callable[[], bool], failed: Callable[[BaseException], None]
    ) -> Listener:
        """As `EventLog.listen`: a thread that asks for the file's version."""
        listener = SqliteListener(
            self._file,
            self._state.closings,
            patience_s=self._patience_s,
            changed=changed,
            failed=failed,
        )
        self._listeners = [one for one in self._listeners if one.alive] + [listener]
        return listener

    def announce_close(self) -> None:
        """As `EventLog.announce_close`: a counter in the file."""
        with self._writing() as connection:
            connection.execute("UPDATE log SET closings = closings + 1")

    def flush(self) -> None:
        """As `EventLog.flush`: a commit with ``synchronous=FULL`` fsyncs all that is before it."""
        with self._writing() as connection:
            connection.execute("UPDATE log SET flushes = flushes + 1, unsynced = 0")

    def close(self) -> None:
        """Release the file; the last handle of all processes folds the write-ahead log into it."""
        for listener in self._listeners:
            listener.close()
            listener.join()
        self._readers.close()
        with self._write_lock, translated(self._location):
            self._writer.close()


def _chunks(rows: Sequence[tuple[Any, ...]]) -> Iterator[Sequence[tuple[Any, ...]]]:
    return (rows[i : i + ROWS_PER_STATEMENT] for i in range(0, len(rows), ROWS_PER_STATEMENT))


@lru_cache(maxsize=256)
def _places(columns: int, rows: int) -> str:
    return ",".join([f"({','.join('?' * columns)})"] * rows)
