"""Everything around an answer: cross-origin pages, request ids, metrics, spans, headers, and what it costs to have none."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from starfish_http.metrics import route_of
from starfish_http.tracing import Tracing
from starfish_server import MemoryObjectStore
from starfish_server.app import EdgeOptions, create_app
from starfish_server.config import parse_config
from starfish_server.mounting._dispatch import Dispatcher

ORIGIN = "https://app.example"
BOARD = {
    "name": "board",
    "storagePath": "board/{id}",
    "readRoles": ["public"],
    "writeRoles": ["public"],
}
STAFF = {
    **BOARD,
    "name": "staff",
    "storagePath": "staff/{id}",
    "readRoles": ["editor"],
    "writeRoles": ["editor"],
}
FEW = {
    **BOARD,
    "name": "few",
    "storagePath": "few/{id}",
    "rateLimit": {"pull": {"windowMs": 60_000, "maxRequests": 1}},
}
PHOTOS = {**BOARD, "name": "photos", "storagePath": "photos/{id}", "allowedMimeTypes": ["image/*"]}


@pytest.fixture
async def open_app() -> AsyncIterator[Callable[..., Any]]:
    async with AsyncExitStack() as stack:

        async def make(edge: EdgeOptions | None = None, **top: Any) -> httpx.AsyncClient:
            config = parse_config({"collections": [BOARD, STAFF, FEW, PHOTOS], **top})
            app = create_app(config, store=MemoryObjectStore(), edge=edge)
            await stack.enter_async_context(app.router.lifespan_context(app))
            transport = httpx.ASGITransport(app)
            client = httpx.AsyncClient(transport=transport, base_url="http://x")
            return await stack.enter_async_context(client)

        yield make


async def test_a_page_of_a_named_origin_reads_every_answer(open_app: Any) -> None:
    client = await open_app(cors={"origins": [ORIGIN]})
    seen: dict[int, httpx.Response] = {}
    tag = (await client.get("/pull/board/1")).headers["etag"]
    for path, headers in (
        ("/pull/board/1", {}), ("/pull/board/1", {"if-none-match": tag}), ("/pull/staff/1", {}),
        ("/pull/nowhere/1", {}), ("/nowhere", {}), ("/pull/board/a%20b", {}), ("/pull/few/1", {}),
        ("/pull/few/1", {}), ("/batch/pull", {}),
    ):  # fmt: skip
        answer = await client.get(path, headers={"origin": ORIGIN, **headers})
        assert answer.headers["access-control-allow-origin"] == ORIGIN, path
        exposed = answer.headers["access-control-expose-headers"].lower()
        assert {"etag", "retry-after", "content-range"} <= set(exposed.split(", "))
        seen[answer.status_code] = answer
    conflict = await client.post(
        "/push/board/1", json={"data": {}, "baseHash": "0" * 64}, headers={"origin": ORIGIN}
    )
    seen[conflict.status_code] = conflict

    assert seen.keys() == {200, 304, 400, 401, 404, 409, 429}
    assert conflict.headers["access-control-allow-origin"] == ORIGIN
    assert "retry-after" in seen[429].headers


@pytest.mark.parametrize(
    "path", ["/pull/board/1", "/push/board/1", "/events", "/batch/pull", "/nowhere"]
)
async def test_a_browser_may_ask_first(open_app: Any, path: str) -> None:
    client = await open_app(cors={"allowOrigins": [ORIGIN]})
    wanted = (
        "authorization,content-type,if-match,if-none-match,last-event-id,range,x-starfish-sig,"
        "x-starfish-ts,x-starfish-nonce,x-starfish-pub"
    )

    answer = await client.options(
        path,
        headers={
            "origin": ORIGIN,
            "access-control-request-method": "POST",
            "access-control-request-headers": wanted,
        },
    )

    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    allowed = answer.headers["access-control-allow-headers"].lower().split(", ")
    assert set(wanted.split(",")) <= set(allowed)
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-max-age"] == "86400"
    assert "access-control-allow-credentials" not in answer.headers


async def test_other_origins_are_not_let_in(open_app: Any) -> None:
    for client in (await open_app(), await open_app(cors={"origins": [ORIGIN]})):
        answer = await client.get("/pull/board/1", headers={"origin": "https://other.example"})
        assert "access-control-allow-origin" not in answer.headers


async def test_header_lines_are_there_once(open_app: Any) -> None:
    client = await open_app()
    await client.post("/push/photos/1", content=b"x", headers={"content-type": "image/png"})

    for path in ("/pull/board/1", "/pull/photos/1", "/pull/nowhere/1", "/nowhere"):
        headers = (await client.get(path)).headers
        assert headers.get_list("x-content-type-options") == ["nosniff"]
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"


async def test_requests_have_ids_where_they_are_asked_for(
    open_app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "starfish_http.access")
    client = await open_app(EdgeOptions(request_ids=True, access_log=True))

    own = await client.get("/pull/board/1?secret=x", headers={"x-request-id": "mine-7"})
    made = await client.get("/pull/board/1", headers={"x-request-id": "not one"})

    assert own.headers["x-request-id"] == "mine-7"
    assert made.headers["x-request-id"] not in {"", "not one"}
    assert "mine-7" in caplog.text
    assert "secret" not in caplog.text
    assert "x-request-id" not in (await (await open_app()).get("/pull/board/1")).headers


async def test_metrics_count_by_route_and_name_nobody(open_app: Any) -> None:
    client = await open_app(EdgeOptions(metrics=True))
    for name in ("ada-secret", "ben-secret"):
        await client.get(f"/pull/board/{name}", headers={"authorization": "Bearer token-secret"})
    await client.get("/pull/staff/1")

    text = (await client.get("/metrics")).text

    assert 'http_requests_total{method="GET",route="/pull/board/{id}",status="200"} 2.0' in text
    assert 'status="401"' in text
    assert "secret" not in text
    assert (await (await open_app()).get("/metrics")).status_code == 404


async def test_a_request_is_a_span_of_its_route(
    open_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[tuple[str, int]] = []
    end = Tracing.end

    def told(self: Tracing, scope: Any, begun: Any, status: int, seconds: float) -> None:
        ended.append((route_of(scope), status))
        end(self, scope, begun, status, seconds)

    monkeypatch.setattr(Tracing, "end", told)
    client = await open_app(EdgeOptions(tracing=True))

    await client.get("/pull/board/1?secret=x")
    await client.get("/nowhere")

    assert ended == [("/pull/board/{id}", 200), ("unmatched", 404)]


async def test_the_surroundings_leave_the_direct_way_open(
    open_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FastAPI's own layers cost as much as a pull: none of them may come back with these options."""
    found: list[str] = []
    find = Dispatcher.find

    def counted(self: Dispatcher, path: str) -> Any:
        found.append(path)
        return find(self, path)

    edge = EdgeOptions(request_ids=True, metrics=True)
    client = await open_app(edge, cors={"origins": [ORIGIN]})
    fastapi = client._transport.app.middleware_stack
    assert fastapi is None
    monkeypatch.setattr(Dispatcher, "find", counted)

    answer = await client.get("/pull/board/1", headers={"origin": ORIGIN})

    assert answer.status_code == 200
    assert found == ["pull/board/1"]
