"""However an application includes the router, the same routes answer, and what it adds holds."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from starfish_protocol.plugins import ServerPlugin
from starfish_server import (
    AuthResult,
    CollectionConfig,
    MemoryObjectStore,
    NamespaceConfig,
    SyncConfig,
    SyncRouterOptions,
    create_sync_router,
)
from starfish_server.router.application import SyncFastAPI

NOTES = CollectionConfig(
    name="notes", storage_path="notes/{note}", read_roles=["public"], write_roles=["public"]
)


async def anybody(request: Request) -> AuthResult:
    request.app.state.paths.append(
        (request.path_params, getattr(request.scope.get("route"), "path", None))
    )
    return AuthResult(identity=None)


def router(**options: Any) -> APIRouter:
    config = SyncConfig(
        collections=[NOTES], namespaces={"acme": NamespaceConfig(collections=[NOTES])}
    )
    return create_sync_router(SyncRouterOptions(MemoryObjectStore(), config, anybody, **options))


def refuse() -> None:
    raise HTTPException(418)


def plain() -> tuple[FastAPI, str]:
    app = FastAPI()
    app.include_router(router())
    return app, ""


def direct() -> tuple[FastAPI, str]:
    app = SyncFastAPI()
    app.include_router(router(), prefix="/v1")
    return app, "/v1"


def prefixed() -> tuple[FastAPI, str]:
    app = FastAPI()
    app.include_router(router(), prefix="/v1")
    return app, "/v1"


def nested() -> tuple[FastAPI, str]:
    outer = APIRouter(prefix="/api")
    outer.include_router(router(), prefix="/v1", tags=["sync"])
    app = FastAPI()
    app.include_router(outer, prefix="/x")
    return app, "/x/api/v1"


def mounted() -> tuple[FastAPI, str]:
    inner, _ = plain()
    app = FastAPI()
    app.mount("/sub", inner)
    inner.state.paths = app.state.paths = []
    return app, "/sub"


def behind_a_dependency() -> tuple[FastAPI, str]:
    app = SyncFastAPI()
    app.include_router(router(), dependencies=[Depends(lambda: None)])
    return app, ""


def client_of(app: FastAPI) -> httpx.AsyncClient:
    if not hasattr(app.state, "paths"):
        app.state.paths = []
    transport = httpx.ASGITransport(app)
    return httpx.AsyncClient(transport=transport, base_url="http://test.invalid")


WAYS = [plain, direct, prefixed, nested, mounted, behind_a_dependency]


@pytest.mark.parametrize("way", WAYS)
async def test_the_routes_answer(way: Any) -> None:
    app, prefix = way()
    async with client_of(app) as client:
        pushed = await client.post(f"{prefix}/push/notes/a", json={"data": {"n": 1}})
        pulled = await client.get(f"{prefix}/pull/notes/a")
        other = await client.get(f"{prefix}/acme/pull/notes/a")
        refused = await client.delete(f"{prefix}/pull/notes/a")
        unsafe = await client.get(f"{prefix}/pull/notes/a%0A")
        missing = await client.get(f"{prefix}/somewhere")

    assert pulled.json()["hash"] == pushed.json()["hash"] != ""
    assert other.json()["hash"] == ""
    assert (refused.status_code, missing.status_code) == (405, 404)
    # Starlette's own mounts overlook a path with a line break; nothing is read then either.
    assert unsafe.status_code == (404 if way is mounted else 400)
    assert {"note": "a"} in [params for params, _ in app.state.paths]


@pytest.mark.parametrize("way", WAYS)
async def test_the_description_has_every_path(way: Any) -> None:
    app, prefix = way()
    if way is mounted:
        prefix = ""
        app = next(route.app for route in app.routes if getattr(route, "path", "") == "/sub")

    paths = app.openapi()["paths"]

    assert set(paths[f"{prefix}/pull/notes/{{note}}"]) == {"get"}
    assert set(paths[f"{prefix}/acme/push/notes/{{note}}"]) == {"post"}
    assert not any("starfish_path" in path for path in paths)


@pytest.mark.parametrize("way", [plain, direct, prefixed, nested])
async def test_the_resolver_sees_which_route_it_is(way: Any) -> None:
    app, prefix = way()
    async with client_of(app) as client:
        await client.get(f"{prefix}/pull/notes/a")

    assert app.state.paths == [({"note": "a"}, "/pull/notes/{note}")]


def on_inclusion(app: FastAPI) -> None:
    app.include_router(router(), dependencies=[Depends(refuse)])


def on_the_outer_router(app: FastAPI) -> None:
    outer = APIRouter(dependencies=[Depends(refuse)])
    outer.include_router(router())
    app.include_router(outer)


def on_nothing(app: FastAPI) -> None:
    app.include_router(router())


@pytest.mark.parametrize("application", [FastAPI, SyncFastAPI])
@pytest.mark.parametrize("include", [on_inclusion, on_the_outer_router])
async def test_a_dependency_of_the_inclusion_is_not_passed_by(
    application: Any, include: Any
) -> None:
    app = application()
    include(app)
    async with client_of(app) as client:
        assert (await client.get("/pull/notes/a")).status_code == 418
        assert (await client.post("/push/notes/a", json={"data": {}})).status_code == 418


@pytest.mark.parametrize("application", [FastAPI, SyncFastAPI])
async def test_a_dependency_of_the_application_is_not_passed_by(application: Any) -> None:
    app = application(dependencies=[Depends(refuse)])
    on_nothing(app)
    async with client_of(app) as client:
        assert (await client.get("/pull/notes/a")).status_code == 418


@pytest.mark.parametrize("application", [FastAPI, SyncFastAPI])
async def test_a_body_limit_of_the_inclusion_is_not_passed_by(application: Any) -> None:
    app = application()
    app.include_router(router(), max_body_size=10)
    async with client_of(app) as client:
        answer = await client.post("/push/notes/a", json={"data": {"text": "long enough"}})
    assert answer.status_code == 413


class _Teapot:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 418, "headers": []})
            await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("application", [FastAPI, SyncFastAPI])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_middleware_is_not_passed_by(application: Any, when: str) -> None:
    app = application(middleware=[Middleware(_Teapot)] if when == "before" else None)
    on_nothing(app)
    if when == "after":
        app.add_middleware(_Teapot)
    async with client_of(app) as client:
        assert (await client.get("/pull/notes/a")).status_code == 418


async def test_an_applications_own_routes_stay(serve: Any) -> None:
    app = SyncFastAPI()
    on_nothing(app)

    @app.get("/hello/{name}")
    async def hello(name: str) -> dict[str, str]:
        return {"hello": name}

    async with client_of(app) as client:
        assert (await client.get("/hello/ada")).json() == {"hello": "ada"}


async def test_a_router_starts_and_stops_its_plugins() -> None:
    seen: list[str] = []

    async def shutdown() -> None:
        seen.append("b stops")

    def fail() -> None:
        raise ValueError

    plugins = [
        ServerPlugin("a", startup=lambda: seen.append("a starts"), shutdown=fail),
        ServerPlugin("b", startup=lambda: seen.append("b starts"), shutdown=shutdown),
    ]
    app = FastAPI()
    app.include_router(router(plugins=plugins))

    async with app.router.lifespan_context(app):
        assert seen == ["a starts", "b starts"]
    assert seen == ["a starts", "b starts", "b stops"]


async def test_a_fault_is_a_500_that_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_context: object) -> Any:
        raise ValueError("secret")

    app = SyncFastAPI()
    app.include_router(router(plugins=[ServerPlugin("p", before_pull=broken)]))
    async with client_of(app) as client:
        answer = await client.get("/pull/notes/a")

    assert (answer.status_code, answer.json()) == (500, {"error": "Internal server error"})
    assert "GET of a sync route failed" in caplog.text
