"""The embedded default: one SQLite file that several processes share.

Writes go through one thread, which commits all that wait in one transaction, so one fsync pays
for many. Reads of single documents have a thread and a connection of their own, and so have
listings and large values, which take longer. Rule: a write is settled after its COMMIT has
returned.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from typing_extensions import override

from starfish_protocol.clock import Clock, SystemClock
from starfish_server.errors import StoreError
from starfish_server.storage._batch_thread import BatchThread, Call
from starfish_server.storage._sqlite_changes import ChangeRecorder, SqliteChangeLog
from starfish_server.storage._sqlite_file import SqliteFile
from starfish_server.storage._sqlite_values import (
    PART_BYTES,
    LargeValue,
    Revisions,
    Transaction,
    Upload,
    entries,
    listing,
    read_many,
    read_part,
    read_small,
    stat,
)
from starfish_server.storage.base import StoreContext
from starfish_server.storage.changes import ChangeRecord
from starfish_server.storage.errors import ValueTooLargeError
from starfish_server.storage.keys import check_key
from starfish_server.storage.object_store import (
    Delete,
    Entry,
    ObjectStore,
    Step,
    Write,
    check_range,
    check_size,
    check_steps,
)
from starfish_server.storage.values import (
    ANY,
    Metadata,
    Position,
    Precondition,
    Removed,
    Stored,
    Value,
    Written,
    check_limit,
    new_write_id,
)

__all__ = ("SqliteObjectStore",)

T = TypeVar("T")

_PARTS_AT_ONCE = 4
"""Parts of a streamed body that are committed together."""


class SqliteObjectStore(ObjectStore):
    """Documents in one SQLite file; safe between tasks, threads and processes.

    A write that returned survives the end of the process and of the machine: WAL with
    ``synchronous=FULL``. Nothing is opened before the first call. After `close` the store may be
    used again, and opens the file anew. A forked child also opens the file again.

    Args:
        path: of the file; it and the folders above it are created when missing. Beside it appear
            ``<path>-wal`` and ``<path>-shm``. It must not be on a network file system.
        busy_timeout_ms: how long a call waits while another process writes, before it raises
            `StoreUnavailableError`.
        clock: tells the time of a write, and whether a value has expired.

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

    can_apply = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        busy_timeout_ms: int = 10_000,
        clock: Clock | None = None,
    ) -> None:
        self._path = Path(path)
        self._busy_timeout_ms = busy_timeout_ms
        self._clock = clock or SystemClock()
        self._threads: _Threads | None = None
        self._changes = SqliteChangeLog(
            self._scan, lambda operation: self._write(lambda t: operation(t.connection))
        )

    @property
    @override
    def changes(self) -> SqliteChangeLog:
        return self._changes

    def _scan(self, operation: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        return self._opened().scans.submit(operation)

    def _point(self, operation: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        return self._opened().points.submit(operation)

    def _large(self, operation: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        return self._opened().large.submit(operation)

    def _write(self, operation: Callable[[Transaction], T]) -> asyncio.Future[T]:
        return self._opened().writes.submit(operation)

    def _opened(self) -> _Threads:
        threads = self._threads
        if threads is None or threads.pid != os.getpid():  # threads do not survive a fork
            threads = self._threads = _Threads(self._path, self._busy_timeout_ms)
        return threads

    @override
    async def get(self, key: str, *, context: StoreContext | None = None) -> Stored | None:
        check_key(key)
        now = self._clock.now_ms()
        found = await self._point(lambda connection: read_small(connection, key, now))
        if isinstance(found, LargeValue):
            return await self._large(lambda connection: read_part(connection, key, 0, None, now))
        return found

    @override
    async def get_many(
        self, keys: Sequence[str], *, context: StoreContext | None = None
    ) -> dict[str, Stored]:
        array = json.dumps([check_key(key) for key in keys])
        now = self._clock.now_ms()
        found = await self._point(lambda connection: read_many(connection, array, now))
        answer: dict[str, Stored] = {}
        for key, value in found.items():
            read = await self.get(key) if isinstance(value, LargeValue) else value
            if read is not None:
                answer[key] = read
        return answer

    @override
    async def stat(self, key: str, *, context: StoreContext | None = None) -> Metadata | None:
        check_key(key)
        now = self._clock.now_ms()
        return await self._point(lambda connection: stat(connection, key, now))

    @override
    async def read_range(
        self, key: str, first: int, last: int | None, *, context: StoreContext | None = None
    ) -> Stored | None:
        check_key(key)
        check_range(first, last)
        now = self._clock.now_ms()
        return await self._large(lambda connection: read_part(connection, key, first, last, now))

    @override
    async def scan(
        self,
        prefix: str,
        *,
        after: str | None = None,
        limit: int | None = None,
        context: StoreContext | None = None,
    ) -> Sequence[Entry]:
        page = listing(prefix, after, check_limit(limit), self._clock.now_ms())
        return await self._scan(lambda connection: entries(connection, *page))

    @override
    async def write(
        self,
        key: str,
        value: Value,
        *,
        when: Precondition = ANY,
        change: ChangeRecord | None = None,
        context: StoreContext | None = None,
    ) -> Written:
        check_key(key)
        check_size(key, len(value.body), self.limits)
        body = bytes(value.body)
        if body is not value.body:  # a caller may change it meanwhile
            value = replace(value, body=body)
        now = self._clock.now_ms()
        written = await self._write(lambda t: t.write(Write(key, value, when, change), now))
        self._wake(written.position)
        return written

    @override
    async def write_stream(
        self,
        key: str,
        chunks: AsyncIterator[bytes],
        value: Value,
        *,
        when: Precondition = ANY,
        change: Callable[[str, int], ChangeRecord] | None = None,
        context: StoreContext | None = None,
    ) -> tuple[Written, Metadata]:
        check_key(key)
        upload = new_write_id()
        try:
            size, digest = await self._receive(key, chunks, upload)
            whole = replace(value, body=b"", hash=value.hash or digest)
            record = None if change is None else change(whole.hash or digest, size)
            now = self._clock.now_ms()

            def finish(transaction: Transaction) -> tuple[Written, Metadata | None]:
                step = Write(key, whole, when, record)
                written = transaction.write(step, now, upload=Upload(upload, size))
                return written, stat(transaction.connection, key, 0)

            written, metadata = await self._write(finish)
        except BaseException:
            await asyncio.shield(self._write(lambda t: t.drop_abandoned(upload)))
            raise
        assert metadata is not None  # noqa: S101  it was written in the same transaction
        self._wake(written.position)
        return written, metadata

    async def _receive(
        self, key: str, chunks: AsyncIterator[bytes], upload: int
    ) -> tuple[int, str]:
        digest = hashlib.sha256()
        pending = bytearray()
        size = number = 0
        now = self._clock.now_ms()

        async def keep(length: int) -> None:
            nonlocal number
            parts = [
                bytes(pending[start : min(start + PART_BYTES, length)])
                for start in range(0, length, PART_BYTES)
            ]
            del pending[:length]
            first, number = number, number + len(parts)
            await self._write(lambda t: t.add_parts(upload, first, parts, now))

        async for chunk in chunks:
            size += len(chunk)
            if size > self.limits.value_bytes:
                raise ValueTooLargeError(key, size, self.limits.value_bytes)
            digest.update(chunk)
            pending += chunk
            while len(pending) >= _PARTS_AT_ONCE * PART_BYTES:
                await keep(_PARTS_AT_ONCE * PART_BYTES)
        await keep(len(pending))
        return size, digest.hexdigest()

    @override
    async def remove(
        self,
        key: str,
        *,
        when: Precondition = ANY,
        change: ChangeRecord | None = None,
        context: StoreContext | None = None,
    ) -> Removed:
        check_key(key)
        now = self._clock.now_ms()
        removed = await self._write(lambda t: t.remove(Delete(key, when, change), now))
        self._wake(removed.position)
        return removed

    @override
    async def apply(
        self, steps: Sequence[Step], *, context: StoreContext | None = None
    ) -> Sequence[Written | Removed]:
        check_steps(steps, self.limits)
        now = self._clock.now_ms()
        chosen = tuple(steps)
        done = await self._write(lambda t: t.apply(chosen, now))
        for each in done:
            self._wake(each.position)
        return done

    def _wake(self, position: Position | None) -> None:
        if position is not None:
            self._changes.wake()

    @override
    async def ping(self) -> None:
        await self._point(lambda connection: connection.execute("SELECT 1 FROM log").fetchone())

    @override
    async def expire(self, now: int, *, limit: int = 1000) -> int:
        count = await self._write(lambda t: t.expire(now, limit))
        if count:
            self._changes.wake()
        return count

    @override
    async def close(self) -> None:
        await self._changes.close()
        threads, self._threads = self._threads, None
        if threads is not None and threads.pid == os.getpid():
            await asyncio.gather(threads.points.stop(), threads.scans.stop(), threads.large.stop())
            await threads.writes.stop()  # last, so that this one folds the log into the file


class _Threads:
    """What is held between the first call and `close`."""

    def __init__(self, path: Path, busy_timeout_ms: int) -> None:
        name = path.name
        file = SqliteFile(path, busy_timeout_ms=busy_timeout_ms)
        self.pid = os.getpid()
        self.writes = BatchThread(f"{name} writes", _Writer(file))
        self.points = BatchThread(f"{name} reads", _Reader(file))
        self.scans = BatchThread(f"{name} listings", _Reader(file))
        self.large = BatchThread(f"{name} large values", _Reader(file))


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
        self._revisions = Revisions()
        self._recorder = ChangeRecorder()

    def run(self, calls: Sequence[Call[Transaction]]) -> None:
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
        self._recorder.forget()
        if connection.in_transaction:  # or SQLite has done it
            try:
                connection.execute("ROLLBACK")
            except sqlite3.Error:  # what is left of the transaction ends with its connection
                self.finish()

    def _run_alone(self, call: Call[Transaction]) -> None:
        try:
            self.run([call])
        except Exception as error:  # noqa: BLE001  the calls after this one get their turn
            call.error = error

    def _commit(self, connection: sqlite3.Connection, calls: Sequence[Call[Transaction]]) -> None:
        self._recorder.begin()
        transaction = Transaction(connection, self._revisions, self._recorder)
        for call in calls:
            try:
                call.result = call.operation(transaction)
            except (sqlite3.Error, MemoryError) as error:
                if transaction.is_torn or not connection.in_transaction:
                    raise
                call.error = self._told(error)  # its first statement: nothing of it is left
            except StoreError as error:  # it was refused before it changed anything
                call.error = error
        connection.execute("COMMIT")

    def _told(self, error: sqlite3.Error | MemoryError) -> Exception:
        return error if isinstance(error, MemoryError) else self.file.unavailable(error)
