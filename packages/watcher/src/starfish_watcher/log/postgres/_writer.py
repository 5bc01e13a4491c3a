"""Write to the event log's tables: one connection, one transaction at a time.

Every transaction locks the row that holds the last sequence, so that writers of all processes
take turns. A commit that got no answer is looked up before anybody is told what became of it.
"""

# ruff: noqa: S608 - only names of columns are put into a statement's text

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec
import psycopg

from starfish_watcher._limits import BUSY_TIMEOUT_S
from starfish_watcher._model.event import Event
from starfish_watcher._model.new_event import Durability, PreparedEvent
from starfish_watcher._model.receipt import Receipt
from starfish_watcher._model.stored_payload import payload_check
from starfish_watcher.errors import AppendUncertainError, StoreDamagedError, StoreUnavailableError
from starfish_watcher.fault_points import FaultPoint
from starfish_watcher.log.base import MARK_BYTES, AppendResult, EntityHead, Stamp
from starfish_watcher.log.plan import AppendPlan, KeyRecord, entities_of, keys_of
from starfish_watcher.log.postgres._connections import (
    Connection,
    PostgresConnections,
    is_alive,
    translated,
)
from starfish_watcher.log.postgres._listener import CLOSED
from starfish_watcher.log.postgres._schema import CHECKED_COLUMNS, HEAD

__all__ = ("PostgresWriter",)

COLUMN_TYPES: Final = (
    *("int8", "text", "text", "int8", "int4", "bytea"),
    *("int8", "bytea", "bytea", "bytea", "bytea", "bytea", "bytea", "int8"),
)
RESOLVE_S: Final = 10.0
"""How long a writer that lost the server during a commit asks what became of it."""


class PostgresWriter:
    """The connection that writes; safe to use from many threads, which take turns."""

    def __init__(self, connections: PostgresConnections, channel: str) -> None:
        """Connect.

        Raises:
            StoreUnavailableError: the server does not answer or does not let us in.
        """
        self._connections = connections
        self._channel = channel
        self._lock = threading.Lock()
        self.connection = self._open()
        """Another one after the server has ended this."""

    def _open(self) -> Connection:
        connection = self._connections.open()
        with translated(self._connections.location):
            # A process that is stopped in the middle of a write must not hold up the others for ever.
            timeout = f"SET idle_in_transaction_session_timeout = '{BUSY_TIMEOUT_S:.0f}s'"
            connection.execute(timeout.encode())
        return connection

    def append(
        self,
        requests: Sequence[Sequence[PreparedEvent]],
        *,
        stamp: Stamp,
        durability: Durability,
        reached: Callable[[FaultPoint], None],
    ) -> AppendResult:
        """As `PostgresEventLog.append`."""
        with self._lock:
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
        if not is_alive(self.connection):
            self.connection.close()
            self.connection = self._open()
        connection = self.connection
        with translated(self._connections.location):
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
        # One round trip; each statement sees all that was committed before the lock was had.
        with connection.pipeline():
            locked = connection.execute(
                self._connections.sql("SELECT last_sequence, newest_id FROM {s}.log FOR UPDATE"),
                binary=True,
            )
            heads = connection.execute(
                self._connections.sql(
                    f"SELECT entity, {HEAD} FROM {{s}}.entities WHERE entity = ANY(%s)"
                ),
                (entities_of(requests),),
                binary=True,
            )
            found = connection.execute(
                self._connections.sql(
                    "SELECT key, content, event_id, sequence, clock, event_hash"
                    " FROM {s}.idempotency WHERE key = ANY(%s)"
                ),
                (keys,),
                binary=True,
            )
            row = locked.fetchone()
            if row is None:
                raise StoreDamagedError(self._connections.location, "its head row is missing")
            records = {key.decode(): KeyRecord(row[0], Receipt(*row[1:])) for key, *row in found}
            return AppendPlan(
                row[0],
                {entity: EntityHead(*head) for entity, *head in heads},
                records,
                stamp,
                row[1],
            )

    def _write(
        self, connection: Connection, plan: AppendPlan, reached: Callable[[FaultPoint], None]
    ) -> None:
        with connection.cursor() as cursor:
            statement = self._connections.sql(
                f"COPY {{s}}.events ({CHECKED_COLUMNS}) FROM STDIN (FORMAT BINARY)"
            )
            with cursor.copy(statement) as copy:
                copy.set_types(COLUMN_TYPES)
                for event in plan.events:
                    copy.write_row(
                        (*msgspec.structs.astuple(event), payload_check(event.payload_bytes))
                    )
            reached("mid_batch")
            with connection.pipeline():
                cursor.executemany(
                    self._connections.sql(
                        "INSERT INTO {s}.entities AS e (entity, generation, sequence, event_hash)"
                        " VALUES (%s, %s, %s, %b) ON CONFLICT (entity) DO UPDATE SET"
                        " generation = excluded.generation, sequence = excluded.sequence,"
                        " event_hash = excluded.event_hash"
                    ),
                    [(entity, *head[:3]) for entity, head in plan.heads.items()],
                )
                if plan.records:
                    cursor.executemany(
                        self._connections.sql(
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
                    self._connections.sql("UPDATE {s}.log SET last_sequence = %s, newest_id = %b"),
                    (plan.events[-1].sequence, plan.events[-1].id_bytes),
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
            self.connection.execute("COMMIT")
        except psycopg.Error as error:
            if not self.connection.closed:
                # The server answered: a constraint or a limit that is checked at the end.
                _roll_back(self.connection)
                with translated(self._connections.location):
                    raise
            if not self._was_committed(events[0], error):
                raise StoreUnavailableError(
                    self._connections.location, f"lost at the commit: {error}"
                ) from error

    def _was_committed(self, event: Event, cause: psycopg.Error) -> bool:
        deadline = time.monotonic() + RESOLVE_S
        pause = 0.05
        while True:
            try:
                # The row's lock is free once the server has ended the transaction that we lost.
                with self._writing("none") as connection:
                    row = connection.execute(
                        self._connections.sql(
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
                    raise AppendUncertainError(self._connections.location, str(cause)) from cause
                time.sleep(pause)
                pause = min(2 * pause, 1.0)
                continue
            last, event_id = row or (0, None)
            if last >= event.sequence and event_id is None:
                # Compaction was faster; another writer's event may have stood there.
                raise AppendUncertainError(self._connections.location, str(cause)) from cause
            return bool(event_id == event.id_bytes)

    def remove(self, sequences: Sequence[int]) -> int:
        """As `PostgresEventLog.remove`."""
        with self._lock, self._writing("commit") as connection:
            connection.execute(self._connections.sql("UPDATE {s}.log SET removals = removals + 1"))
            row = connection.execute(
                self._connections.sql(
                    "WITH gone AS ("
                    "  DELETE FROM {s}.events WHERE sequence = ANY(%s)"
                    "  RETURNING sequence, entity, event_hash"
                    "), marked AS ("
                    f"  INSERT INTO {{s}}.removed SELECT sequence, substr(event_hash, 1, {MARK_BYTES})"
                    "  FROM gone ON CONFLICT DO NOTHING"
                    "), counted AS ("
                    "  SELECT entity, count(*) AS count FROM gone GROUP BY entity"
                    "), noted AS ("
                    "  UPDATE {s}.entities AS e SET removed = removed + counted.count,"
                    "  removed_in = (SELECT removals FROM {s}.log)"
                    "  FROM counted WHERE e.entity = counted.entity"
                    ") SELECT count(*) FROM gone"
                ),
                (list(sequences),),
            ).fetchone()
            self._notify(connection, "")
            connection.execute("COMMIT")
        return int(row[0]) if row else 0

    def announce_close(self) -> None:
        """As `PostgresEventLog.announce_close`."""
        with self._lock, self._writing("commit") as connection:
            connection.execute(self._connections.sql("UPDATE {s}.log SET closings = closings + 1"))
            self._notify(connection, CLOSED)
            connection.execute("COMMIT")

    def flush(self) -> None:
        """As `PostgresEventLog.flush`."""
        with self._lock, self._writing("commit") as connection:
            connection.execute(self._connections.sql("UPDATE {s}.log SET flushes = flushes + 1"))
            connection.execute("COMMIT")

    def close(self) -> None:
        """Release the connection when nobody writes."""
        with self._lock:
            self.connection.close()


def _roll_back(connection: Connection) -> None:
    try:
        connection.execute("ROLLBACK")
    except psycopg.Error:
        connection.close()
