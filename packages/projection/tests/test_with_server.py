"""The plugin in a real server: pushes over HTTP, the list in one GET."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from starfish_projection import (
    Projection,
    ProjectionOp,
    ProjectionRemove,
    ProjectionSet,
    create_projection_server_plugin,
    rebuild_projection,
)
from starfish_protocol.hash import compute_hash
from starfish_protocol.plugins import WriteEvent
from starfish_server import AuthResult, SyncRouterOptions, create_sync_router
from starfish_server.config.schema import SyncConfig
from starfish_server.storage.memory import MemoryObjectStore
from starfish_server.storage.sqlite import SqliteObjectStore

_OPEN = {"readRoles": ["public"], "writeRoles": ["public"]}
_NOTES = {"name": "notes", "storagePath": "notes/{note}", "deletable": True, **_OPEN}
_TITLES = {"name": "titles", "storagePath": "titles", "readRoles": ["public"], "pullOnly": True}
_BY_KIND = {
    "name": "by-kind",
    "storagePath": "by-kind/{kind}",
    "readRoles": ["public"],
    "pullOnly": True,
    "listable": True,
}
_CONFIG = SyncConfig.model_validate(
    {
        "collections": [_NOTES, _TITLES, _BY_KIND],
        "namespaces": {"acme": {"collections": [_NOTES, _TITLES]}},
    }
)


def _title(event: WriteEvent) -> ProjectionOp:
    body = event.body or {}
    if body.get("gone"):
        return ProjectionRemove(event.params["note"])
    return ProjectionSet(event.params["note"], {"title": body["title"]})


def _kind(event: WriteEvent) -> str | None:
    kind = (event.body or {}).get("kind")
    return None if kind is None else f"by-kind/{kind}"


_VIEWS = [
    Projection(
        "notes", lambda e: "titles" if e.namespace is None else f"{e.namespace}/titles", _title
    ),
    Projection("notes", _kind, _title),
]

Serve = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, Any]]]


async def _anonymous(request: Request) -> AuthResult:
    return AuthResult(identity=None)


@pytest.fixture
def serve() -> Serve:
    @asynccontextmanager
    async def client(store: Any, **options: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Any]]:
        plugin = create_projection_server_plugin(store=store, projections=_VIEWS, **options)
        app = FastAPI()
        app.include_router(
            create_sync_router(
                SyncRouterOptions(
                    store=store, config=_CONFIG, role_resolver=_anonymous, plugins=[plugin]
                )
            )
        )
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            yield http, plugin
        await store.close()

    return client


async def _push(
    http: httpx.AsyncClient, path: str, data: Any, base: str | None = None
) -> dict[str, Any]:
    answer = await http.post(f"/push/{path}", json={"data": data, "baseHash": base})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_list_is_one_get_with_hash_and_etag(serve: Serve) -> None:
    async with serve(MemoryObjectStore()) as (http, _):
        first = await _push(http, "notes/a", {"title": "Milk", "text": "long"})
        await _push(http, "notes/b", {"title": "Eggs"})
        await _push(http, "notes/a", {"title": "Oat milk"}, first["hash"])

        answer = await http.get("/pull/titles")
        again = await http.get("/pull/titles", headers={"If-None-Match": answer.headers["ETag"]})

    data = answer.json()["data"]
    assert data == {
        "items": [
            {"id": "a", "value": {"title": "Oat milk"}},
            {"id": "b", "value": {"title": "Eggs"}},
        ]
    }
    assert answer.json()["hash"] == compute_hash(data)
    assert answer.headers["ETag"] == f'"{compute_hash(data)}"'
    assert again.status_code == 304


async def test_a_pushed_document_is_in_its_list_when_the_push_is_answered(serve: Serve) -> None:
    async with serve(MemoryObjectStore()) as (http, _):

        async def one(number: int) -> None:
            await _push(http, f"notes/n{number}", {"title": str(number)})
            items = (await http.get("/pull/titles")).json()["data"]["items"]
            assert f"n{number}" in [item["id"] for item in items]

        await asyncio.gather(*map(one, range(20)))


async def test_clients_cannot_push_to_a_list_that_is_pull_only(serve: Serve) -> None:
    async with serve(MemoryObjectStore()) as (http, _):
        await _push(http, "notes/a", {"title": "Milk"})
        answer = await http.post("/push/titles", json={"data": {"items": []}, "baseHash": None})
        items = (await http.get("/pull/titles")).json()["data"]["items"]

    assert answer.status_code in {404, 405}
    assert len(items) == 1


async def test_shards_are_enumerated_by_a_listing(serve: Serve) -> None:
    async with serve(MemoryObjectStore()) as (http, _):
        for note, kind in [("a", "todo"), ("b", "idea"), ("c", "todo"), ("d", None)]:
            await _push(http, f"notes/{note}", {"title": note, "kind": kind})
        shards = (await http.get("/list/by-kind")).json()["items"]
        todo = (await http.get("/pull/by-kind/todo")).json()["data"]["items"]

    assert shards == ["idea", "todo"]
    assert [item["id"] for item in todo] == ["a", "c"]


async def test_each_namespace_has_its_own_list(serve: Serve) -> None:
    async with serve(MemoryObjectStore()) as (http, _):
        await _push(http, "notes/a", {"title": "root"})
        answer = await http.post(
            "/acme/push/notes/a", json={"data": {"title": "acme"}, "baseHash": None}
        )
        assert answer.status_code == 200
        root = (await http.get("/pull/titles")).json()["data"]["items"]
        acme = (await http.get("/acme/pull/titles")).json()["data"]["items"]

    assert [item["value"]["title"] for item in root] == ["root"]
    assert [item["value"]["title"] for item in acme] == ["acme"]


async def test_a_projection_that_raises_does_not_fail_the_push(serve: Serve) -> None:
    async with serve(MemoryObjectStore()) as (http, plugin):
        await _push(http, "notes/a", {"no title": True})

    assert plugin.stats().dropped == {"project_raised": 1}


async def test_a_store_that_answers_no_more_lists_does_not_fail_the_push(serve: Serve) -> None:
    class NoLists(MemoryObjectStore):
        async def put_if_match(self, key: str, *args: Any, **options: Any) -> str | None:
            if key == "titles":
                raise OSError("disk full")
            return await super().put_if_match(key, *args, **options)

    async with serve(NoLists()) as (http, plugin):
        answer = await _push(http, "notes/a", {"title": "Milk"})
        stored = (await http.get("/pull/notes/a")).json()

    assert stored["hash"] == answer["hash"]
    assert plugin.stats().dropped == {"store_failed": 1}


async def test_64_pushes_at_once_on_sqlite_lose_nothing_and_rewrite_the_list_at_most_16_times(
    serve: Serve, tmp_path: Path
) -> None:
    async with serve(SqliteObjectStore(tmp_path / "documents.sqlite")) as (http, plugin):
        await asyncio.gather(
            *(_push(http, f"notes/n{number}", {"title": str(number)}) for number in range(64))
        )
        items = (await http.get("/pull/titles")).json()["data"]["items"]

    assert {item["id"]: item["value"]["title"] for item in items} == {
        f"n{number}": str(number) for number in range(64)
    }
    assert plugin.stats().writes <= 16


async def test_racing_pushes_to_one_document_leave_its_last_value_in_the_list(
    serve: Serve,
) -> None:
    async with serve(MemoryObjectStore()) as (http, _):

        async def client(name: int) -> None:
            for step in range(10):
                base = (await http.get("/pull/notes/a")).json()["hash"] or None
                while True:
                    answer = await http.post(
                        "/push/notes/a",
                        json={"data": {"title": f"{name}-{step}"}, "baseHash": base},
                    )
                    if answer.status_code == 200:
                        break
                    base = answer.json()["currentHash"] or None

        await asyncio.gather(*map(client, range(8)))
        document = (await http.get("/pull/notes/a")).json()["data"]
        items = (await http.get("/pull/titles")).json()["data"]["items"]

    assert items == [{"id": "a", "value": document}]


async def test_a_rebuild_of_what_the_server_wrote_changes_nothing(serve: Serve) -> None:
    store = MemoryObjectStore()
    async with serve(store) as (http, _):
        for number in range(30):
            await _push(http, f"notes/n{number}", {"title": str(number), "kind": f"k{number % 3}"})
        await http.post("/acme/push/notes/a", json={"data": {"title": "acme"}, "baseHash": None})

    report = await rebuild_projection(
        store=store, config=_CONFIG, projections=_VIEWS, target_prefixes=["by-kind/"]
    )

    assert (report.documents, report.lists, report.rewritten) == (31, 5, 0)
    assert report.complete


async def test_a_rebuild_makes_the_same_lists_as_the_pushes_did(serve: Serve) -> None:
    store = MemoryObjectStore()
    async with serve(store) as (http, _):
        for number in range(10):
            await _push(http, f"notes/n{number}", {"title": str(number), "kind": f"k{number % 3}"})
            await asyncio.sleep(0.002)  # so that each document has a time of its own
    lists = ["titles", *await store.list_keys("by-kind/")]
    before = {key: (await store.get_string(key) or "").split(',"ts":')[0] for key in lists}
    await store.delete_many(lists)

    await rebuild_projection(store=store, config=_CONFIG, projections=_VIEWS)

    for key in lists:
        assert (await store.get_string(key) or "").split(',"ts":')[0] == before[key]


@pytest.mark.parametrize("kind", ["with a log", "without a log"])
async def test_a_removed_document_is_out_of_its_list_when_the_removal_is_answered(
    serve: Serve, kind: str
) -> None:
    class Unlogged(MemoryObjectStore):
        changes = None  # type: ignore[assignment]

    async with serve(MemoryObjectStore() if kind == "with a log" else Unlogged()) as (http, plugin):
        for name in ("kept", "gone"):
            pushed = await _push(http, f"notes/{name}", {"title": name})
        removed = await http.delete(f"/push/notes/gone?baseHash={pushed['hash']}")
        assert removed.status_code == 200
        items = (await http.get("/pull/titles")).json()["data"]["items"]
        stats = plugin.stats()

    assert [item["id"] for item in items] == ["kept"]
    assert (stats.dropped, stats.parked) == ({}, 0)
