"""Start and stop: the store outlives the plugins, and started plugins are stopped."""

import logging
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from typing_extensions import override

from starfish_protocol.plugins import ServerPlugin
from starfish_server.app import create_app
from starfish_server.config.schema import SyncConfig
from starfish_server.errors import StoreUnavailableError
from starfish_server.storage.memory import MemoryObjectStore


class RecordingStore(MemoryObjectStore):
    def __init__(self, events: list[str], *, broken: bool = False) -> None:
        super().__init__()
        self._events, self._broken = events, broken

    @override
    async def ping(self) -> None:
        self._events.append("store opened")
        if self._broken:
            raise StoreUnavailableError("here", "it is broken")
        await super().ping()

    @override
    async def close(self) -> None:
        self._events.append("store closed")


def plugin(events: list[str], name: str, *, fails: str = "") -> ServerPlugin:
    def hook(what: str) -> None:
        events.append(f"{name} {what}")
        if fails == what:
            raise RuntimeError(f"{name} fails")

    async def later(what: str) -> None:
        hook(what)

    if name == "sync":
        return ServerPlugin(name, startup=lambda: hook("up"), shutdown=lambda: hook("down"))
    return ServerPlugin(name, startup=lambda: later("up"), shutdown=lambda: later("down"))


def running(
    store: MemoryObjectStore, plugins: Sequence[ServerPlugin]
) -> AbstractAsyncContextManager[Any]:
    app = create_app(SyncConfig(collections=[]), store=store, plugins=plugins)
    return app.router.lifespan_context(app)


async def test_plugins_start_in_order_and_stop_in_reverse_before_the_store() -> None:
    events: list[str] = []
    async with running(RecordingStore(events), [plugin(events, "sync"), plugin(events, "b")]):
        events.append("serving")

    assert events == [
        "store opened", "sync up", "b up", "serving", "b down", "sync down", "store closed",
    ]  # fmt: skip


async def test_a_plugin_that_does_not_start_stops_those_before_it() -> None:
    events: list[str] = []
    plugins = [plugin(events, "a"), plugin(events, "b", fails="up"), plugin(events, "c")]

    with pytest.raises(RuntimeError, match="b fails"):
        async with running(RecordingStore(events), plugins):
            events.append("serving")

    assert events == ["store opened", "a up", "b up", "a down", "store closed"]


async def test_a_plugin_that_does_not_stop_is_logged_and_the_others_stop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    events: list[str] = []
    plugins = [plugin(events, "a"), plugin(events, "b", fails="down")]

    with caplog.at_level(logging.ERROR):
        async with running(RecordingStore(events), plugins):
            events.clear()

    assert events == ["b down", "a down", "store closed"]
    assert "shutdown of plugin b failed" in caplog.text


async def test_a_store_that_does_not_answer_starts_nothing() -> None:
    events: list[str] = []

    with pytest.raises(StoreUnavailableError):
        async with running(RecordingStore(events, broken=True), [plugin(events, "a")]):
            events.append("serving")

    assert events == ["store opened", "store closed"]


async def test_an_error_while_serving_still_stops_everything() -> None:
    events: list[str] = []

    with pytest.raises(KeyError):
        async with running(RecordingStore(events), [plugin(events, "a")]):
            raise KeyError

    assert events[-2:] == ["a down", "store closed"]


async def test_an_application_below_another_starts_with_the_first_request() -> None:
    events: list[str] = []
    app = create_app(
        SyncConfig(collections=[]), store=RecordingStore(events), plugins=[plugin(events, "a")]
    )
    outer = FastAPI()
    outer.mount("/sync", app)
    transport = httpx.ASGITransport(outer)
    async with httpx.AsyncClient(transport=transport, base_url="http://test.invalid") as client:
        for _ in range(2):
            assert (await client.get("/sync/health")).status_code == 200

    assert events == ["store opened", "a up"]


async def test_an_application_below_another_that_cannot_start_is_503(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = create_app(SyncConfig(collections=[]), store=RecordingStore([], broken=True))
    outer = FastAPI()
    outer.mount("/sync", app)
    transport = httpx.ASGITransport(outer)
    async with httpx.AsyncClient(transport=transport, base_url="http://test.invalid") as client:
        answer = await client.get("/sync/health")

    assert (answer.status_code, answer.json()["error"]) == (503, "not_started")
    assert "it is broken" in caplog.text
