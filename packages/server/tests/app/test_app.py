"""An application made of a configuration, a store and plugins."""

import importlib.metadata
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.requests import Request

from starfish_protocol.plugins import ServerPlugin
from starfish_server.app import create_app
from starfish_server.auth import AuthResult
from starfish_server.config.schema import SyncConfig
from starfish_server.errors import ConfigError
from starfish_server.storage.memory import MemoryObjectStore

CONFIG = SyncConfig.model_validate({
    "collections": [
        {"name": "wall", "storagePath": "wall/{n}", "readRoles": ["public"],
         "writeRoles": ["public"]},
        {"name": "notes", "storagePath": "notes/{identity}", "readRoles": ["self"],
         "writeRoles": ["self"]},
    ]
})  # fmt: skip


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncGenerator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield client


async def test_a_document_is_pushed_and_pulled_by_an_anonymous_caller() -> None:
    async with serving(create_app(CONFIG, store=MemoryObjectStore())) as client:
        pushed = await client.post("/push/wall/1", json={"data": {"a": 1}, "baseHash": None})
        pulled = await client.get("/pull/wall/1")

        assert pushed.status_code == 200
        assert pulled.json()["data"] == {"a": 1}
        assert (await client.get("/pull/notes/ada")).status_code == 401


async def test_a_role_resolver_says_who_calls() -> None:
    async def resolve(request: Request) -> AuthResult:
        return AuthResult(identity=request.headers.get("x-test-identity"))

    app = create_app(CONFIG, store=MemoryObjectStore(), role_resolver=resolve)
    async with serving(app) as client:
        answers = [
            await client.get("/pull/notes/ada", headers={"x-test-identity": who})
            for who in ("ada", "bob")
        ]

        assert [answer.status_code for answer in answers] == [200, 403]


async def test_each_plugin_starts_and_stops_once_and_sees_what_is_written() -> None:
    events: list[Any] = []
    plugin = ServerPlugin(
        "audit",
        startup=lambda: events.append("up"),
        shutdown=lambda: events.append("down"),
        after_write=lambda event: events.append(event.collection),
    )
    app = create_app(CONFIG, store=MemoryObjectStore(), plugins=[plugin])

    async with serving(app) as client:
        await client.post("/push/wall/1", json={"data": {}, "baseHash": None})

    assert events == ["up", "wall", "down"]


def test_a_configuration_that_cannot_be_served_makes_no_application() -> None:
    twice = [CONFIG.collections[0], CONFIG.collections[0]]

    with pytest.raises(ConfigError) as caught:
        create_app(SyncConfig(collections=twice), store=MemoryObjectStore())
    assert len(caught.value.problems) == 2


async def test_the_openapi_document_names_the_application_and_can_be_hidden() -> None:
    async with serving(create_app(CONFIG, store=MemoryObjectStore(), title="Notes")) as client:
        info = (await client.get("/openapi.json")).json()["info"]
    hidden = create_app(CONFIG, store=MemoryObjectStore(), openapi_url=None)
    async with serving(hidden) as client:
        status = (await client.get("/openapi.json")).status_code

    assert info == {"title": "Notes", "version": importlib.metadata.version("starfish-server")}
    assert status == 404
