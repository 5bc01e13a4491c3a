"""A client of a router in the same process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from starfish_server import (
    AbstractObjectStore,
    AuthResult,
    CollectionConfig,
    MemoryObjectStore,
    NamespaceConfig,
    RateLimitConfig,
    SyncConfig,
    SyncRouterOptions,
    create_sync_router,
)
from starfish_server.auth.result import Presenter
from starfish_server.router.application import SyncFastAPI


async def by_header(request: Request) -> AuthResult:
    """Who ``X-User`` says, with the roles in ``X-Roles`` and the key in ``X-Key``."""
    roles = [role for role in request.headers.get("x-roles", "").split(",") if role]
    key = request.headers.get("x-key")
    presenter = None if key is None else Presenter(key)
    return AuthResult(request.headers.get("x-user"), roles, presenter)


class Served:
    """A client and the server behind it."""

    def __init__(self, client: httpx.AsyncClient, store: AbstractObjectStore) -> None:
        self.client = client
        self.store = store

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.client.get(path, headers=_header_names(headers))

    async def push(
        self, path: str, data: object, base: str | None = None, **headers: str
    ) -> httpx.Response:
        body = {"data": data, "baseHash": base}
        return await self.client.post(f"/push/{path}", json=body, headers=_header_names(headers))

    async def post(self, path: str, body: object, **headers: str) -> httpx.Response:
        return await self.client.post(path, json=body, headers=_header_names(headers))


def _header_names(headers: dict[str, str]) -> dict[str, str]:
    return {f"x-{name}": value for name, value in headers.items()}


Serve = Callable[..., Served]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Make a client of collections; a collection is public and kept in memory unless it says otherwise."""
    clients: list[httpx.AsyncClient] = []

    def make(
        *collections: dict[str, Any],
        store: AbstractObjectStore | None = None,
        namespaces: dict[str, Any] | None = None,
        rate_limit: dict[str, Any] | None = None,
        **options: Any,
    ) -> Served:
        store = store or MemoryObjectStore()
        config = SyncConfig(
            collections=[collection(**each) for each in collections],
            namespaces={
                name: NamespaceConfig(collections=[collection(**each) for each in members])
                for name, members in (namespaces or {}).items()
            },
            rate_limit=None if rate_limit is None else RateLimitConfig(**rate_limit),
        )
        options.setdefault("role_resolver", by_header)
        app = SyncFastAPI()
        app.include_router(create_sync_router(SyncRouterOptions(store, config, **options)))
        transport = httpx.ASGITransport(app)
        client = httpx.AsyncClient(transport=transport, base_url="http://test.invalid")
        clients.append(client)
        return Served(client, store)

    yield make
    for client in clients:
        await client.aclose()


def collection(**fields: Any) -> CollectionConfig:
    defaults = {
        "name": "notes",
        "storagePath": "notes/{identity}",
        "readRoles": ["public"],
        "writeRoles": ["public"],
    }
    return CollectionConfig.model_validate(defaults | fields)
