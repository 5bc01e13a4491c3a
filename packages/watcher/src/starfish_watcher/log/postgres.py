"""A log in a PostgreSQL database: extra ``postgres``.

Four tables in a schema of its own. A group of appends is one transaction, which locks the row that
holds the last sequence: writers of all processes take turns at it, so that sequences have no holes
and become visible in order. Readers never wait. The transaction notifies, and PostgreSQL delivers
that after the commit is visible.

``commit`` is ``synchronous_commit = on``: the server's fsync, and that of its synchronous standbys
where it has any. ``batched`` and ``none`` are ``off``: they survive the death of this process and
of a server process; a crash of the database may take back the newest of them, and never leaves a hole.
"""

# ruff: noqa: S608 - only names of this module and the checked schema are put into a statement's text

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from itertools import starmap
from typing import Any, Final

import msgspec

try:
    import psycopg
except ImportError as error:
    msg = (
        "starfish_watcher.log.postgres needs the extra postgres: "
        'pip install "starfish-watcher[postgres]"'
    )
    raise ImportError(msg) from error

from starfish_watcher.errors import (
    AppendUncertainError,
    StoreClosed,
    StoreDamagedError,
    StoreUnavailableError,
)
from starfish_watcher.fault_points import FaultPoint
from starfish_watcher.limits import BUSY_TIMEOUT_S
from starfish_watcher.log._postgres_connections import (
    Connection,
    PostgresConnections,
    is_alive,
    translated,
)
from starfish_watcher.log._postgres_listener import CLOSED, PostgresListener
from starfish_watcher.log._postgres_schema import check_schema_name, prepare_schema
from starfish_watcher.log.base import NO_EVENTS, AppendResult, EntityHead, History, Listener, Stamp
from starfish_watcher.log.plan import AppendPlan, KeyRecord, entities_of, keys_of
from starfish_watcher.model.event import Event, RawEvent
from starfish_watcher.model.new_event import Durability, PreparedEvent
from starfish_watcher.model.receipt import Receipt
from starfish_watcher.model.region import Region

__all__ = ("PostgresEventLog",)

logger = logging.getLogger(__name__)
COLUMNS: Final = (
    "sequence, entity, scope, clock, kind, event_id, timestamp_us, correlation_id, causation_id,"
    " payload, previous_hash, event_hash"
)
COLUMN_TYPES: Final = (
    *("int8", "text", "text", "int8", "int4", "bytea"),
    *("int8", "bytea", "bytea", "bytea", "bytea", "bytea"),
)
HEAD: Final = "generation, sequence, event_hash, removed"
PAGE_EVENTS: Final = 2048
"""Events of a history that are fetched at once; the next page is read from the same snapshot."""
RESOLVE_S: Final = 10.0
"""How long a writer that lost the server during a commit asks what became of it."""


class PostgresEventLog:
    """Keeps events in one schema that several threads and processes may share."""

    def __init__(
        self, dsn: str, *, schema: str = "starfish_events", patience_s: float = 300.0
    ) -> None:
        """Connect, and make the tables when they are missing.

        Args:
            dsn: A libpq connection string or URL.
            schema: Where the tables are; made when it is missing.
            patience_s: How long listeners wait for a server that went away before they give up.

        Raises:
            StoreDamagedError: the schema holds something else, or another version.
            StoreUnavailableError: the server does not answer or does not let us in.
            ValueError: ``dsn`` or ``schema`` is not legal; the message says what is.
        """
        check_schema_name(schema)
        self._connections = PostgresConnections(dsn, schema)
        self._location = self._connections.location
        self._schema = schema
        self._patience_s = patience_s
        self._write_lock = threading.Lock()
        self._writer = self._open_writer()
        try:
            with translated(self._location):
                self._state = prepare_schema(self._writer, schema, self._location)
                self._warn_without_fsync()
        except BaseException:
            self._writer.close()
            raise
        self._listeners: list[PostgresListener] = []
        # Channels are of the whole database, and their names are shorter than a schema's may be.
        self._channel = f"starfish_{sha256(schema.encode()).hexdigest()[:32]}"

    def _open_writer(self) -> Connection:
        writer = self._connections.open()
        with translated(self._location):
            # Whoever is stopped in the middle of a write must not hold up the others for ever.
            timeout = f"SET idle_in_transaction_session_timeout = '{BUSY_TIMEOUT_S:.0f}s'"
            writer.execute(timeout.encode())
        return writer

    def _warn_without_fsync(self) -> None:
        row = self._writer.execute("SHOW fsync").fetchone()
        if row != ("on",):
            logger.warning("%s runs with fsync off: nothing survives its crash", self._location)

    @property
    def location(self) -> str:
        """Host, port, database and schema."""
        return self._location

    @property
    def store_id(self) -> str:
        """Made with the tables and kept in them."""
        return self._state.store_id

    def _sql(self, text: str) -> bytes:
        """``text`` with the schema for ``{s}``; the name was checked, and is quoted all the same."""
        return text.replace("{s}", f'"{self._schema}"').encode()

    def append(
        self,
        requests: Sequence[Sequence[PreparedEvent]],
        *,
        stamp: Stamp,
        durability: Durability,
        reached: Callable[[FaultPoint], None],
    ) -> AppendResult:
        """As `EventLog.append`: one transaction.

        Raises:
            AppendUncertainError: the server fell silent during the commit.
        """
        with self._write_lock:
            with self._writing(durability) as connection:
                plan = self._plan(connection, requests, stamp)
                outcomes = [plan.add(request) for request in requests]
                if plan.events:
                    self._write(connection, plan, reached)
                reached("after_write")
                if not plan.events:
                    connection.execute("ROLLBACK")
                    return AppendResult(outcomes, ())
            self._commit(plan.events)
        return AppendResult(outcomes, plan.events)

    @contextmanager
    def _writing(self, durability: Durability) -> Generator[Connection]:
        """A transaction that holds the row every writer needs; the caller commits."""
        if not is_alive(self._writer):
            self._writer.close()
            self._writer = self._open_writer()
        connection = self._writer
        with translated(self._location):
            try:
                level = b"on" if durability == "commit" else b"off"
                connection.execute(
                    b"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;"
                    b" SET LOCAL synchronous_commit = " + level
                )
                yield connection
            except BaseException:
                _roll_back(connection)
                raise

    def _plan(
        self,
        connection: Connection,
        requests: Sequence[Sequence[PreparedEvent]],
        stamp: Stamp,
    ) -> AppendPlan:
        keys = [key.encode() for key in keys_of(requests)]
        # One round trip; each statement sees what was committed before the lock was had.
        with connection.pipeline():
            locked = connection.execute(
                self._sql("SELECT last_sequence FROM {s}.log FOR UPDATE"), binary=True
            )
            heads = connection.execute(
                self._sql(f"SELECT entity, {HEAD} FROM {{s}}.entities WHERE entity = ANY(%s)"),
                (entities_of(requests),),
                binary=True,
            )
            found = connection.execute(
                self._sql(
                    "SELECT key, content, event_id, sequence, clock, event_hash"
                    " FROM {s}.idempotency WHERE key = ANY(%s)"
                ),
                (keys,),
                binary=True,
            )
            row = locked.fetchone()
            if row is None:
                raise StoreDamagedError(self._location, "its head row is missing")
            records = {key.decode(): KeyRecord(row[0], Receipt(*row[1:])) for key, *row in found}
            return AppendPlan(
                row[0], {entity: EntityHead(*head) for entity, *head in heads}, records, stamp
            )

    def _write(
        self, connection: Connection, plan: AppendPlan, reached: Callable[[FaultPoint], None]
    ) -> None:
        with connection.cursor() as cursor:
            statement = self._sql(f"COPY {{s}}.events ({COLUMNS}) FROM STDIN (FORMAT BINARY)")
            with cursor.copy(statement) as copy:
                copy.set_types(COLUMN_TYPES)
                for event in plan.events:
                    copy.write_row(msgspec.structs.astuple(event))
            reached("mid_batch")
            with connection.pipeline():
                cursor.executemany(
                    self._sql(
                        "INSERT INTO {s}.entities AS e (entity, generation, sequence, event_hash)"
                        " VALUES (%s, %s, %s, %b) ON CONFLICT (entity) DO UPDATE SET"
                        " generation = excluded.generation, sequence = excluded.sequence,"
                        " event_hash = excluded.event_hash"
                    ),
                    [(entity, *head[:3]) for entity, head in plan.heads.items()],
                )
                if plan.records:
                    cursor.executemany(
                        self._sql(
                            "INSERT INTO {s}.idempotency"
                            " (key, content, event_id, sequence, clock, event_hash)"
                            " VALUES (%b, %b, %b, %s, %s, %b)"
                        ),
                        [
                            (key.encode(), record.content, *msgspec.structs.astuple(record.receipt))
                            for key, record in plan.records.items()
                        ],
                    )
                cursor.execute(
                    self._sql("UPDATE {s}.log SET last_sequence = %s"),
                    (plan.events[-1].sequence,),
                )
                self._notify(connection, "")

    def _notify(self, connection: Connection, what: str) -> None:
        connection.execute("SELECT pg_notify(%s, %s)", (self._channel, what))

    def _commit(self, events: Sequence[Event]) -> None:
        """End the transaction that wrote ``events``.

        Raises:
            AppendUncertainError: the server fell silent and nobody knows.
            StoreUnavailableError: it was not committed.
        """
        try:
            self._writer.execute("COMMIT")
        except psycopg.Error as error:
            if not self._writer.closed:
                # The server answered: a constraint or a limit that is checked at the end.
                _roll_back(self._writer)
                with translated(self._location):
                    raise
            if not self._was_committed(events[0], error):
                raise StoreUnavailableError(
                    self._location, f"lost at the commit: {error}"
                ) from error

    def _was_committed(self, event: Event, cause: psycopg.Error) -> bool:
        deadline = time.monotonic() + RESOLVE_S
        pause = 0.05
        while True:
            try:
                # The row's lock is free once the server has ended the transaction that we lost.
                with self._writing("none") as connection:
                    row = connection.execute(
                        self._sql(
                            "SELECT last_sequence,"
                            " (SELECT event_id FROM {s}.events WHERE sequence = %s)"
                            " FROM {s}.log FOR UPDATE"
                        ),
                        (event.sequence,),
                        binary=True,
                    ).fetchone()
                    connection.execute("ROLLBACK")
            except StoreUnavailableError:
                if time.monotonic() > deadline:
                    raise AppendUncertainError(self._location, str(cause)) from cause
                time.sleep(pause)
                pause = min(2 * pause, 1.0)
                continue
            last, event_id = row or (0, None)
            if last >= event.sequence and event_id is None:
                # Compaction was faster; another writer's event may have stood there.
                raise AppendUncertainError(self._location, str(cause)) from cause
            return bool(event_id == event.id_bytes)

    def read(
        self, after: int, limit: int, *, entity: str | None = None, region: Region | None = None
    ) -> Sequence[Event]:
        """As `EventLog.read`."""
        wheres, values = ["sequence > %s"], list[Any]([after])
        if entity is not None:
            wheres.append("entity = %s")
            values.append(entity)
        if region is not None:
            _add_region(region, wheres, values)
        query = self._sql(
            f"SELECT {COLUMNS} FROM {{s}}.events WHERE {' AND '.join(wheres)}"
            " ORDER BY sequence LIMIT %s"
        )
        with self._connections.connection() as connection:
            rows = connection.execute(query, (*values, limit), binary=True)
            return list(starmap(Event, rows))

    def get(self, event_id: bytes) -> Event | None:
        """As `EventLog.get`."""
        with self._connections.connection() as connection:
            row = connection.execute(
                self._sql(f"SELECT {COLUMNS} FROM {{s}}.events WHERE event_id = %b"),
                (event_id,),
                binary=True,
            ).fetchone()
        return Event(*row) if row else None

    def head(self, entity: str) -> EntityHead:
        """As `EventLog.head`."""
        with self._connections.connection() as connection:
            row = self._select_head(connection, entity).fetchone()
        return EntityHead(*row) if row else NO_EVENTS

    def _select_head(self, connection: Connection, entity: str) -> psycopg.Cursor[tuple[Any, ...]]:
        return connection.execute(
            self._sql(f"SELECT {HEAD} FROM {{s}}.entities WHERE entity = %s"),
            (entity,),
            binary=True,
        )

    def heads(self, prefix: str | None) -> dict[str, EntityHead]:
        """As `EventLog.heads`."""
        wheres, values = ["true"], list[Any]()
        if prefix is not None:
            _add_region(Region(entity_prefix=prefix), wheres, values)
        query = self._sql(f"SELECT entity, {HEAD} FROM {{s}}.entities WHERE {' AND '.join(wheres)}")
        with self._connections.connection() as connection:
            rows = connection.execute(query, values, binary=True)
            return {entity: EntityHead(*head) for entity, *head in rows}

    def last_sequence(self) -> int:
        """As `EventLog.last_sequence`."""
        with self._connections.connection() as connection:
            row = connection.execute(self._sql("SELECT last_sequence FROM {s}.log")).fetchone()
        if row is None:
            raise StoreDamagedError(self._location, "its head row is missing")
        return int(row[0])

    @contextmanager
    def history(
        self, entity: str, *, after: int, kinds: Sequence[int], raw: bool
    ) -> Generator[History]:
        """As `EventLog.history`: one snapshot, read page by page."""
        with self._connections.connection() as connection:
            select_page = partial(self._page, connection, entity, kinds)
            with connection.pipeline():
                connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                found = self._select_head(connection, entity)
                rows = select_page(after)
                row, page = found.fetchone(), rows.fetchall()
            head = EntityHead(*row) if row else NO_EVENTS
            yield History(head, starmap(RawEvent if raw else Event, _pages(page, select_page)))

    def _page(
        self, connection: Connection, entity: str, kinds: Sequence[int], after: int
    ) -> psycopg.Cursor[tuple[Any, ...]]:
        selected = " AND kind = ANY(%s)" if kinds else ""
        return connection.execute(
            self._sql(
                f"SELECT {COLUMNS} FROM {{s}}.events WHERE entity = %s AND sequence > %s{selected}"
                f" ORDER BY sequence LIMIT {PAGE_EVENTS}"
            ),
            (entity, after, list(kinds)) if kinds else (entity, after),
            binary=True,
        )

    def remove(self, sequences: Sequence[int]) -> int:
        """As `EventLog.remove`: one transaction, on disk when this returns."""
        with self._write_lock, self._writing("commit") as connection:
            connection.execute(self._sql("SELECT FROM {s}.log FOR UPDATE"))
            row = connection.execute(
                self._sql(
                    "WITH gone AS ("
                    "  DELETE FROM {s}.events WHERE sequence = ANY(%s) RETURNING entity"
                    "), counted AS ("
                    "  SELECT entity, count(*) AS count FROM gone GROUP BY entity"
                    "), noted AS ("
                    "  UPDATE {s}.entities AS e SET removed = removed + counted.count"
                    "  FROM counted WHERE e.entity = counted.entity"
                    ") SELECT count(*) FROM gone"
                ),
                (list(sequences),),
            ).fetchone()
            connection.execute("COMMIT")
        return int(row[0]) if row else 0

    def listen(
        self, changed: Callable[[], bool], failed: Callable[[BaseException], None]
    ) -> Listener:
        """As `EventLog.listen`: LISTEN on a connection of its own."""
        listener = PostgresListener(
            self._connections,
            self._channel,
            self._check_open,
            patience_s=self._patience_s,
            changed=changed,
            failed=failed,
        )
        self._listeners = [one for one in self._listeners if one.alive] + [listener]
        return listener

    def _check_open(self, connection: Connection) -> None:
        row = connection.execute(self._sql("SELECT store_id, closings FROM {s}.log")).fetchone()
        if row is None or row[0] != self._state.store_id:
            raise StoreDamagedError(self._location, "another store was put in its place")
        if row[1] != self._state.closings:
            msg = "another handle of it was closed everywhere"
            raise StoreClosed(msg)

    def announce_close(self) -> None:
        """As `EventLog.announce_close`: a counter in the head row, and a notification."""
        with self._write_lock, self._writing("commit") as connection:
            connection.execute(self._sql("UPDATE {s}.log SET closings = closings + 1"))
            self._notify(connection, CLOSED)
            connection.execute("COMMIT")

    def flush(self) -> None:
        """As `EventLog.flush`: a synchronous commit flushes all that is before it."""
        with self._write_lock, self._writing("commit") as connection:
            connection.execute(self._sql("UPDATE {s}.log SET flushes = flushes + 1"))
            connection.execute("COMMIT")

    def close(self) -> None:
        """Release every connection."""
        for listener in self._listeners:
            listener.close()
        for listener in self._listeners:
            listener.join()
        self._connections.close()
        with self._write_lock:
            self._writer.close()


def _roll_back(connection: Connection) -> None:
    try:
        connection.execute("ROLLBACK")
    except psycopg.Error:
        connection.close()


def _pages(
    page: list[tuple[Any, ...]], select_page: Callable[[int], psycopg.Cursor[tuple[Any, ...]]]
) -> Iterator[tuple[Any, ...]]:
    while True:
        yield from page
        if len(page) < PAGE_EVENTS:
            return
        page = select_page(page[-1][0]).fetchall()


def _add_region(region: Region, wheres: list[str], values: list[Any]) -> None:
    if (prefix := region.entity_prefix) is not None:
        wheres.append("(entity = %s OR (entity >= %s AND entity < %s))")
        values += [prefix, f"{prefix}:", f"{prefix};"]  # ';' follows ':' in collation "C"
    if region.scope is not None:
        wheres.append("scope = %s")
        values.append(region.scope)
    if (codes := region.kind_codes) is not None:
        wheres.append("kind BETWEEN %s AND %s")
        values += codes
