"""The regular work on a store while it is served."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI

from starfish_protocol.testing import ManualClock
from starfish_server import (
    AuthResult,
    MemoryObjectStore,
    StoreContext,
    StoreUnavailableError,
    SyncConfig,
    SyncRouterOptions,
    create_sync_router,
    push,
)
from starfish_server.mounting import _upkeep
from starfish_server.storage.values import Value


async def _anybody(_request: Any) -> AuthResult:
    return AuthResult(identity=None)


@asynccontextmanager
async def served(store: Any, clock: ManualClock, **options: Any) -> AsyncIterator[None]:
    app = FastAPI()
    config = SyncConfig(collections=[])
    app.include_router(
        create_sync_router(SyncRouterOptions(store, config, _anybody, clock=clock, **options))
    )
    async with app.router.lifespan_context(app):
        yield


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not await condition():  # noqa: ASYNC110  a store has no event for it
            await asyncio.sleep(0.01)


async def changed_often(store: MemoryObjectStore, clock: ManualClock) -> None:
    base = None
    for n in range(1200):  # more than a step
        context = StoreContext("notes", {"id": "1"}, None, (), "push")
        done = await push(store, "notes/1", {"n": n}, base, context=context, clock=clock)
        base = done.hash  # type: ignore[union-attr]


async def test_expired_documents_and_old_changes_go_with_the_router(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_upkeep, "_EXPIRE_EVERY_S", 0.01)
    monkeypatch.setattr(_upkeep, "_COMPACT_EVERY_S", 0.01)
    clock = ManualClock()
    store = MemoryObjectStore(clock=clock)
    for n in range(1200):
        await store.write(f"x/{n}", Value(b"", expires_at=clock.now_ms() + 1))
    await changed_often(store, clock)
    clock.advance(1)

    async def is_swept() -> bool:
        assert store.changes is not None
        page = await store.changes.read(None, 10_000)
        return len(page.changes) == 1

    async with served(store, clock):
        await until(is_swept)
        assert await store.expire(clock.now_ms()) == 0
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("starfish")]


async def test_a_log_is_left_alone_where_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_upkeep, "_COMPACT_EVERY_S", 0.01)
    clock = ManualClock()
    store = MemoryObjectStore(clock=clock)
    await changed_often(store, clock)
    async with served(store, clock, tombstone_retention_ms=None):
        await asyncio.sleep(0.1)
    assert store.changes is not None
    assert len((await store.changes.read(None, 10_000)).changes) == 1200


async def test_a_store_that_does_not_answer_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_upkeep, "_EXPIRE_EVERY_S", 0.01)
    tries = 0

    class Away(MemoryObjectStore):
        async def expire(self, now: int, *, limit: int = 1000) -> int:
            nonlocal tries
            tries += 1
            raise StoreUnavailableError("x", "away")

    async def is_tried_again() -> bool:
        return tries > 2

    with caplog.at_level(logging.WARNING):
        async with served(Away(), ManualClock()):
            await until(is_tried_again)
    assert "expired documents were not removed" in caplog.text
