"""Tables of views in a SQLite file."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

from starfish_disk.sqlite_file import SqliteFile
from starfish_protocol.clock import Clock, SystemClock
from starfish_watcher._fork_guard import ForkGuard
from starfish_watcher._runner.sink import BOOK
from starfish_watcher.errors import StoreClosed, WatcherError
from starfish_watcher.log.sqlite._file import translated

__all__ = ("SqliteSink", "SqliteTransaction")

_APPLICATION_ID: Final = 0x53465657
_OUTAGES: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_NOTADB,
    }
)


class SqliteTransaction:
    """A transaction of a `SqliteSink`."""

    def __init__(self, connection: sqlite3.Connection, now_ms: int) -> None:
        self.tables = connection
        self.now_ms = now_ms

    def execute(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """As `SinkTransaction.execute`."""
        return self.tables.execute(statement, values).fetchall()

    @contextmanager
    def part(self) -> Generator[object]:
        """As `SinkTransaction.part`."""
        self.tables.execute("SAVEPOINT starfish_part")
        try:
            yield None
        except BaseException:
            self.tables.execute("ROLLBACK TO starfish_part")
            self.tables.execute("RELEASE starfish_part")
            raise
        self.tables.execute("RELEASE starfish_part")


class SqliteSink:
    """A SQLite file of its own for the tables of views; several processes may open it.

    A transaction is on disk when it has ended. Read the tables with any connection, or with
    `reading`.

    Raises:
        StoreDamagedError: the file is something else.
        StoreUnavailableError: it cannot be opened or written.
    """

    def __init__(self, path: str | os.PathLike[str], *, clock: Clock | None = None) -> None:
        self.location = str(Path(path).absolute())
        """Its path."""
        self._clock = clock or SystemClock()
        self._guard = ForkGuard()
        self._lock = threading.Lock()
        self._closed = False
        self._file = SqliteFile(
            path, application_id=_APPLICATION_ID, layouts=(BOOK,), busy_timeout_ms=30_000
        )
        with translated(self.location):
            self._connection = self._file.connect()

    @contextmanager
    def transaction(self) -> Generator[SqliteTransaction]:
        """As `Sink.transaction`."""
        self._guard.check()
        with self._lock, translated(self.location):
            self._check_open()
            with self._file.transaction(self._connection) as connection:
                yield SqliteTransaction(connection, self._clock.now_ms())

    @contextmanager
    def reading(self) -> Generator[sqlite3.Connection]:
        """A connection of the caller's own that can only read, closed at the end of the block."""
        self._guard.check()
        self._check_open()
        with translated(self.location):
            connection = self._file.connect(create=False)
            try:
                connection.execute("PRAGMA query_only = ON")
                yield connection
            finally:
                connection.close()

    def outage(self, error: BaseException) -> WatcherError | None:
        """As `Sink.outage`."""
        if isinstance(error, WatcherError):
            return error
        code = getattr(error, "sqlite_errorcode", None)
        if not isinstance(error, sqlite3.Error) or code is None or code & 0xFF not in _OUTAGES:
            return None
        try:
            with translated(self.location):
                raise error
        except WatcherError as ours:
            return ours

    def _check_open(self) -> None:
        if self._closed:
            msg = f"sink {self.location} was closed"
            raise StoreClosed(msg)

    def close(self) -> None:
        """Release the file; may be called twice."""
        if self._guard.is_inherited:
            return
        with self._lock:
            if not self._closed:
                self._closed = True
                self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
