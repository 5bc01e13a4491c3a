"""A log in one SQLite file: the embedded default.

WAL mode; writers of all processes take turns at the file's write lock, so that sequences have no
holes; readers never wait. ``commit`` fsyncs the write-ahead log before it returns
(``synchronous=FULL``). ``batched`` and ``none`` leave that to a later flush or to the system
(``synchronous=NORMAL``): they survive the death of the process, a power failure may take back the
newest of them, and never leaves a hole or a damaged file.
"""

# ruff: noqa: S608 - only names of this module and numbers are put into a statement's text

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain, starmap
from pathlib import Path
from typing import Any, Final

import msgspec

from starfish_watcher._model.event import Event, RawEvent
from starfish_watcher._model.new_event import Durability, PreparedEvent
from starfish_watcher._model.receipt import Receipt
from starfish_watcher._model.region import Region
from starfish_watcher.fault_points import FaultPoint
from starfish_watcher.log.base import NO_EVENTS, AppendResult, EntityHead, History, Listener, Stamp
from starfish_watcher.log.plan import AppendPlan, KeyRecord, entities_of, keys_of
from starfish_watcher.log.sqlite._file import Check, connect, prepare_file, translated
from starfish_watcher.log.sqlite._listener import SqliteListener
from starfish_watcher.log.sqlite._readers import ReaderPool
from starfish_watcher.log.sqlite._wal import check_wal

__all__ = ("SqliteEventLog",)

COLUMNS: Final = (
    "sequence, entity, scope, clock, kind, event_id, timestamp_us, correlation_id, causation_id, "
    "payload, previous_hash, event_hash"
)
EVENT_COLUMNS: Final = ", ".join(f"events.{name}" for name in COLUMNS.split(", "))
SELECT_HEAD: Final = (
    "SELECT generation, sequence, event_hash, removed FROM entities WHERE entity = ?"
)
ROWS_PER_STATEMENT: Final = 64
"""Each statement gives up the interpreter's lock, and getting it back from busy threads takes long."""
MAX_KNOWN_HEADS: Final = 65_536
"""Heads that the writer remembers between its commits, about 20 MB."""


class SqliteEventLog:
    """Keeps events in one file that several threads and processes may share."""

    def __init__(self, path: str | os.PathLike[str], *, check: Check = "quick") -> None:
        """Open the file, made when it is missing.

        Raises:
            StoreDamagedError: the file is something else, or does not hold what it should.
            StoreUnavailableError: it cannot be opened or written.
        """
        self._path = Path(path).absolute()
        self._location = str(self._path)
        self._write_lock = threading.Lock()
        if check == "quick":
            check_wal(self._path)
        with translated(self._location):
            self._writer = connect(self._path)
        try:
            self._state = prepare_file(self._path, self._writer, check)
        except BaseException:
            self._writer.close()
            raise
        self._readers = ReaderPool(self._path)
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
            (last,) = connection.execute("SELECT last_sequence FROM log").fetchone()
            if last != self._known_at or len(self._known_heads) > MAX_KNOWN_HEADS:
                self._known_heads.clear()
            self._known_at = -1
            heads = self._heads_for_writing(connection, entities_of(requests))
            records = self._records_for_writing(connection, keys_of(requests))
            plan = AppendPlan(last, heads, records, stamp)
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
        for chunk in _chunks([msgspec.structs.astuple(event) for event in plan.events]):
            connection.execute(
                f"INSERT INTO events ({COLUMNS}) VALUES {_places(12, len(chunk))}",
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
        connection.executemany(
            "INSERT INTO idempotency (key, content, event_id, sequence, clock, event_hash)"
            " VALUES (?,?,?,?,?,?)",
            (
                (key, record.content, *msgspec.structs.astuple(record.receipt))
                for key, record in plan.records.items()
            ),
        )
        connection.execute("UPDATE log SET last_sequence = ?", (plan.events[-1].sequence,))

    @contextmanager
    def _writing(self, durability: Durability = "commit") -> Generator[sqlite3.Connection]:
        with self._write_lock, translated(self._location):
            level = "FULL" if durability == "commit" else "NORMAL"
            if level != self._synchronous:
                self._writer.execute(f"PRAGMA synchronous = {level}")
                self._synchronous = level
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                self._known_at = -1
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def read(
        self, after: int, limit: int, *, entity: str | None = None, region: Region | None = None
    ) -> Sequence[Event]:
        """As `EventLog.read`."""
        wheres = ["sequence > ?"]
        values: list[Any] = [after]
        if entity is not None:
            wheres.append("entity = ?")
            values.append(entity)
        if region is not None:
            _add_region(region, wheres, values)
        query = (
            f"SELECT {COLUMNS} FROM events WHERE {' AND '.join(wheres)} ORDER BY sequence LIMIT ?"
        )
        with self._readers.connection() as connection:
            return list(starmap(Event, connection.execute(query, (*values, limit))))

    def get(self, event_id: bytes) -> Event | None:
        """As `EventLog.get`."""
        query = f"SELECT {COLUMNS} FROM events WHERE event_id = ?"
        with self._readers.connection() as connection:
            row = connection.execute(query, (event_id,)).fetchone()
        return Event(*row) if row else None

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
            values = _namespace_bounds(prefix)
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
        """As `EventLog.history`: one statement, and so one snapshot."""
        selected = f" AND kind IN ({','.join(map(str, kinds))})" if kinds else ""
        # What is new is mostly one event or none: head and events in one go. A long history is
        # read without the head in each of its rows.
        joined = (
            f"SELECT generation, entities.sequence, entities.event_hash, removed, {EVENT_COLUMNS}"
            " FROM entities LEFT JOIN events ON events.entity = entities.entity"
            f" AND events.sequence > ?{selected} WHERE entities.entity = ?"
            " ORDER BY events.sequence"
        )
        alone = (
            f"SELECT {COLUMNS} FROM events WHERE entity = ? AND sequence > ?{selected}"
            " ORDER BY sequence"
        )
        event_type = RawEvent if raw else Event
        with self._readers.connection() as connection:
            if after:
                cursor = connection.execute(joined, (after, entity))
                first: tuple[Any, ...] = cursor.fetchone() or (*NO_EVENTS, None)
                head = EntityHead(*first[:4])
                newer = [] if first[4] is None else [first[4:]]
                rows: Iterator[tuple[Any, ...]] = chain(newer, (row[4:] for row in cursor))
            else:
                connection.execute("BEGIN")
                row = connection.execute(SELECT_HEAD, (entity,)).fetchone()
                head = EntityHead(*row) if row else NO_EVENTS
                cursor = connection.execute(alone, (entity, after))
                rows = cursor
            try:
                yield History(head, starmap(event_type, rows))
            finally:
                cursor.close()

    def remove(self, sequences: Sequence[int]) -> int:
        """As `EventLog.remove`: one transaction, on disk when this returns."""
        with self._writing() as connection:
            connection.execute("CREATE TEMP TABLE IF NOT EXISTS unwanted (id INTEGER PRIMARY KEY)")
            connection.execute("DELETE FROM unwanted")
            connection.executemany("INSERT INTO unwanted VALUES (?)", ((n,) for n in sequences))
            connection.execute(
                "UPDATE entities SET removed = removed + gone.count FROM"
                " (SELECT entity, count(*) AS count FROM events"
                "  WHERE sequence IN (SELECT id FROM unwanted) GROUP BY entity) AS gone"
                " WHERE entities.entity = gone.entity"
            )
            cursor = connection.execute(
                "DELETE FROM events WHERE sequence IN (SELECT id FROM unwanted)"
            )
            connection.execute("DELETE FROM unwanted")
            return cursor.rowcount

    def listen(
        self, changed: Callable[[], bool], failed: Callable[[BaseException], None]
    ) -> Listener:
        """As `EventLog.listen`: a thread that asks for the file's version."""
        listener = SqliteListener(self._path, self._state.closings, changed, failed)
        self._listeners = [one for one in self._listeners if one.alive] + [listener]
        return listener

    def announce_close(self) -> None:
        """As `EventLog.announce_close`: a counter in the file."""
        with self._writing() as connection:
            connection.execute("UPDATE log SET closings = closings + 1")

    def flush(self) -> None:
        """As `EventLog.flush`: a commit with ``synchronous=FULL`` fsyncs all that is before it."""
        with self._writing() as connection:
            connection.execute("UPDATE log SET flushes = flushes + 1")

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


def _namespace_bounds(prefix: str) -> tuple[str, str, str]:
    return prefix, f"{prefix}:", f"{prefix};"  # ';' follows ':' in every collation by code


def _add_region(region: Region, wheres: list[str], values: list[Any]) -> None:
    if region.entity_prefix is not None:
        # The plus keeps SQLite on the table's own order: readers page on from where they are.
        wheres.append("(+entity = ? OR (+entity >= ? AND +entity < ?))")
        values += _namespace_bounds(region.entity_prefix)
    if region.scope is not None:
        wheres.append("scope = ?")
        values.append(region.scope)
    if (codes := region.kind_codes) is not None:
        wheres.append("kind BETWEEN ? AND ?")
        values += codes
