"""What a type checker sees of the public surface; read by mypy, never run."""

from __future__ import annotations

from typing import Any, assert_type

from fastapi import APIRouter
from starlette.requests import Request

from starfish_server import (
    AuthResult,
    CollectionConfig,
    MemoryObjectStore,
    PullResult,
    PushConflict,
    PushSuccess,
    SyncConfig,
    SyncRouterOptions,
    create_sync_router,
    pull,
    push,
)
from starfish_server.protocol.append_only import AppendLog, AppendPage, PullBounds
from starfish_server.router.application import SyncFastAPI


async def resolver(_request: Request) -> AuthResult:
    return AuthResult(identity=None)


def routers() -> None:
    notes = CollectionConfig(name="notes", storage_path="notes/{note}")
    options = SyncRouterOptions(MemoryObjectStore(), SyncConfig(collections=[notes]), resolver)
    assert_type(create_sync_router(options), APIRouter)
    SyncFastAPI(title="Notes").include_router(create_sync_router(options), prefix="/v1")


async def documents(store: MemoryObjectStore) -> None:
    pulled = await pull(store, "notes/1")
    assert_type(pulled, PullResult)
    assert_type(pulled.data, dict[str, Any])
    pushed = await push(store, "notes/1", {"title": "hi"}, None)
    assert_type(pushed, PushSuccess | PushConflict)
    if isinstance(pushed, PushConflict):
        assert_type(pushed.current_hash, str)
    else:
        assert_type(pushed.hash, str)


async def appends(log: AppendLog) -> None:
    assert_type(await log.append("log/hall", {"n": 1}), PushSuccess)
    assert_type(await log.read("log/hall", PullBounds(last=3)), AppendPage)
