"""The types of the bytes' side as a user sees them; read by the type checker, never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime
from pathlib import Path
from typing import assert_type

from obstore.store import S3Store

from starfish_artifact_registry.dataplane import InProcessDataPlane
from starfish_artifact_registry.storage import (
    ContentBackend,
    ContentInfo,
    CopyReport,
    LocalBackend,
    StoredContent,
    copy_content,
)
from starfish_artifact_registry.storage.object_store import ObjectStoreBackend
from starfish_protocol.address import ContentAddress


async def stream() -> AsyncGenerator[bytes]:
    yield b"abc"


async def every_backend(backend: ContentBackend, address: ContentAddress, time: datetime) -> None:
    assert_type(backend.backend_id, str)
    assert_type(await backend.put(stream()), StoredContent)
    assert_type(backend.read(address, start=1, end=2), AsyncGenerator[bytes, None])
    assert_type(await backend.size(address), int | None)
    assert_type(await backend.touch(address), bool)
    assert_type(await backend.delete(address, unmodified_since=time), bool)
    assert_type([entry async for entry in backend.list()], list[ContentInfo])
    assert_type(await backend.sweep(), int)


async def use() -> None:
    local: ContentBackend = LocalBackend(Path("content"), backend_id="vault")
    remote: ContentBackend = ObjectStoreBackend(
        S3Store(bucket="evidence"), "bucket", spool_folder=Path("spool")
    )
    assert_type(await copy_content(local, remote), CopyReport)
    dataplane = InProcessDataPlane(local)
    stored = assert_type(await dataplane.put(stream()), StoredContent)
    assert_type(dataplane.read(stored.address, 0, 5), AsyncGenerator[bytes, None])
    assert_type(await dataplane.rehash(stored.address), ContentAddress | None)
