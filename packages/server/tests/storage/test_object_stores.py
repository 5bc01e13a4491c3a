"""Every store of the package against the second contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from starfish_server.storage.memory import MemoryObjectStore
from starfish_server.storage.object_store import ObjectStore
from starfish_server.storage.sqlite import SqliteObjectStore
from starfish_server.testing import ChangeLogContract, ObjectStoreContract


class TestMemory(ObjectStoreContract, ChangeLogContract):
    @pytest.fixture
    def store(self) -> ObjectStore:
        return MemoryObjectStore()


class TestSqlite(ObjectStoreContract, ChangeLogContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[ObjectStore]:
        store = SqliteObjectStore(tmp_path / "documents.sqlite")
        yield store
        await store.close()
