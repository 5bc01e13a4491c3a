from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from starfish_server.storage.sqlite import SqliteObjectStore
from starfish_server.testing import StoreContract


class TestSqliteObjectStore(StoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[SqliteObjectStore]:
        store = SqliteObjectStore(tmp_path / "documents.sqlite")
        yield store
        await store.close()
