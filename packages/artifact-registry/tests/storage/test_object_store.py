"""Content in object stores: the contract on three of them, and what can go wrong in each request."""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path

import pytest

obstore = pytest.importorskip("obstore", reason="the extra s3 is not installed")

from obstore.store import LocalStore, MemoryStore, S3Store  # noqa: E402  after the skip

from servers.s3 import S3Server  # noqa: E402
from starfish_artifact_registry.storage.object_store import ObjectStoreBackend  # noqa: E402
from starfish_artifact_registry.testing import BackendContract  # noqa: E402


class TestMemoryStore(BackendContract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> ObjectStoreBackend:
        return ObjectStoreBackend(MemoryStore(), "memory", spool_folder=tmp_path)


class TestLocalStore(BackendContract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> ObjectStoreBackend:
        return ObjectStoreBackend(LocalStore(tmp_path / "store", mkdir=True), "folder")


class TestS3Store(BackendContract):
    time_step = timedelta(seconds=1.1)
    rounds = 2

    @pytest.fixture
    def backend(self, s3_server: S3Server) -> ObjectStoreBackend:
        store = S3Store(
            prefix=uuid.uuid4().hex, **s3_server.store_options, client_options={"allow_http": True}
        )
        return ObjectStoreBackend(store, "s3")
