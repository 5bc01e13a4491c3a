"""The contracts of starfish-disk, which no storage here may lack a lesson of."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from starfish_disk.testing import (
    ForkContract,
    FullDiskContract,
    OpenStore,
    ReplacedFileContract,
    SqliteFileContract,
)
from starfish_outbox import FileCache, OutboxError, OutboxQueue, SqliteOutbox


class SqliteStore:
    """Entries of one queue of a `SqliteOutbox`, by name."""

    def __init__(self, outbox: SqliteOutbox, queue: OutboxQueue) -> None:
        self._outbox = outbox
        self._queue = queue

    async def write(self, name: str) -> None:
        await self._queue.enqueue(name, {"of": name})

    async def names(self) -> list[str]:
        return [entry.id for entry in self._queue.get()]

    async def close(self) -> None:
        await self._outbox.close()


async def open_sqlite(path: Path) -> SqliteStore:
    outbox = SqliteOutbox(path)
    try:
        queue = OutboxQueue(outbox)
        await queue.hydrate("k")
    except BaseException:
        await outbox.close()
        raise
    return SqliteStore(outbox, queue)


class CacheStore:
    """Entries of a queue in a `FileCache`."""

    def __init__(self, queue: OutboxQueue) -> None:
        self._queue = queue

    async def write(self, name: str) -> None:
        await self._queue.enqueue(name, {"of": name})

    async def names(self) -> list[str]:
        return [entry.id for entry in self._queue.get()]

    async def close(self) -> None:
        self._queue.clear()


async def open_cache(path: Path) -> CacheStore:
    queue = OutboxQueue(FileCache(path))
    await queue.hydrate("k")
    return CacheStore(queue)


class _OfSqlite:
    error: ClassVar[type[Exception]] = OutboxError
    is_async: ClassVar[bool] = True

    @pytest.fixture
    def open_store(self) -> OpenStore:
        return open_sqlite


class _OfCache:
    error: ClassVar[type[Exception]] = OutboxError
    is_async: ClassVar[bool] = True

    @pytest.fixture
    def open_store(self) -> OpenStore:
        return open_cache


class TestSqliteFile(_OfSqlite, SqliteFileContract):
    pass


class TestSqliteFork(_OfSqlite, ForkContract):
    pass


class TestSqliteFullDisk(_OfSqlite, FullDiskContract):
    pass


class TestCacheFile(_OfCache, ReplacedFileContract):
    pass


class TestCacheFork(_OfCache, ForkContract):
    pass


class TestCacheFullDisk(_OfCache, FullDiskContract):
    pass
