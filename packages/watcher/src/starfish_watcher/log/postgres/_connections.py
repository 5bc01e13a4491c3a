"""Connections to PostgreSQL: opened when needed, lent one to a caller, dropped when they are dead.

Rule 1: the driver's errors stop here. Rule 2: a lost connection fails the call that used it; the
next call opens another one. A connection whose server went away while it was idle is noticed
before it is lent.
"""

from __future__ import annotations

import os
import selectors
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from starfish_watcher._limits import BUSY_TIMEOUT_S
from starfish_watcher.errors import (
    StoreClosed,
    StoreDamagedError,
    StoreFullError,
    StoreUnavailableError,
    WatcherError,
)

__all__ = ("Connection", "PostgresConnections", "translated")

Connection = psycopg.Connection[tuple[Any, ...]]
CONNECT_TIMEOUT_S: Final = 10
"""How long opening a connection may take, where the connection string does not say."""
MAX_IDLE: Final = 8
"""Connections kept open while nobody reads: each is a process of the server."""
MAX_LENT: Final = 64
"""Readers at the same time; the next one waits for one of them."""
_DAMAGED: Final = (
    errors.UndefinedTable,
    errors.UndefinedColumn,
    errors.InvalidSchemaName,
    errors.DataCorrupted,
    errors.IndexCorrupted,
)


@contextmanager
def translated(location: str) -> Generator[None]:
    """Turn the driver's errors into this package's."""
    try:
        yield
    except psycopg.Error as error:
        raise _translation(location, error) from error


def _translation(location: str, error: psycopg.Error) -> WatcherError:
    # The primary message holds no row and no payload, the details may.
    reason = error.diag.message_primary or (str(error).strip() or type(error).__name__)
    if isinstance(error, errors.DiskFull):
        return StoreFullError(location, reason)
    if isinstance(error, _DAMAGED):
        return StoreDamagedError(location, reason)
    return StoreUnavailableError(location, reason.splitlines()[0])


class PostgresConnections:
    """Opens connections and lends them; safe to use from many threads."""

    def __init__(self, dsn: str, schema: str) -> None:
        """Look at ``dsn``; nothing is connected yet.

        Raises:
            ValueError: it is not a connection string.
        """
        try:
            parameters = conninfo_to_dict(dsn)
        except psycopg.ProgrammingError:
            # Without the cause, which may quote a password.
            msg = "dsn is not a legal connection string: 'postgresql://…' or 'host=… dbname=…'"
            raise ValueError(msg) from None
        parameters.setdefault("connect_timeout", CONNECT_TIMEOUT_S)
        parameters.setdefault("application_name", "starfish-watcher")
        self._parameters: dict[str, Any] = {**parameters, "client_encoding": "utf8"}
        host, port, name = (parameters.get(key) for key in ("host", "port", "dbname"))
        address = f"{host or 'localhost'}:{port or 5432}"
        self.location = f"postgresql://{address}/{name or parameters.get('user') or ''}#{schema}"
        """Where the events are, without user and password."""
        self._schema = schema
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._free = threading.BoundedSemaphore(MAX_LENT)
        self._idle: list[Connection] = []
        self._closed = False

    def sql(self, text: str) -> bytes:
        """``text`` with the schema for ``{s}``; the name was checked, and is quoted all the same."""
        return text.replace("{s}", f'"{self._schema}"').encode()

    def open(self) -> Connection:
        """A new connection in autocommit mode, for the caller to keep.

        Raises:
            StoreUnavailableError: the server does not answer or does not let us in.
        """
        with translated(self.location):
            connection: Connection = psycopg.connect(**self._parameters, autocommit=True)
            connection.execute(f"SET lock_timeout = '{BUSY_TIMEOUT_S:.0f}s'".encode())
            return connection

    @contextmanager
    def connection(self) -> Generator[Connection]:
        """A connection for this caller alone; its transaction ends here, and errors are ours.

        Raises:
            StoreClosed: `close` was called.
            StoreUnavailableError: the server does not answer.
        """
        if os.getpid() != self._pid:
            msg = f"it was opened in process {self._pid}; open it again after a fork"
            raise StoreClosed(msg)
        if not self._free.acquire(timeout=BUSY_TIMEOUT_S):
            reason = f"{MAX_LENT} connections were in use for {BUSY_TIMEOUT_S:g} s"
            raise StoreUnavailableError(self.location, reason)
        try:
            connection = self._take() or self.open()
            with translated(self.location):
                try:
                    yield connection
                finally:
                    self._give_back(connection)
        finally:
            self._free.release()

    def _take(self) -> Connection | None:
        while True:
            with self._lock:
                if self._closed:
                    raise StoreClosed
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if is_alive(connection):
                return connection
            connection.close()

    def _give_back(self, connection: Connection) -> None:
        status = connection.info.transaction_status
        if status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            try:
                connection.execute("ROLLBACK")
            except psycopg.Error:
                connection.close()
            status = connection.info.transaction_status
        if status == TransactionStatus.IDLE and not connection.closed:
            with self._lock:
                if not self._closed and len(self._idle) < MAX_IDLE:
                    self._idle.append(connection)
                    return
        connection.close()

    def close(self) -> None:
        """Close all that is idle now, and all that is lent when it comes back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


def is_alive(connection: Connection) -> bool:
    """Whether an idle connection still leads to a server; asks the socket, not the server."""
    if connection.closed:
        return False
    with selectors.DefaultSelector() as waiting:
        waiting.register(connection.fileno(), selectors.EVENT_READ)
        if not waiting.select(0):
            return True
        # Nobody speaks on an idle connection but a server that says farewell.
        try:
            connection.pgconn.consume_input()
        except psycopg.Error:
            return False
        return not waiting.select(0)
