"""The stores keep the contracts of the foundation that they stand on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from starfish_disk.testing import ForkContract, FullDiskContract, OpenStore, SqliteFileContract
from starfish_server.errors import StoreError
from starfish_server.storage.base import AbstractObjectStore
from starfish_server.storage.filesystem import FilesystemObjectStore
from starfish_server.storage.sqlite import SqliteObjectStore


class Documents:
    """A store as a set of names."""

    def __init__(self, make: Callable[[Path], AbstractObjectStore], path: Path) -> None:
        self._store = make(path)

    async def write(self, name: str) -> None:
        await self._store.put(name, name)

    async def names(self) -> list[str]:
        return await self._store.list_keys("")

    async def close(self) -> None:
        await self._store.close()


class TestSqlite(SqliteFileContract, ForkContract, FullDiskContract):
    error = StoreError
    is_async = True

    @pytest.fixture
    def open_store(self) -> OpenStore:
        return partial(Documents, SqliteObjectStore)


class TestFilesystem(ForkContract, FullDiskContract):
    error = StoreError
    is_async = True

    @pytest.fixture
    def open_store(self) -> OpenStore:
        return partial(Documents, FilesystemObjectStore)
