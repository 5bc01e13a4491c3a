"""Writes of a document server as events."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from starfish_protocol.plugins import WriteEvent
from starfish_watcher import Coordinate, EventKind, EventStore, Projection, StoreClosed
from starfish_watcher.server import DOCUMENT_WRITTEN, create_event_log_plugin, document_entity

WRITE = WriteEvent(
    "notes",
    "hash-1",
    1_700_000_000_000,
    {"identity": "ada"},
    body={"text": "secret"},
    identity="ada",
    document_key="notes/ada",
)


@pytest.fixture
def store() -> Iterator[EventStore]:
    with EventStore.memory() as store:
        yield store


async def after_write(store: EventStore, event: WriteEvent, **options: Any) -> None:
    hook = create_event_log_plugin(store, **options).after_write
    assert hook is not None
    answer = hook(event)
    assert answer is not None
    await answer


async def test_a_write_becomes_an_event_without_the_document_and_who_wrote_it(
    store: EventStore,
) -> None:
    await after_write(store, WRITE)

    (event,) = store.read()
    assert event.coordinate == Coordinate("notes:ada", "notes")
    assert event.kind == DOCUMENT_WRITTEN
    assert event.payload == {
        "collection": "notes",
        "document_key": "notes/ada",
        "hash": "hash-1",
        "timestamp": 1_700_000_000_000,
        "params": {"identity": "ada"},
        "namespace": None,
    }


async def test_the_same_write_is_appended_once_whatever_the_options(store: EventStore) -> None:
    for _ in range(2):
        await after_write(store, WRITE)
    await after_write(store, WRITE, include_identity=True)
    assert store.last_sequence() == 1

    for other in (
        WriteEvent(**{**fields(WRITE), "hash": "hash-2"}),
        WriteEvent(**{**fields(WRITE), "timestamp": 1_700_000_000_001}),
        WriteEvent(**{**fields(WRITE), "document_key": "notes/bob"}),
        WriteEvent(**{**fields(WRITE), "namespace": "eu"}),
    ):
        await after_write(store, other)
    assert store.last_sequence() == 5


def fields(event: WriteEvent) -> dict[str, Any]:
    return {name: getattr(event, name) for name in WriteEvent.__slots__}


async def test_kind_scope_collections_and_identity_are_chosen(store: EventStore) -> None:
    kind = EventKind.custom(0xE, 7)
    options: dict[str, Any] = {
        "kind": lambda _: kind,
        "scope": lambda event: f"tenant/{event.collection}",
        "collections": ["notes"],
        "include_identity": True,
    }
    await after_write(store, WRITE, **options)
    await after_write(store, WriteEvent(**{**fields(WRITE), "collection": "other"}), **options)

    (event,) = store.read()
    assert (event.kind, event.scope, event.payload["identity"]) == (kind, "tenant:notes", "ada")


async def test_a_write_without_a_key_is_known_by_its_parameters(store: EventStore) -> None:
    await after_write(store, WriteEvent("notes", "h", 1, {"b": "2", "a": "1"}, namespace="eu"))

    (event,) = store.read()
    assert str(event.coordinate) == "notes:1:2@eu"


async def test_a_cancelled_request_leaves_its_event(store: EventStore) -> None:
    task = asyncio.create_task(after_write(store, WRITE))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    await after_write(store, WRITE)
    assert store.last_sequence() == 1


async def test_a_store_that_is_closed_says_so_to_the_server(store: EventStore) -> None:
    store.close()

    with pytest.raises(StoreClosed):
        await after_write(store, WRITE)


keys = st.text(min_size=1, max_size=40) | st.text("./:%|=.\x00\x85\ud800aé", max_size=12)


@given(st.lists(keys, min_size=2, max_size=2, unique=True))
@example(["a/b", "a:b"])
@example(["a..b", "a%2E.b"])
@example(["...", ".%2E."])
@example(["", "%%"])
@example(["", "%25%25"])
@example(["x" * 1024 + "/1", "x" * 1024 + "/2"])
@example(["\ud800", "%ED%A0%80"])
def test_every_key_is_an_entity_of_its_own(pair: list[str]) -> None:
    first, second = (Coordinate(document_entity(key), "eu").entity for key in pair)

    assert first != second


def test_folders_are_namespaces_also_of_long_keys() -> None:
    assert document_entity("notes/ada/7") == "notes:ada:7"
    assert document_entity("notes/" + "x" * 2000).startswith("notes:%%")


async def test_a_real_server_feeds_a_watcher() -> None:
    pytest.importorskip("starfish_server", reason="the extra server is not installed")
    httpx = pytest.importorskip("httpx", reason="httpx is not installed")
    from starfish_server.app import create_app
    from starfish_server.config.schema import SyncConfig
    from starfish_server.storage.memory import MemoryObjectStore

    class Versions(Projection[list[str]]):
        relevant_kinds = (DOCUMENT_WRITTEN,)

        def initial(self) -> list[str]:
            return []

        def apply(self, state: list[str], event: Any) -> list[str]:
            return [*state, event.payload["hash"]]

    config = SyncConfig.model_validate({
        "collections": [
            {"name": "wall", "storagePath": "wall/{n}", "readRoles": ["public"],
             "writeRoles": ["public"]},
        ]
    })  # fmt: skip
    with EventStore.memory() as store:
        plugin = create_event_log_plugin(store)
        app = create_app(config, store=MemoryObjectStore(), plugins=[plugin])
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http,
            await store.aio.watch_projection(Versions, "wall:1") as watcher,
        ):
            body: dict[str, Any] = {"data": {"a": 1}, "baseHash": None}
            first = (await http.post("/push/wall/1", json=body)).json()["hash"]
            assert await watcher.recv(5) == (1, [first])
            refused = await http.post("/push/wall/1", json={"data": {}, "baseHash": None})
            body = {"data": {"a": 2}, "baseHash": first}
            second = (await http.post("/push/wall/1", json=body)).json()["hash"]

            assert refused.status_code == 409
            assert await watcher.recv(5) == (2, [first, second])
            assert [event.sequence for event in store.read()] == [1, 2]
