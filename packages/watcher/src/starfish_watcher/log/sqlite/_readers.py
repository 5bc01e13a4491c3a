"""Connections for readers: one for each that reads at the same time, kept for the next."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from starfish_disk.sqlite_file import SqliteFile
from starfish_watcher.errors import StoreClosed
from starfish_watcher.log.sqlite._file import translated

__all__ = ("ReaderPool",)

MAX_IDLE: Final = 16
"""Connections kept open while nobody reads; each costs three file descriptors and a page cache."""


class ReaderPool:
    """Lends connections; safe to use from many threads."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self._location = str(file.path)
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False

    @contextmanager
    def connection(self) -> Generator[sqlite3.Connection]:
        """A connection for this caller alone; its transaction ends here, and errors are ours."""
        with self._lock:
            if self._closed:
                raise StoreClosed
            connection = self._idle.pop() if self._idle else None
        with translated(self._location):
            if connection is None:
                connection = self._open()
            try:
                yield connection
            finally:
                self._give_back(connection)

    def _open(self) -> sqlite3.Connection:
        connection = self._file.connect(create=False)
        connection.execute("PRAGMA query_only = ON")
        return connection

    def _give_back(self, connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
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
