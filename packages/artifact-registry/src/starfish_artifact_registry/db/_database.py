"""Connections to the database: for reading, and for writing while the log is locked.

Rule 1: a writer has locked the log in the database itself, so that several processes share
it and the chain never forks. Rule 2: no error of a driver leaves this package.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from typing import Final, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import Engine, StaticPool, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from starfish_artifact_registry.db._sqlite_place import check_of, thread_of
from starfish_artifact_registry.db._sqlite_thread import Kind, SqliteThread, Work
from starfish_artifact_registry.errors import (
    CommitUncertainError,
    DatabaseReplacedError,
    DatabaseUnavailableError,
    ForeignDatabaseError,
    NotInitialisedError,
    RegistryError,
)
from starfish_disk.errors import DiskError, ForeignError, PlaceChangedError

__all__ = ("Database", "is_database_error", "translated_errors")

T = TypeVar("T")
LOG_LOCK_KEY: Final = "(x'53746172'::int::bigint << 32) | 'events'::regclass::oid::bigint"
"""Advisory lock of PostgreSQL: the word ``Star`` above the table's own number."""
_LOCK_LOG: Final = {
    "postgresql": text(f"SELECT pg_advisory_xact_lock({LOG_LOCK_KEY})"),
    # A statement that writes takes SQLite's write lock before it looks for rows, in whichever way
    # the engine begins its transactions.
    "sqlite": text("UPDATE artifact_packages SET status = status WHERE 0"),
}
_turns: WeakKeyDictionary[Engine, tuple[asyncio.AbstractEventLoop, asyncio.Lock]] = (
    WeakKeyDictionary()
)


class Database:
    """What the registry does with an engine that belongs to the caller.

    Args:
        engine: over aiosqlite or asyncpg.

    Raises:
        ValueError: it is an engine of another database.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self.dialect: Final = engine.dialect.name
        """``sqlite`` or ``postgresql``."""
        if self.dialect not in _LOCK_LOG:
            raise ValueError(
                f"an engine of {self.dialect}; it must be one of sqlite and postgresql"
            )
        self.engine: Final = engine
        """The engine, as it was given."""
        self._pid = os.getpid()
        self._check_place = check_of(engine.sync_engine)
        # What a waiter for the lock reads next must be what the one before it has written.
        self._writer = (
            engine.execution_options(isolation_level="READ COMMITTED")
            if self.dialect == "postgresql"
            else engine
        )

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[AsyncConnection]:
        """Lend a connection for a few short queries.

        Raises:
            DatabaseUnavailableError: the database does not answer.
        """
        self._refuse_in_a_child()
        async with self._turn():
            with translated_errors():
                async with self.engine.connect() as connection:
                    self._check_place()
                    yield connection

    @asynccontextmanager
    async def write(self) -> AsyncGenerator[AsyncConnection]:
        """Lend a connection that has locked the log; its work is committed at the end.

        Readers go on meanwhile. An exception rolls everything back.

        Raises:
            CommitUncertainError: the commit failed, and whether it took place is not known.
            DatabaseUnavailableError: the database does not answer, or the log stayed locked.
        """
        async with self.locked() as connection:
            yield connection
            try:
                await connection.commit()
            except Exception as error:
                # A failed commit may leave the transaction open, and the pool would hand it on.
                await connection.invalidate(error)
                raise CommitUncertainError(f"the commit failed: {error}") from error
            self._check_place()

    @asynccontextmanager
    async def locked(self) -> AsyncGenerator[AsyncConnection]:
        """Lend a connection that has locked the log; nothing that was done there stays.

        Raises:
            DatabaseUnavailableError: the database does not answer, or the log stayed locked.
        """
        self._refuse_in_a_child()
        async with self._turn():
            with translated_errors():
                async with self._writer.connect() as connection:
                    self._check_place()
                    await connection.execute(_LOCK_LOG[self.dialect])
                    await self._refuse_autocommit(connection)
                    yield connection

    async def commit(self, work: Work[T]) -> T:
        """Do work while the log is locked, and commit it; an exception rolls everything back.

        Where the engine is of `create_engine` over a file, all of it happens in one visit to a
        thread, so the work must await nothing but its connection.

        Raises:
            CommitUncertainError: the commit failed, and whether it took place is not known.
            DatabaseUnavailableError: the database does not answer, or the log stayed locked.
        """
        thread = self._thread("write")
        if thread is not None:
            with translated_errors():
                return await thread.run(self.engine, work)
        async with self.write() as connection:
            return await work(connection)

    async def look(self, work: Work[T]) -> T:
        """Do work that only reads, likewise.

        Raises:
            DatabaseUnavailableError: the database does not answer.
        """
        thread = self._thread("read")
        if thread is not None:
            with translated_errors():
                return await thread.run(self.engine, work)
        async with self.read() as connection:
            return await work(connection)

    def _refuse_in_a_child(self) -> None:
        """Connections and threads of the parent are of no use here, and waiting for them no end."""
        if os.getpid() != self._pid:
            raise DatabaseUnavailableError(
                "this process was forked after the registry was made; make an engine and a "
                "registry of its own"
            )

    def _thread(self, kind: Kind) -> SqliteThread | None:
        self._refuse_in_a_child()
        return thread_of(self.engine.sync_engine, kind)

    def _turn(self) -> AbstractAsyncContextManager[object]:
        """Where all share one connection, as in ``sqlite://``, one uses it at a time."""
        if not isinstance(self.engine.pool, StaticPool):
            return nullcontext()
        loop = asyncio.get_running_loop()
        owner, lock = _turns.get(self.engine.sync_engine, (None, None))
        if owner is not loop or lock is None:
            lock = asyncio.Lock()
            _turns[self.engine.sync_engine] = loop, lock
        return lock

    async def _refuse_autocommit(self, connection: AsyncConnection) -> None:
        if self.dialect == "sqlite":
            raw = await connection.get_raw_connection()
            if not getattr(raw.driver_connection, "in_transaction", True):
                raise DatabaseUnavailableError(
                    "the engine has isolation_level AUTOCOMMIT; the registry needs transactions"
                )


@contextmanager
def translated_errors() -> Generator[None]:
    """Turn errors of drivers and of the connection into ours, with their cause."""
    try:
        yield
    except Exception as error:
        if isinstance(error, DiskError):
            raise _of_disk(error) from error
        if not is_database_error(error):
            raise
        if _is_missing_table(error):
            raise NotInitialisedError from error
        reason = str(getattr(error, "orig", None) or error).splitlines() or [type(error).__name__]
        raise DatabaseUnavailableError(f"the database is unavailable: {reason[0]}") from error


def _of_disk(error: DiskError) -> RegistryError:
    if isinstance(error, ForeignError):
        return ForeignDatabaseError(str(error.path), error.reason)
    if isinstance(error, PlaceChangedError):
        return DatabaseReplacedError(f"{error.path}: {error.reason}")
    return DatabaseUnavailableError(f"the database is unavailable: {error.path}: {error.reason}")


def _is_missing_table(error: Exception) -> bool:
    cause = getattr(error, "orig", None) or error
    text = str(cause)
    return getattr(cause, "sqlstate", None) == "42P01" or "no such table: " in text


def is_database_error(error: Exception) -> bool:
    """Whether a driver, the pool or the connection raised it."""
    # asyncpg's own errors pass SQLAlchemy by when they happen while connecting.
    of_driver = type(error).__module__.partition(".")[0] == "asyncpg"
    return of_driver or isinstance(error, SQLAlchemyError | OSError | DiskError)
