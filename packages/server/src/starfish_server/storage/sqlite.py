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
from functools import partial
from pathlib import Path
from typing import TypeVar

from typing_extensions import override

from starfish_disk.batch_thread import BatchThread
from starfish_disk.errors import BusyError, DiskError
from starfish_disk.sqlite_batches import GroupCommit, SnapshotReads
from starfish_disk.sqlite_file import SqliteFile
from starfish_protocol.clock import Clock, SystemClock
from starfish_server.errors import StoreUnavailableError
from starfish_server.storage._checks import check_range, check_size
from starfish_server.storage._sqlite_changes import ChangeRecorder, SqliteChangeLog
from starfish_server.storage._sqlite_layouts import APPLICATION_ID, LAYOUTS
from starfish_server.storage._sqlite_values import (
    PART_BYTES,
    LargeValue,
    Transaction,
    Upload,
    entries,
    listing,
    read_many,
    read_part,
    read_small,
    stat,
)
from starfish_server.storage._steps import check_steps
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

_TICK_S = 5.0
"""How often the log is looked at, so that it stays bounded."""
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
        self._recorder = ChangeRecorder()
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
        recorder = self._recorder
        return self._opened().writes.submit(
            lambda connection: operation(Transaction(connection, recorder))
        )

    def _opened(self) -> _Threads:
        threads = self._threads
        if threads is None or threads.pid != os.getpid():  # threads do not survive a fork
            if threads is not None:
                self._recorder = ChangeRecorder()  # or two processes would have one stamp
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
    """The threads between the first call and `close`."""

    def __init__(self, path: Path, busy_timeout_ms: int) -> None:
        self.file = file = SqliteFile(
            path,
            application_id=APPLICATION_ID,
            layouts=LAYOUTS,
            busy_timeout_ms=busy_timeout_ms,
        )
        name = path.name
        self.pid = os.getpid()
        as_error = partial(_unavailable, busy_timeout_ms=busy_timeout_ms)
        self.writes = BatchThread(
            f"{name} writes", GroupCommit(file, as_error=as_error), tick_s=_TICK_S
        )
        self.points = BatchThread(f"{name} reads", SnapshotReads(file, as_error=as_error))
        self.scans = BatchThread(f"{name} listings", SnapshotReads(file, as_error=as_error))
        self.large = BatchThread(f"{name} large values", SnapshotReads(file, as_error=as_error))


def _unavailable(error: DiskError, *, busy_timeout_ms: int) -> StoreUnavailableError:
    """Make the error of this package."""
    reason = error.reason
    if isinstance(error, BusyError):
        reason += f"; another process has held its lock for {busy_timeout_ms / 1000:g} s"
    return StoreUnavailableError(str(error.path), reason)
