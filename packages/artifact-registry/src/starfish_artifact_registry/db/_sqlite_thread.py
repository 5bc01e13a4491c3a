"""A thread that does the whole work of a transaction on SQLite: one visit instead of one a statement.

Rule 1: coroutines that run here await nothing but their connection, which answers at once; for
anything else there are `beside_loop` and `on_loop`. Rule 2: the thread has its own connection, so
what it does meets other connections only in the database.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any, Final, Literal, TypeVar

from sqlalchemy import URL, Connection, NullPool, create_engine, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from starfish_artifact_registry.errors import CommitUncertainError
from starfish_disk import SqliteFile
from starfish_disk.batch_thread import BatchThread, Call

__all__ = ("Kind", "SqliteThread", "Work", "beside_loop", "on_loop")

T = TypeVar("T")
Work = Callable[[AsyncConnection], Awaitable[T]]
"""What is done in a transaction."""

Kind = Literal["read", "write"]
_BEGIN: Final[dict[Kind, str]] = {"read": "BEGIN", "write": "BEGIN IMMEDIATE"}
_here = threading.local()


async def beside_loop(call: Callable[[], T]) -> T:
    """Do what takes long without holding up the event loop; in the thread of SQLite, just do it."""
    if _loop() is not None:
        return call()
    return await asyncio.to_thread(call)


async def on_loop(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await something that needs the event loop of the caller, also from the thread of SQLite."""
    loop = _loop()
    if loop is None:
        return await coroutine
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result()


def _loop() -> asyncio.AbstractEventLoop | None:
    found: asyncio.AbstractEventLoop | None = getattr(_here, "loop", None)
    return found


class SqliteThread:
    """Transactions of one kind over one file, one after the other, in a thread of their own.

    Args:
        file: the database.
        pragmas: statements for a new connection.
        kind: ``write`` locks the log before the work begins.
    """

    def __init__(self, file: SqliteFile, pragmas: Sequence[str], kind: Kind) -> None:
        self._thread = BatchThread(f"{kind} {file.path}", _Worker(file, pragmas, kind))

    async def run(self, engine: AsyncEngine, work: Work[T]) -> T:
        """Do work in a transaction, and commit it; an exception rolls it back.

        Args:
            engine: what the connection says that it belongs to.
            work: awaits nothing but the connection.

        Raises:
            CommitUncertainError: the commit failed, and whether it took place is not known.
            DiskError: the file was replaced, or this process was forked from the one that opened it.
        """
        loop = asyncio.get_running_loop()
        return await self._thread.submit(lambda worker: worker.transact(engine, work, loop))

    def stop(self) -> asyncio.Future[None]:
        """End the thread; its connection is closed then."""
        return self._thread.stop()


class _Worker:
    def __init__(self, file: SqliteFile, pragmas: Sequence[str], kind: Kind) -> None:
        self._file = file
        self._pragmas = pragmas
        self._kind: Kind = kind
        self._connection: Connection | None = None

    def run(self, calls: Sequence[Call[_Worker]]) -> None:
        for call in calls:
            try:
                call.result = call.operation(self)
            except Exception as error:  # noqa: BLE001 - its caller gets it
                call.error = error

    def tick(self) -> None:
        """Nothing is regular here."""

    def finish(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def transact(self, engine: AsyncEngine, work: Work[T], loop: asyncio.AbstractEventLoop) -> T:
        connection = self._connection or self._open()
        _here.loop = loop
        try:
            self._file.check_in_place()
            with connection.begin() as transaction:
                result = _run(work(_ThreadConnection(engine, connection)))
                try:
                    transaction.commit()
                except Exception as error:
                    # A failed commit may leave the transaction open.
                    connection.invalidate(error)
                    raise CommitUncertainError(f"the commit failed: {error}") from error
            self._file.check_in_place()
        except BaseException:
            if connection.invalidated or connection.closed or connection.in_transaction():
                self.finish()
            raise
        finally:
            _here.loop = None
        return result

    def _open(self) -> Connection:
        url = URL.create("sqlite+pysqlite", database=str(self._file.path))
        engine = create_engine(url, poolclass=NullPool)
        file, pragmas, begin = self._file, self._pragmas, _BEGIN[self._kind]

        def prepare(connection: Any, record: object) -> None:
            connection.isolation_level = None  # transactions begin where `_begin` says
            file.prepare(connection, record)
            for pragma in pragmas:
                connection.execute(pragma)

        def begin_transaction(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

        event.listen(engine, "do_connect", lambda *_: file.ensure())
        event.listen(engine, "connect", prepare)
        event.listen(engine, "begin", begin_transaction)
        self._connection = engine.connect()
        return self._connection


class _ThreadConnection(AsyncConnection):
    """A connection whose answers are there at once, for code that awaits them."""

    def __init__(self, engine: AsyncEngine, connection: Connection) -> None:
        super().__init__(engine, connection)
        self._here = connection

    async def execute(self, statement: Any, parameters: Any = None, **options: Any) -> Any:
        """The result, rows unread."""
        return self._here.execute(statement, parameters, **options)

    async def scalar(self, statement: Any, parameters: Any = None, **options: Any) -> Any:
        """The first column of the first row."""
        return self._here.scalar(statement, parameters, **options)

    async def run_sync(self, fn: Callable[..., T], *args: Any, **options: Any) -> T:
        """What the function gives."""
        return fn(self._here, *args, **options)


def _run(work: Awaitable[T]) -> T:
    steps = work.__await__()
    try:
        next(steps)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        _close(steps)
    raise RuntimeError("work in a transaction must await nothing but its connection")


def _close(steps: Iterator[object]) -> None:
    close = getattr(steps, "close", None)
    if close is not None:
        close()
