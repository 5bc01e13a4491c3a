from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from starfish_server.storage.filesystem import FilesystemObjectStore
from starfish_server.testing import StoreContract


class TestFilesystemObjectStore(StoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[FilesystemObjectStore]:
        store = FilesystemObjectStore(tmp_path / "documents")
        yield store
        await store.close()
