"""Long lists are stored in pieces; what clients get is the list."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from starfish_projection import (
    Projection,
    ProjectionOp,
    ProjectionRemove,
    ProjectionSet,
    create_projection_server_plugin,
    rebuild_projection,
)
from starfish_projection._list_document import ListDocument, NotAListError, entry_fragment
from starfish_projection._list_storage import ListStorage
from starfish_projection._segments import ListIndex, chunk_key
from starfish_protocol.hash import compute_hash
from starfish_protocol.plugins import WriteEvent
from starfish_server import AuthResult, SqliteObjectStore, SyncRouterOptions, create_sync_router
from starfish_server.config.schema import SyncConfig
from starfish_server.storage.memory import MemoryObjectStore

FOLDER = chunk_key("list", "")


def value(number: int, size: int = 100) -> dict[str, Any]:
    return {"n": number, "text": "é" * size}


async def stored(store: MemoryObjectStore, bound: int | None = 1000) -> ListStorage:
    return ListStorage(store, pieces_above_bytes=bound)


async def fill(lists: ListStorage, count: int, at_once: int = 1) -> str | None:
    document, etag = ListDocument(), None
    for number in range(count):
        document.put(f"n{number}", entry_fragment(f"n{number}", value(number)))
        if number % at_once == at_once - 1:
            etag = await lists.write("list", document, number, etag)
            assert etag is not None
    return etag


async def chunks_of(store: MemoryObjectStore) -> list[str]:
    return [key[len(FOLDER) :] for key in await store.list_keys(FOLDER)]


async def data_of(lists: ListStorage, store: MemoryObjectStore) -> dict[str, Any]:
    text = await store.get_string("list")
    assert text is not None
    document = json.loads(await lists.whole("list", text))
    assert list(document) == ["v", "data", "ts", "hash"]
    assert document["hash"] == compute_hash(document["data"])
    return dict(document["data"])


async def test_an_append_writes_its_own_bytes_and_not_the_list(store: MemoryObjectStore) -> None:
    lists = await stored(store)
    etag = await fill(lists, 2000, at_once=50)
    found = await lists.read("list")
    assert found is not None
    before = dict.fromkeys(await chunks_of(store))
    sizes: list[int] = []
    document = found.document
    for number in range(2000, 2030):
        document.put(f"n{number}", entry_fragment(f"n{number}", value(number)))
        etag = await lists.write("list", document, number, etag)
        sizes.append(len(await store.get_string("list") or ""))

    assert max(sizes) < 24_000
    assert len(dict.fromkeys(await chunks_of(store)).keys() - before.keys()) <= 2
    items = (await data_of(lists, store))["items"]
    assert [item["id"] for item in items] == [f"n{number}" for number in range(2030)]


async def test_a_short_list_is_one_document_and_a_list_that_shrinks_becomes_one(
    store: MemoryObjectStore,
) -> None:
    lists = await stored(store)
    etag = await fill(lists, 5)
    assert await chunks_of(store) == []
    etag = await fill_more(lists, 5, 200)
    assert await chunks_of(store) != []
    found = await lists.read("list")
    assert found is not None
    for number in range(2, 200):
        found.document.remove(f"n{number}")
    etag = await lists.write("list", found.document, 1, etag)

    assert etag is not None
    assert await chunks_of(store) == []
    document = json.loads(await store.get_string("list") or "")
    assert [item["id"] for item in document["data"]["items"]] == ["n0", "n1"]


async def fill_more(lists: ListStorage, begin: int, end: int) -> str | None:
    found = await lists.read("list")
    assert found is not None
    for number in range(begin, end):
        found.document.put(f"n{number}", entry_fragment(f"n{number}", value(number)))
    return await lists.write("list", found.document, 1, found.etag)


async def test_a_lost_swap_leaves_the_list_and_no_pieces(store: MemoryObjectStore) -> None:
    lists = await stored(store)
    await fill(lists, 300, at_once=50)
    before, chunks = await store.get_string("list"), sorted(await chunks_of(store))
    found = await lists.read("list")
    assert found is not None
    for number in range(0, 300, 7):
        found.document.put(f"n{number}", entry_fragment(f"n{number}", {"changed": True}))

    assert await lists.write("list", found.document, 1, "another version") is None
    assert await store.get_string("list") == before
    assert sorted(await chunks_of(store)) == chunks


async def test_a_reader_between_two_versions_gets_one_of_them(store: MemoryObjectStore) -> None:
    lists = await stored(store)
    await fill(lists, 300, at_once=50)
    old = await store.get_string("list")
    assert old is not None
    await fill_more(lists, 0, 400)
    found = await lists.read("list")
    assert found is not None
    found.document.put("n0", entry_fragment("n0", {"changed": True}))
    await lists.write("list", found.document, 2, found.etag)

    whole = json.loads(await lists.whole("list", old))
    assert len(whole["data"]["items"]) == 400
    assert whole["hash"] == compute_hash(whole["data"])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace('"segments":[[', '"segments":[["../list",1],['),
        lambda text: text.replace('"segments":[[', '"segments":[7,['),
        lambda text: text.replace('"log":', '"logs":'),
        lambda text: text[:-30],
        lambda text: text.replace('"hash":"', '"hash":"x'),
    ],
    ids=["foreign-key", "number", "member", "cut", "hash"],
)
async def test_what_only_looks_like_an_index_is_left_alone(store: MemoryObjectStore, spoil) -> None:
    lists = await stored(store)
    await fill(lists, 300, at_once=50)
    text = spoil(await store.get_string("list"))
    await store.put("list", text)

    assert await lists.whole("list", text) == text
    with pytest.raises(NotAListError):
        await lists.read("list")
    assert await lists.changes("list", "0" * 64) is None


async def test_chunks_of_a_writer_that_died_go_with_a_rebuild_once_they_are_old(
    store: MemoryObjectStore,
) -> None:
    lists = await stored(store)
    await fill(lists, 300, at_once=50)
    named = sorted(await chunks_of(store))
    old, young = f"{1:012x}{'a' * 20}", f"{9_000_000:012x}{'b' * 20}"
    await store.put(chunk_key("list", old), "[]")
    await store.put(chunk_key("list", young), "[]")
    await store.put(chunk_key("list/longer", old), "[]")

    assert await lists.sweep("list", 9_000_000) == 1
    left = sorted(set(await chunks_of(store)) - {f"longer/{old}"})
    assert left == sorted([*named, young])


Edits = st.lists(st.tuples(st.booleans(), st.integers(0, 400), st.integers(1, 300)), max_size=40)


@given(Edits, st.integers(0, 2**32))
async def test_what_changed_since_any_version_gives_the_list_of_now(
    edits: list[tuple[bool, int, int]], seed: int
) -> None:
    rng = random.Random(seed)
    store = MemoryObjectStore()
    lists = await stored(store, bound=2000)
    etag = await fill(lists, 200, at_once=100)
    versions: list[dict[str, Any]] = []
    hashes: list[str] = []
    found = await lists.read("list")
    assert found is not None
    document = found.document
    for is_put, number, size in edits:
        if is_put:
            document.put(f"n{number}", entry_fragment(f"n{number}", value(number, size)))
        else:
            document.remove(f"n{number}")
        if rng.random() < 0.5:
            continue
        etag = await lists.write("list", document, 5, etag)
        versions.append(await data_of(lists, store))
        hashes.append(compute_hash(versions[-1]))
        again = await lists.read("list")
        assert again is not None
        assert again.document.ids() == document.ids()
        if rng.random() < 0.3:
            document = again.document
    for version, hash_ in zip(versions, hashes, strict=True):
        changes = await lists.changes("list", hash_)
        if changes is None:
            continue
        assert compute_hash(applied(version, changes)) == changes["hash"] == hashes[-1]


def applied(data: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """As the page tells clients to do it."""
    items = {item["id"]: item for item in data["items"]}
    for entry_id in changes["removed"]:
        items.pop(entry_id, None)
    for item in changes["items"]:
        items[item["id"]] = item
    return {"items": list(items.values())}


def title(event: WriteEvent) -> ProjectionOp:
    body = event.body or {}
    if body.get("gone") or not body:
        return ProjectionRemove(event.params["note"])
    return ProjectionSet(event.params["note"], {"title": body["title"]})


CONFIG = SyncConfig(
    collections=[
        {
            "name": "notes",
            "storagePath": "notes/{note}",
            "readRoles": ["public"],
            "writeRoles": ["public"],
        },
        {"name": "titles", "storagePath": "titles", "readRoles": ["public"], "pullOnly": True},
    ]
)
TITLES = Projection("notes", "titles", title)


async def anybody(_request: object) -> AuthResult:
    return AuthResult(identity=None)


@pytest.fixture
async def served(tmp_path) -> AsyncIterator[tuple[httpx.AsyncClient, SqliteObjectStore]]:
    store = SqliteObjectStore(tmp_path / "documents.sqlite")
    plugin = create_projection_server_plugin(
        store=store, projections=[TITLES], pieces_above_bytes=2000
    )
    app = FastAPI()
    router = create_sync_router(SyncRouterOptions(store, CONFIG, anybody, plugins=[plugin]))
    app.include_router(router)
    transport = httpx.ASGITransport(app)
    async with (
        router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield client, store
    await store.close()


async def push(client: httpx.AsyncClient, note: str, data: dict[str, Any]) -> None:
    now = (await client.get(f"/pull/notes/{note}")).json()
    pushed = await client.post(
        f"/push/notes/{note}", json={"data": data, "baseHash": now["hash"] or None}
    )
    assert pushed.status_code == 200


async def test_a_pull_gives_the_whole_list_and_since_only_what_changed(served) -> None:
    client, store = served
    for number in range(150):
        await push(client, f"n{number}", {"title": f"Note {number} " + "x" * 100})
    assert await store.list_keys(chunk_key("titles", ""))
    whole = await client.get("/pull/titles")
    before = whole.json()
    assert len(before["data"]["items"]) == 150
    assert before["hash"] == compute_hash(before["data"])
    tag = {"If-None-Match": whole.headers["etag"]}
    assert (await client.get("/pull/titles", headers=tag)).status_code == 304

    await push(client, "n3", {"title": "changed"})
    await push(client, "n5", {"gone": True})
    await push(client, "new", {"title": "new"})
    await push(client, "n7", {"gone": True})
    await push(client, "n7", {"title": "back"})

    since = (await client.get(f"/pull/titles?since={before['hash']}")).json()
    assert since["since"] == before["hash"]
    assert sorted(since["removed"]) == ["n5", "n7"]
    assert [item["id"] for item in since["items"]] == ["n3", "new", "n7"]
    now = (await client.get("/pull/titles")).json()
    assert since["hash"] == now["hash"] == compute_hash(applied(before["data"], since))
    nothing = (await client.get(f"/pull/titles?since={now['hash']}")).json()
    assert (nothing["items"], nothing["removed"]) == ([], [])
    for unknown in ("0" * 64, "nonsense", ""):
        assert (await client.get(f"/pull/titles?since={unknown}")).json()["data"] == now["data"]
    batch = await client.get(
        "/batch/pull", params={"collections": "titles", "params": '{"titles":[{}]}'}
    )
    (entry,) = batch.json()["collections"]["titles"]
    assert (entry["data"], entry["hash"]) == (now["data"], now["hash"])


async def test_somebody_who_pushes_an_index_reads_nothing_of_others(served) -> None:
    client, store = served
    for number in range(150):
        await push(client, f"n{number}", {"title": f"Note {number} " + "x" * 100})
    (name, *_) = [key.rpartition("/")[2] for key in await store.list_keys(chunk_key("titles", ""))]
    forged = {"segments": [[name, 1]], "log": [], "tail": []}
    await push(client, "forged", {**forged, "title": "mine"})
    await push(client, "exact", {**forged, "gone": True})

    for note in ("forged", "exact"):
        answer = (await client.get(f"/pull/notes/{note}")).json()["data"]
        assert answer["segments"] == [[name, 1]]
        assert "items" not in answer


async def test_a_rebuild_keeps_a_list_in_pieces(served) -> None:
    client, store = served
    for number in range(120):
        await push(client, f"n{number}", {"title": f"Note {number} " + "x" * 100})
    before = (await client.get("/pull/titles")).json()
    report = await rebuild_projection(
        store=store, config=CONFIG, projections=TITLES, pieces_above_bytes=2000
    )

    assert report.complete
    assert (report.rewritten, report.entries_set, report.entries_removed) == (0, 0, 0)
    assert (await client.get("/pull/titles")).json()["data"] == before["data"]


def test_an_index_that_is_not_one_is_not_read() -> None:
    assert ListIndex.parse('{"v":1,"data":{"segments":' + "[" * 100_000) is None


def test_a_bound_of_nothing_is_refused(store: MemoryObjectStore) -> None:
    with pytest.raises(ValueError, match="pieces_above_bytes is 0"):
        create_projection_server_plugin(store=store, projections=[TITLES], pieces_above_bytes=0)
