from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI, Request

from starfish_http.mounting import SelfStarting


class Store:
    """What an application opens at its start."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed = 0
        self.fails = False

    @asynccontextmanager
    async def lifespan(self, _app: FastAPI) -> AsyncIterator[dict[str, str]]:
        if self.fails:
            raise OSError("the disk is not there")
        await asyncio.sleep(0.01)
        self.opened += 1
        yield {"store": "open"}
        await asyncio.sleep(0)
        self.closed += 1


def application(store: Store) -> FastAPI:
    app = FastAPI(lifespan=store.lifespan)

    @app.get("/state")
    async def state(request: Request) -> str:
        return str(request.state.store)

    return app


def client(app: FastAPI | SelfStarting) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://x")


async def test_a_mounted_application_starts_once_with_its_first_requests(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store, outer = Store(), FastAPI()
    mounted = SelfStarting(application(store), name="notes")
    outer.mount("/notes", mounted)

    async with outer.router.lifespan_context(outer), client(outer) as http:
        answers = await asyncio.gather(*(http.get("/notes/state") for _ in range(10)))

    assert {answer.text for answer in answers} == {'"open"'}
    assert store.opened == 1
    assert [each.levelname for each in caplog.records if "first request" in each.message] == [
        "WARNING"
    ]
    await mounted.stop()
    assert store.closed == 1


def test_it_is_stopped_in_order_when_the_event_loop_ends() -> None:
    store = Store()

    async def main() -> None:
        async with client(SelfStarting(application(store))) as http:
            await http.get("/state")

    asyncio.run(main())

    assert (store.opened, store.closed) == (1, 1)


def test_another_event_loop_starts_it_again() -> None:
    store = Store()
    app = SelfStarting(application(store))

    async def main() -> str:
        async with client(app) as http:
            return (await http.get("/state")).text

    answers = [asyncio.run(main()) for _ in range(3)]

    assert answers == ['"open"'] * 3
    assert (store.opened, store.closed) == (3, 3)


async def test_one_that_cannot_start_is_503_and_says_why_and_is_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Store()
    store.fails = True
    app = SelfStarting(application(store), name="notes", retry_s=0.05)
    async with client(app) as http:
        first = await http.get("/state")
        second = await http.get("/state")
        store.fails = False
        await asyncio.sleep(0.1)
        third = await http.get("/state")
    await app.stop()

    assert (first.status_code, first.json()["error"]) == (503, "not_started")
    assert first.headers["retry-after"] == "5"
    assert second.status_code == 503
    assert "the disk is not there" in caplog.text
    assert len([each for each in caplog.records if each.levelno == logging.ERROR]) == 1
    assert third.text == '"open"'


async def test_a_lifespan_that_is_run_is_not_run_again(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    inner = SelfStarting(application(store))
    outer = FastAPI()
    outer.mount("/", inner)
    messages = iter([{"type": "lifespan.startup"}])
    started, stop = asyncio.Event(), asyncio.Event()

    async def receive() -> dict[str, str]:
        for message in messages:
            return message
        await stop.wait()
        return {"type": "lifespan.shutdown"}

    async def send(message: dict[str, str]) -> None:
        if message["type"] == "lifespan.startup.complete":
            started.set()

    running = asyncio.create_task(inner({"type": "lifespan", "state": {}}, receive, send))  # type: ignore[arg-type]
    await started.wait()
    async with client(inner) as http:
        await http.get("/state")
    stop.set()
    await running

    assert (store.opened, store.closed) == (1, 1)
    assert "first request" not in caplog.text


async def test_an_application_without_a_lifespan_is_served_as_it_is() -> None:
    async def app(scope, _receive, send):
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with client(SelfStarting(app)) as http:
        assert (await http.get("/")).status_code == 204
