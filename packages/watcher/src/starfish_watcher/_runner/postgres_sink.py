"""Tables of views in a schema of PostgreSQL."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Self

import psycopg
from psycopg import errors, sql

from starfish_watcher._fork_guard import ForkGuard
from starfish_watcher._runner.sink import BOOK
from starfish_watcher.errors import StoreClosed, WatcherError
from starfish_watcher.log.postgres._connections import (
    Connection,
    PostgresConnections,
    translated,
)
from starfish_watcher.log.postgres._schema import check_schema_name

__all__ = ("PostgresSink",)


class _PostgresTransaction:
    def __init__(self, connection: Connection, now_ms: int) -> None:
        self.tables = connection
        self.now_ms = now_ms

    def execute(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        cursor = self.tables.execute(statement.replace("?", "%s").encode(), values)
        return cursor.fetchall() if cursor.description is not None else []

    @contextmanager
    def part(self) -> Generator[object]:
        with self.tables.transaction():
            yield None


class PostgresSink:
    """A schema of a database for the tables of views; several processes and machines may open it.

    Statements of views find their tables without naming the schema. A transaction is as durable
    as the server makes it (``synchronous_commit`` is set to ``on``).

    Raises:
        StoreUnavailableError: the server does not answer or does not let us in.
        ValueError: ``dsn`` or ``schema`` is refused; the message names the rule.
    """

    def __init__(self, dsn: str, *, schema: str = "starfish_views") -> None:
        check_schema_name(schema)
        self._connections = PostgresConnections(dsn, schema)
        self.location = self._connections.location
        """Where the tables are, without user and password."""
        self._schema = schema
        self._guard = ForkGuard()
        self._lock = threading.Lock()
        self._closed = False
        self._connection: Connection | None = None
        with translated(self.location):
            self._prepare(self._opened())

    def _opened(self) -> Connection:
        if self._connection is None or self._connection.closed:
            connection = self._connections.open()
            name = sql.Identifier(self._schema)
            connection.execute(sql.SQL("SET search_path = {}").format(name))
            connection.execute("SET synchronous_commit = on")
            self._connection = connection
        return self._connection

    def _prepare(self, connection: Connection) -> None:
        with connection.transaction():
            connection.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended(%s, 1))", (self._schema,)
            )
            name = sql.Identifier(self._schema)
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(name))
            found = connection.execute("SELECT to_regclass('starfish_runner')").fetchone()
            if found == (None,):
                for statement in BOOK:
                    connection.execute(statement.encode())

    @contextmanager
    def transaction(self) -> Generator[_PostgresTransaction]:
        """As `Sink.transaction`."""
        self._guard.check()
        with self._lock, translated(self.location):
            if self._closed:
                msg = f"sink {self.location} was closed"
                raise StoreClosed(msg)
            connection = self._opened()
            try:
                with connection.transaction():
                    row = connection.execute(
                        "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
                    ).fetchone()
                    yield _PostgresTransaction(connection, 0 if row is None else row[0])
            except psycopg.OperationalError:
                # The next transaction begins with a connection that works.
                connection.close()
                raise

    @contextmanager
    def reading(self) -> Generator[Connection]:
        """A connection of the caller's own, closed at the end of the block."""
        self._guard.check()
        with translated(self.location):
            connection = self._connections.open()
            try:
                name = sql.Identifier(self._schema)
                connection.execute(sql.SQL("SET search_path = {}").format(name))
                connection.execute("SET default_transaction_read_only = on")
                yield connection
            finally:
                connection.close()

    def outage(self, error: BaseException) -> WatcherError | None:
        """As `Sink.outage`."""
        if isinstance(error, WatcherError):
            return error
        connection = self._connection
        lost = connection is None or connection.closed or connection.broken
        if isinstance(error, psycopg.Error) and (
            lost or isinstance(error, (errors.OperationalError, errors.DiskFull))
        ):
            try:
                with translated(self.location):
                    raise error
            except WatcherError as ours:
                return ours
        return None

    def close(self) -> None:
        """Release the connection; may be called twice."""
        if self._guard.is_inherited:
            return
        with self._lock:
            self._closed = True
            if self._connection is not None:
                with contextlib.suppress(psycopg.Error):
                    self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
