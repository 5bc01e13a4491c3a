"""A client of a router in the same process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
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
from starfish_server.auth import Presenter
from starfish_server.router.application import SyncFastAPI


async def by_header(request: Request) -> AuthResult:
    """Who ``X-User`` says, with the roles in ``X-Roles`` and the key in ``X-Key``."""
    roles = [role for role in request.headers.get("x-roles", "").split(",") if role]
    key = request.headers.get("x-key")
    presenter = None if key is None else Presenter(key)
    return AuthResult(request.headers.get("x-user"), roles, presenter=presenter)


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
        server_rate_limit: dict[str, Any] | None = None,
        **options: Any,
    ) -> Served:
        store = store or MemoryObjectStore(clock=options.get("clock"))
        config = SyncConfig(
            collections=[collection(**each) for each in collections],
            namespaces={
                name: NamespaceConfig(collections=[collection(**each) for each in members])
                for name, members in (namespaces or {}).items()
            },
            rate_limit=None if rate_limit is None else RateLimitConfig(**rate_limit),
            server_rate_limit=(
                None if server_rate_limit is None else RateLimitConfig(**server_rate_limit)
            ),
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


class Stream:
    """One ``GET /events`` in raw ASGI, which httpx's transport would wait for to the end."""

    def __init__(self, app: Any, query: str, headers: dict[str, str]) -> None:
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/events" if "/" not in query else query.partition("?")[0],
            "raw_path": b"/events",
            "root_path": "",
            "query_string": query.partition("?")[2].encode(),
            "headers": [(name.lower().encode(), text.encode()) for name, text in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        self.status = 0
        self.ended = False
        self.comments = 0
        self.last_id = ""
        self.kinds: list[str] = []
        self.seen: list[dict[str, Any]] = []
        self.raw = ""
        self._left = asyncio.Event()
        self._parts: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.may_send = asyncio.Event()
        self.may_send.set()
        self._begun = False
        self.task = asyncio.create_task(app(self.scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if not self._begun:
            self._begun = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        await self.may_send.wait()
        self._parts.put_nowait(message)

    async def part(self) -> list[dict[str, Any]]:
        """The events in the next part of the answer."""
        async with asyncio.timeout(10):
            message = await self._parts.get()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return []
        self.ended = not message.get("more_body", False)
        self.raw += message["body"].decode()
        lines = message["body"].decode().split("\n")
        self.comments += sum(line.startswith(":") for line in lines)
        self.kinds += [line[7:] for line in lines if line.startswith("event: ")]
        for line in lines:
            if line.startswith("id: "):
                self.last_id = line[4:]
        found = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
        self.seen += found
        return found

    async def events(self, count: int) -> list[dict[str, Any]]:
        """The next so many events; fewer when the stream ends."""
        found: list[dict[str, Any]] = []
        while len(found) < count and not self.ended:
            found += await self.part()
        return found

    async def started(self) -> None:
        """Return when it has told where it begins, or has ended."""
        while not (self.last_id or self.ended):
            await self.part()

    async def leave(self) -> None:
        self._left.set()
        await asyncio.wait_for(self.task, 10)


@asynccontextmanager
async def _stream(served: Any, query: str = "", **headers: str) -> AsyncIterator[Stream]:
    app = served.client._transport.app
    opened = Stream(app, query, headers)
    try:
        await opened.started()
        yield opened
    finally:
        await opened.leave()


@pytest.fixture
def stream() -> Callable[..., AbstractAsyncContextManager[Stream]]:
    """Open ``/events`` of a `Served` and leave it in the end."""
    return _stream
