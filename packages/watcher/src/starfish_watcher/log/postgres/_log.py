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
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from itertools import chain
from typing import Any, Final

try:
    import psycopg
except ImportError as error:
    msg = (
        "starfish_watcher.log.postgres needs the extra postgres: "
        'pip install --find-links dist "starfish-watcher[postgres]"'
    )
    raise ImportError(msg) from error

from starfish_watcher._model.event import Event, RawEvent
from starfish_watcher._model.new_event import Durability, PreparedEvent
from starfish_watcher._model.region import Region
from starfish_watcher._model.stored_payload import verified
from starfish_watcher.errors import (
    StoreClosed,
    StoreDamagedError,
)
from starfish_watcher.fault_points import FaultPoint
from starfish_watcher.log.base import (
    MARK_BYTES,
    NO_EVENTS,
    AppendResult,
    EntityHead,
    History,
    Listener,
    Removals,
    Stamp,
)
from starfish_watcher.log.postgres._connections import (
    Connection,
    PostgresConnections,
    translated,
)
from starfish_watcher.log.postgres._listener import PostgresListener
from starfish_watcher.log.postgres._schema import (
    CHECKED_COLUMNS,
    HEAD,
    check_schema_name,
    prepare_schema,
)
from starfish_watcher.log.postgres._writer import PostgresWriter

__all__ = ("PostgresEventLog",)

logger = logging.getLogger(__name__)
PAGE_EVENTS: Final = 2048
"""Events of a history that are fetched at once; the next page is read from the same snapshot."""


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
            StoreDamagedError: the schema holds something else.
            StoreFormatError: a later version made it.
            StoreUnavailableError: the server does not answer or does not let us in.
            ValueError: ``dsn`` or ``schema`` is refused; the message names the rule.
        """
        check_schema_name(schema)
        self._connections = PostgresConnections(dsn, schema)
        self._location = self._connections.location
        self._patience_s = patience_s
        # Channels are of the whole database, and their names are shorter than a schema's may be.
        self._channel = f"starfish_{sha256(schema.encode()).hexdigest()[:32]}"
        self._writer = PostgresWriter(self._connections, self._channel)
        try:
            with translated(self._location):
                self._state = prepare_schema(self._writer.connection, schema, self._location)
                self._warn_without_fsync()
        except BaseException:
            self._writer.close()
            raise
        self._listeners: list[PostgresListener] = []

    def _warn_without_fsync(self) -> None:
        row = self._writer.connection.execute("SHOW fsync").fetchone()
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
        return self._writer.append(requests, stamp=stamp, durability=durability, reached=reached)

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
        query = self._connections.sql(
            f"SELECT {CHECKED_COLUMNS} FROM {{s}}.events WHERE {' AND '.join(wheres)}"
            " ORDER BY sequence LIMIT %s"
        )
        with self._connections.connection() as connection:
            rows = connection.execute(query, (*values, limit), binary=True).fetchall()
        return list(verified(self._location, rows))

    def get(self, event_id: bytes) -> Event | None:
        """As `EventLog.get`."""
        with self._connections.connection() as connection:
            rows = connection.execute(
                self._connections.sql(
                    f"SELECT {CHECKED_COLUMNS} FROM {{s}}.events WHERE event_id = %b"
                ),
                (event_id,),
                binary=True,
            ).fetchall()
        return next(verified(self._location, rows), None)

    def head(self, entity: str) -> EntityHead:
        """As `EventLog.head`."""
        with self._connections.connection() as connection:
            row = self._select_head(connection, entity).fetchone()
        return EntityHead(*row) if row else NO_EVENTS

    def _select_head(self, connection: Connection, entity: str) -> psycopg.Cursor[tuple[Any, ...]]:
        return connection.execute(
            self._connections.sql(f"SELECT {HEAD} FROM {{s}}.entities WHERE entity = %s"),
            (entity,),
            binary=True,
        )

    def heads(self, prefix: str | None) -> dict[str, EntityHead]:
        """As `EventLog.heads`."""
        wheres, values = ["true"], list[Any]()
        if prefix is not None:
            _add_region(Region(entity_prefix=prefix), wheres, values)
        query = self._connections.sql(
            f"SELECT entity, {HEAD} FROM {{s}}.entities WHERE {' AND '.join(wheres)}"
        )
        with self._connections.connection() as connection:
            rows = connection.execute(query, values, binary=True)
            return {entity: EntityHead(*head) for entity, *head in rows}

    def last_sequence(self) -> int:
        """As `EventLog.last_sequence`."""
        with self._connections.connection() as connection:
            row = connection.execute(
                self._connections.sql("SELECT last_sequence FROM {s}.log")
            ).fetchone()
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
            pages = (
                verified(self._location, each, RawEvent if raw else Event)
                for each in _pages(page, select_page)
            )
            yield History(head, chain.from_iterable(pages))

    def _page(
        self, connection: Connection, entity: str, kinds: Sequence[int], after: int
    ) -> psycopg.Cursor[tuple[Any, ...]]:
        selected = " AND kind = ANY(%s)" if kinds else ""
        return connection.execute(
            self._connections.sql(
                f"SELECT {CHECKED_COLUMNS} FROM {{s}}.events"
                f" WHERE entity = %s AND sequence > %s{selected}"
                f" ORDER BY sequence LIMIT {PAGE_EVENTS}"
            ),
            (entity, after, list(kinds)) if kinds else (entity, after),
            binary=True,
        )

    def remove(self, sequences: Sequence[int]) -> int:
        """As `EventLog.remove`: one transaction, on disk when this returns."""
        return self._writer.remove(sequences)

    def removals(self, after: int) -> Removals:
        """As `EventLog.removals`: by an index of the entities that lost events."""
        with self._connections.connection() as connection:
            row = connection.execute(
                self._connections.sql("SELECT removals FROM {s}.log")
            ).fetchone()
            count = row[0] if row else 0
            entities: list[tuple[str]] = []
            if count != after:
                entities = connection.execute(
                    self._connections.sql(
                        "SELECT entity FROM {s}.entities WHERE removed_in > %s AND removed_in > 0"
                    ),
                    (after,),
                ).fetchall()
        return Removals(count, tuple(entity for (entity,) in entities))

    def mark(self, sequence: int) -> bytes | None:
        """As `EventLog.mark`."""
        with self._connections.connection() as connection:
            row = connection.execute(
                self._connections.sql(
                    f"SELECT substr(event_hash, 1, {MARK_BYTES}) FROM {{s}}.events"
                    " WHERE sequence = %s"
                    " UNION ALL SELECT mark FROM {s}.removed WHERE sequence = %s"
                ),
                (sequence, sequence),
                binary=True,
            ).fetchone()
        return None if row is None else bytes(row[0])

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
        row = connection.execute(
            self._connections.sql("SELECT store_id, closings FROM {s}.log")
        ).fetchone()
        if row is None or row[0] != self._state.store_id:
            raise StoreDamagedError(self._location, "another store was put in its place")
        if row[1] != self._state.closings:
            msg = "another handle of it was closed everywhere"
            raise StoreClosed(msg)

    def announce_close(self) -> None:
        """As `EventLog.announce_close`: a counter in the head row, and a notification."""
        self._writer.announce_close()

    def flush(self) -> None:
        """As `EventLog.flush`: a synchronous commit flushes all that is before it."""
        self._writer.flush()

    def close(self) -> None:
        """Release every connection."""
        for listener in self._listeners:
            listener.close()
        for listener in self._listeners:
            listener.join()
        self._connections.close()
        self._writer.close()


def _pages(
    page: list[tuple[Any, ...]], select_page: Callable[[int], psycopg.Cursor[tuple[Any, ...]]]
) -> Iterator[list[tuple[Any, ...]]]:
    while True:
        yield page
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
