"""The embedded default: one SQLite file that several processes share.

Writes go through one thread, which commits all that wait in one transaction, so one fsync pays
for many. Reads of single documents have a thread and a connection of their own, and so do
listings and bytes, which take longer. Rule: a write is settled after its COMMIT has returned.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from typing_extensions import override

from starfish_server.errors import StoreError
from starfish_server.storage._batch_thread import BatchThread, Call
from starfish_server.storage._sqlite_changes import SqliteChangeLog, record_change
from starfish_server.storage._sqlite_file import SqliteFile
from starfish_server.storage.base import AbstractObjectStore, StoreContext
from starfish_server.storage.keys import check_key, check_prefix, prefix_upper_bound
from starfish_server.storage.values import (
    TEXT_CONTENT_TYPE,
    as_bytes,
    as_text,
    check_limit,
    check_text,
)

__all__ = ("SqliteObjectStore",)

T = TypeVar("T")

_MAX_INTEGER = 2**63 - 1
_RESERVED = 1000
"""Revisions that a process takes from the file at a time; those it does not use are skipped."""


class SqliteObjectStore(AbstractObjectStore):
    """Documents in one SQLite file; safe between tasks, threads and processes.

    A write that returned survives the end of the process and of the machine: WAL with
    ``synchronous=FULL``. Nothing is opened before the first call. After `close` the store may be
    used again, and opens the file anew; so it does in a forked child.

    Args:
        path: of the file; it and the folders above it are created when missing. Beside it appear
            ``<path>-wal`` and ``<path>-shm``. It must not be on a network file system.
        busy_timeout_ms: how long a call waits while another process writes, before it raises
            `StoreUnavailableError`.

    Examples:
        >>> import asyncio, tempfile
        >>> async def main(folder: str) -> list[str]:
        ...     store = SqliteObjectStore(f"{folder}/documents.sqlite")
        ...     await store.put("notes/ada", "{}")
        ...     keys = await store.list_keys("notes/")
        ...     await store.close()
        ...     return keys
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     asyncio.run(main(folder))
        ['notes/ada']
    """

    def __init__(self, path: str | os.PathLike[str], *, busy_timeout_ms: int = 10_000) -> None:
        self._path = Path(path)
        self._busy_timeout_ms = busy_timeout_ms
        self._threads: _Threads | None = None
        self._changes = SqliteChangeLog(self._scan)

    @property
    @override
    def changes(self) -> SqliteChangeLog:
        """One record a write that is a push; see `ChangeLog`."""
        return self._changes

    def _scan(self, operation: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        return self._opened().scans.submit(operation)

    def _opened(self) -> _Threads:
        threads = self._threads
        if threads is None or threads.pid != os.getpid():  # threads do not survive a fork
            threads = self._threads = _Threads(self._path, self._busy_timeout_ms)
        return threads

    @override
    async def get_string(self, key: str, *, context: StoreContext | None = None) -> str | None:
        check_key(key)
        found = await self._opened().points.submit(lambda connection: _text(connection, key))
        return None if found is None else found[0]

    @override
    async def get_with_etag(
        self, key: str, *, context: StoreContext | None = None
    ) -> tuple[str, str] | None:
        check_key(key)
        return await self._opened().points.submit(lambda connection: _text(connection, key))

    @override
    async def get_bytes(
        self, key: str, *, context: StoreContext | None = None
    ) -> tuple[bytes, str] | None:
        check_key(key)
        return await self._opened().scans.submit(lambda connection: _bytes(connection, key))

    @override
    async def list_keys(
        self,
        prefix: str,
        *,
        start_after: str | None = None,
        limit: int | None = None,
        context: StoreContext | None = None,
    ) -> list[str]:
        statement, values = _listing(prefix, start_after, check_limit(limit))
        return await self._opened().scans.submit(
            lambda connection: [key for (key,) in connection.execute(statement, values)]
        )

    @override
    async def put(
        self,
        key: str,
        body: str,
        *,
        content_type: str | None = None,
        cache_control: str | None = None,
        context: StoreContext | None = None,
    ) -> None:
        check_key(key)
        check_text(key, body)
        await self._write(lambda transaction: transaction.put(key, body, content_type, context))
        self._changes.committed(context)

    @override
    async def put_bytes(
        self,
        key: str,
        body: bytes,
        *,
        content_type: str,
        cache_control: str | None = None,
        context: StoreContext | None = None,
    ) -> None:
        check_key(key)
        await self._write(
            lambda transaction: transaction.put(key, bytes(body), content_type, context)
        )
        self._changes.committed(context)

    @override
    async def put_if_match(
        self,
        key: str,
        body: str,
        expected_etag: str | None,
        *,
        content_type: str | None = None,
        cache_control: str | None = None,
        context: StoreContext | None = None,
    ) -> str | None:
        check_key(key)
        check_text(key, body)
        etag = await self._write(
            lambda transaction: transaction.swap(key, body, expected_etag, content_type, context)
        )
        if etag is not None:
            self._changes.committed(context)
        return etag

    @override
    async def delete(self, key: str, *, context: StoreContext | None = None) -> None:
        await self.delete_many([key])

    @override
    async def delete_many(
        self, keys: Sequence[str], *, context: StoreContext | None = None
    ) -> None:
        array = json.dumps([check_key(key) for key in keys])
        await self._write(lambda transaction: transaction.delete(array))

    @override
    async def close(self) -> None:
        await self._changes.close()
        threads, self._threads = self._threads, None
        if threads is not None and threads.pid == os.getpid():
            await asyncio.gather(threads.points.stop(), threads.scans.stop())
            await threads.writes.stop()  # last, so that this one folds the log into the file

    def _write(self, operation: Callable[[_Transaction], T]) -> asyncio.Future[T]:
        return self._opened().writes.submit(operation)


class _Threads:
    """What is held between the first call and `close`."""

    def __init__(self, path: Path, busy_timeout_ms: int) -> None:
        name = path.name
        file = SqliteFile(path, busy_timeout_ms=busy_timeout_ms)
        self.pid = os.getpid()
        self.writes = BatchThread(f"{name} writes", _Writer(file))
        self.points = BatchThread(f"{name} reads", _Reader(file))
        self.scans = BatchThread(f"{name} listings", _Reader(file))


class _Connected:
    """A worker's connection, opened by the first batch and again after a failure to open."""

    def __init__(self, file: SqliteFile) -> None:
        self.file = file
        self._connection: sqlite3.Connection | None = None

    def connection(self) -> sqlite3.Connection:
        """The connection, to the file that is under the path now.

        Raises:
            StoreUnavailableError: it cannot be opened; or the file was removed or replaced, and
                what is written to the old one would be lost.
        """
        if self._connection is None:
            self._connection = self.file.open()
        else:
            self.file.check_in_place()
        return self._connection

    def finish(self) -> None:
        """Close the connection.

        Raises:
            StoreUnavailableError: SQLite could not; what was committed is in the file or its log.
        """
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error as error:
                raise self.file.unavailable(error) from error


class _Reader(_Connected):
    """Answers a batch of reads from one snapshot, taken after the last of them was asked."""

    def run(self, calls: Sequence[Call[sqlite3.Connection]]) -> None:
        connection = self.connection()
        try:
            connection.execute("BEGIN")
            try:
                for call in calls:
                    self._answer(connection, call)
            finally:
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise self.file.unavailable(error) from error

    def _answer(self, connection: sqlite3.Connection, call: Call[sqlite3.Connection]) -> None:
        try:
            call.result = call.operation(connection)
        except sqlite3.Error as error:
            call.error = self.file.unavailable(error)
        except StoreError as error:
            call.error = error


class _Writer(_Connected):
    """Commits a batch of writes together; each fails alone."""

    def __init__(self, file: SqliteFile) -> None:
        super().__init__(file)
        self._revisions = _Revisions()

    def run(self, calls: Sequence[Call[_Transaction]]) -> None:
        connection = self.connection()
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise self.file.unavailable(error) from error
        try:
            self._commit(connection, calls)
        except BaseException as error:
            self._roll_back(connection)
            if not isinstance(error, sqlite3.Error | MemoryError):
                raise
            if len(calls) == 1:
                calls[0].error = self._told(error)
                return
            # All of them are undone: by a full disk, say. One by one, the small may succeed.
            for call in calls:
                call.error = None
                self._run_alone(call)

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        self._revisions.forget()
        if connection.in_transaction:  # or SQLite has done it
            try:
                connection.execute("ROLLBACK")
            except sqlite3.Error:  # what is left of the transaction ends with its connection
                self.finish()

    def _run_alone(self, call: Call[_Transaction]) -> None:
        try:
            self.run([call])
        except Exception as error:  # noqa: BLE001  the calls after this one get their turn
            call.error = error

    def _commit(self, connection: sqlite3.Connection, calls: Sequence[Call[_Transaction]]) -> None:
        transaction = _Transaction(connection, self._revisions)
        for call in calls:
            try:
                call.result = call.operation(transaction)
            except (sqlite3.Error, MemoryError) as error:
                if transaction.is_torn or not connection.in_transaction:
                    raise
                call.error = self._told(error)  # its first statement: nothing of it is left
        connection.execute("COMMIT")

    def _told(self, error: sqlite3.Error | MemoryError) -> Exception:
        return error if isinstance(error, MemoryError) else self.file.unavailable(error)


class _Revisions:
    """Gives out revisions, none twice, whichever process asks.

    The file remembers up to where they are reserved, so that a commit seldom writes that as well.
    """

    def __init__(self) -> None:
        self._last = self._end = 0

    def forget(self) -> None:
        """Give up what is reserved; the transaction that reserved it may not have happened."""
        self._last = self._end = 0

    def take(self, connection: sqlite3.Connection) -> int:
        """A revision for a write in the current transaction."""
        if self._last == self._end:
            connection.execute(
                "UPDATE counter SET value = value + ? WHERE name = 'revision'", (_RESERVED,)
            )
            (self._end,) = connection.execute(
                "SELECT value FROM counter WHERE name = 'revision'"
            ).fetchone()
            self._last = self._end - _RESERVED
        self._last += 1
        return self._last


class _Transaction:
    """The writes that a transaction may hold; of each, the first statement is done or not."""

    def __init__(self, connection: sqlite3.Connection, revisions: _Revisions) -> None:
        self.connection = connection
        self.is_torn = False
        """Whether a write has got no further than its first statement."""
        self._revisions = revisions

    def put(
        self, key: str, value: str | bytes, content_type: str | None, context: StoreContext | None
    ) -> None:
        """Set a value, whatever was there."""
        self.connection.execute(
            "INSERT INTO document (key, revision, content_type, value) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (key) DO UPDATE SET revision = excluded.revision, "
            "content_type = excluded.content_type, value = excluded.value",
            (key, self._revisions.take(self.connection), content_type, value),
        )
        self._record(key, context)

    def swap(
        self,
        key: str,
        value: str,
        etag: str | None,
        content_type: str | None,
        context: StoreContext | None,
    ) -> str | None:
        """Set a value in the place of the version with this etag; the new etag."""
        revision = self._revisions.take(self.connection)
        if etag is None:
            done = self.connection.execute(
                "INSERT INTO document (key, revision, content_type, value) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (key) DO NOTHING",
                (key, revision, content_type, value),
            )
        else:
            done = self.connection.execute(
                "UPDATE document SET revision = ?, content_type = ?, value = ? "
                "WHERE key = ? AND CAST(revision AS TEXT) = ?",
                (revision, content_type, value, key, etag),
            )
        if not done.rowcount:
            return None
        self._record(key, context)
        return str(revision)

    def _record(self, key: str, context: StoreContext | None) -> None:
        if context is not None and context.version is not None:
            self.is_torn = True
            record_change(self.connection, key, context, context.version)
            self.is_torn = False

    def delete(self, array: str) -> None:
        """Remove the keys in a JSON array."""
        self.connection.execute(
            "DELETE FROM document WHERE key IN (SELECT value FROM json_each(?))", (array,)
        )


def _text(connection: sqlite3.Connection, key: str) -> tuple[str, str] | None:
    row = connection.execute(
        "SELECT value, revision FROM document WHERE key = ?", (key,)
    ).fetchone()
    return None if row is None else (as_text(key, row[0]), str(row[1]))


def _bytes(connection: sqlite3.Connection, key: str) -> tuple[bytes, str] | None:
    row = connection.execute(
        "SELECT value, content_type FROM document WHERE key = ?", (key,)
    ).fetchone()
    return None if row is None else (as_bytes(row[0]), row[1] or TEXT_CONTENT_TYPE)


def _listing(
    prefix: str, start_after: str | None, limit: int | None
) -> tuple[str, tuple[str | int, ...]]:
    # One lower bound: with two, SQLite would scan from the lesser one on every page.
    lower = "key >= ?", check_prefix(prefix)
    if start_after is not None and check_prefix(start_after) >= prefix:
        lower = "key > ?", start_after
    upper = prefix_upper_bound(prefix)
    conditions = [lower] if upper is None else [lower, ("key < ?", upper)]
    where = " AND ".join(condition for condition, _ in conditions)
    values = tuple(value for _, value in conditions)
    return (
        f"SELECT key FROM document WHERE {where} ORDER BY key LIMIT ?",  # noqa: S608  no input
        (*values, -1 if limit is None else min(limit, _MAX_INTEGER)),
    )
