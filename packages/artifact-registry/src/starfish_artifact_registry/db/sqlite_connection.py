"""Connections to SQLite that visit their thread once for a statement and its rows.

Each visit costs two switches between threads. aiosqlite makes four for a query (open a cursor,
execute, fetch, close) and one more to roll back what did not begin.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import aiosqlite

__all__ = ("connect",)

T = TypeVar("T")
_ROWS: Final = 10_000
"""Rows that come with the statement; those of a longer answer are fetched as they are asked for."""


def connect(database: str, **options: Any) -> aiosqlite.Connection:
    """What ``aiosqlite.connect`` returns, for an engine of SQLAlchemy: await it once."""
    connection = _Connection(lambda: sqlite3.connect(database, **options), iter_chunk_size=64)
    connection.outlive_nothing()
    return connection


class _Connection(aiosqlite.Connection):
    _in_transaction = True
    """As the last visit left it; ``True`` while one is under way, and when that was cancelled."""

    if TYPE_CHECKING:  # it has no types of its own

        async def _execute(self, fn: Callable[[], T]) -> T: ...

    def outlive_nothing(self) -> None:
        """Do not keep the process alive, as SQLAlchemy has it for aiosqlite's own."""
        # Until version 0.22 the connection was the thread.
        thread: Any = getattr(self, "_thread", self)
        thread.daemon = True

    # The parent's gives an awaitable context manager; SQLAlchemy uses the latter alone.
    def cursor(self) -> _Cursor:  # type: ignore[override]
        return _Cursor(self)

    async def visit(self, call: Callable[[sqlite3.Connection], T]) -> T:
        """Call it in the connection's thread."""

        def run() -> tuple[T, bool]:
            return call(self._conn), self._conn.in_transaction

        self._in_transaction = True
        result, self._in_transaction = await self._execute(run)
        return result

    async def commit(self) -> None:
        await self.visit(lambda connection: connection.commit())

    async def rollback(self) -> None:
        if self._in_transaction:
            await self.visit(lambda connection: connection.rollback())


class _Cursor:
    """A cursor as SQLAlchemy's adapter uses it."""

    arraysize = 1

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._rest: sqlite3.Cursor | None = None
        self._rows: list[Any] = []
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None

    async def __aenter__(self) -> Self:
        return self

    async def execute(self, statement: str, parameters: Sequence[Any] = ()) -> _Cursor:
        return await self._run(lambda connection: connection.execute(statement, parameters))

    async def executemany(self, statement: str, parameters: Sequence[Any]) -> _Cursor:
        return await self._run(lambda connection: connection.executemany(statement, parameters))

    async def fetchall(self) -> Sequence[Any]:
        rows, self._rows = self._rows, []
        if self._rest is not None:
            rest, self._rest = self._rest, None
            rows += await self._connection.visit(lambda _: rest.fetchall())
        return rows

    async def fetchmany(self, size: int | None = None) -> Sequence[Any]:
        size = self.arraysize if size is None else size
        rows, self._rows = self._rows[:size], self._rows[size:]
        if self._rest is not None and len(rows) < size:
            rest, missing = self._rest, size - len(rows)
            rows += await self._connection.visit(lambda _: rest.fetchmany(missing))
        return rows

    async def fetchone(self) -> Any:
        rows = await self.fetchmany(1)
        return rows[0] if rows else None

    async def close(self) -> None:
        self._rows = []
        if self._rest is not None:
            rest, self._rest = self._rest, None
            await self._connection.visit(lambda _: rest.close())

    async def _run(self, call: Callable[[sqlite3.Connection], sqlite3.Cursor]) -> _Cursor:
        await self.close()

        def run(connection: sqlite3.Connection) -> tuple[sqlite3.Cursor, list[Any]]:
            cursor = call(connection)
            return cursor, cursor.fetchmany(_ROWS)

        cursor, self._rows = await self._connection.visit(run)
        self.description, self.rowcount = cursor.description, cursor.rowcount
        self.lastrowid = cursor.lastrowid
        # What has given all its rows holds no lock.
        self._rest = cursor if len(self._rows) == _ROWS else None
        return self
