"""``/events?snapshot=1``: the documents as they are, then what changes, with no gap and no repeat."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from starfish_protocol.testing import ManualClock
from starfish_server import AuthResult, MemoryObjectStore, SqliteObjectStore
from starfish_server.routes import _feed_snapshot

Serve = Callable[..., Any]
Stream = Callable[..., Any]
NOTES = {"name": "notes", "storagePath": "notes/{id}", "deletable": True}
APPEND = {"type": "by_timestamp", "requireAuthorSignature": False}


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    store: Any = MemoryObjectStore()
    if request.param == "sqlite":
        store = SqliteObjectStore(tmp_path / "documents.sqlite")
    yield store
    await store.close()


async def snapshot_of(served: Any, stream: Stream, query: str = "", **headers: str) -> list[Any]:
    """The documents before ``synced``."""
    async with stream(served, f"?snapshot=1{query}", **headers) as events:
        assert events.kinds[-1] == "synced"
        *documents, end = events.seen
    assert end == {"documents": len(documents)}
    return documents


async def test_documents_of_every_kind_and_then_what_changes(
    serve: Serve, store: Any, stream: Stream
) -> None:
    served = serve(
        NOTES,
        {"name": "top", "storagePath": "top"},
        {"name": "log", "storagePath": "log/{id}", "appendOnly": APPEND},
        {"name": "photos", "storagePath": "photos/{id}", "allowedMimeTypes": ["image/*"]},
        {"name": "profile", "storagePath": "u/{id}", "bundle": "u"},
        store=store,
    )
    hashes = {}
    for path in ("notes/1", "top", "log/1", "u/1/profile"):
        hashes[path] = (await served.push(path, {"n": 1})).json()
    hashes["photos/1"] = (
        await served.client.post(
            "/push/photos/1", content=b"x", headers={"content-type": "image/png"}
        )
    ).json()
    gone = await served.push("notes/2", {})
    await served.client.delete(f"/push/notes/2?baseHash={gone.json()['hash']}")

    async with stream(served, "?snapshot=1") as events:
        *documents, _end = events.seen
        await served.push("notes/3", {})
        after = await events.events(1)
        position = events.last_id
    assert {each["key"]: (each["hash"], each["timestamp"]) for each in documents} == {
        key: (each["hash"], each["timestamp"]) for key, each in hashes.items()
    }
    assert all(each["snapshot"] is True for each in documents)
    assert [each["key"] for each in after] == ["notes/3"]
    assert "snapshot" not in after[0]

    # A client that comes back has its snapshot already.
    await served.push("notes/4", {})
    async with stream(served, "?snapshot=1", **{"last-event-id": position}) as events:
        assert [each["key"] for each in await events.events(1)] == ["notes/4"]


async def test_a_document_is_told_once_however_it_is_written_meanwhile(
    serve: Serve, store: Any, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_feed_snapshot, "_PAGE", 7)
    served = serve(NOTES, store=store)
    hashes: dict[str, str] = {}
    drawn = random.Random(5)

    async def write(name: str) -> None:
        if name in hashes and drawn.random() < 0.3:
            hash_ = hashes.pop(name)
            assert (
                await served.client.delete(f"/push/notes/{name}?baseHash={hash_}")
            ).status_code == 200
        else:
            pushed = await served.push(f"notes/{name}", {"n": drawn.random()}, hashes.get(name))
            hashes[name] = pushed.json()["hash"]

    async def keep_writing(stop: asyncio.Event) -> None:
        while not stop.is_set():
            await write(f"n{drawn.randrange(60):02}")
            await asyncio.sleep(0)

    for n in range(60):
        await write(f"n{n:02}")
    for _ in range(4):
        stop = asyncio.Event()
        writing = asyncio.create_task(keep_writing(stop))
        async with stream(served, "?snapshot=1&collections=notes") as events:
            await asyncio.sleep(0.05)
            stop.set()
            await writing
            await write("last")
            while not (events.seen and events.seen[-1].get("key") == "notes/last"):
                await events.part()
            told = [each for each in events.seen if "key" in each]
        known: dict[str, str] = {}
        for each in told:
            assert each["hash"] != known.get(each["key"], "") or each.get("deleted")
            known[each["key"]] = each["hash"]
        final = {f"notes/{name}": hash_ for name, hash_ in hashes.items()}
        assert {key: hash_ for key, hash_ in known.items() if hash_} == final
        in_snapshot = [each["key"] for each in told if each.get("snapshot")]
        assert len(in_snapshot) == len(set(in_snapshot))


async def test_only_what_the_caller_may_pull(serve: Serve, store: Any, stream: Stream) -> None:
    served = serve(
        {**NOTES, "storagePath": "notes/{identity}", "readRoles": ["self"]},
        {
            "name": "cards",
            "storagePath": "cards/{id}",
            "fieldPermissions": {"pin": {"readRoles": ["x"]}},
        },
        {"name": "inbox", "storagePath": "inbox/{id}", "pushOnly": True},
        store=store,
        namespaces={"team": [{"name": "notes", "storagePath": "notes/{id}"}]},
    )
    for name in ("ada", "ben"):
        await served.push(f"notes/{name}", {})
    await served.push("cards/1", {"pin": 1}, user="a", roles="x")
    await served.push("inbox/1", {})
    await served.client.post("/team/push/notes/1", json={"data": {}, "baseHash": None})

    documents = await snapshot_of(served, stream, **{"x-user": "ada"})
    assert [each["key"] for each in documents] == ["notes/ada", "cards/1"]
    token = (await served.get("/pull/cards/1", user="ada")).json()["hash"]
    assert documents[1]["hash"] == token
    async with stream(served, "/team/events?snapshot=1") as events:
        assert [(each.get("namespace"), each.get("key")) for each in events.seen][:1] == [
            ("team", "notes/1")
        ]


async def test_an_expired_document_is_left_out(serve: Serve, stream: Stream) -> None:
    clock = ManualClock()
    served = serve({**NOTES, "ttlMs": 1000}, clock=clock)
    await served.push("notes/1", {})
    clock.advance(999)
    await served.push("notes/2", {})
    clock.advance(1)

    assert [each["key"] for each in await snapshot_of(served, stream)] == ["notes/2"]


async def test_a_credential_that_ends_ends_the_snapshot(
    serve: Serve, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_feed_snapshot, "_PAGE", 2)
    asked = 0

    async def resolver(_request: Any) -> AuthResult:
        nonlocal asked
        asked += 1
        if asked > 23:
            raise PermissionError
        return AuthResult("ada", ["staff"])

    served = serve({**NOTES, "readRoles": ["staff"]}, role_resolver=resolver)
    for n in range(20):
        await served.push(f"notes/{n:02}", {})
    async with stream(served, "?snapshot=1") as events:
        assert events.ended
        assert [each["key"] for each in events.seen] == [
            "notes/00",
            "notes/01",
            "notes/02",
            "notes/03",
        ]
    assert not events.last_id


async def test_before_the_end_of_the_snapshot_there_is_nothing_to_resume_from(
    serve: Serve, stream: Stream
) -> None:
    served = serve(NOTES)
    for n in range(3):
        await served.push(f"notes/{n}", {})
    async with stream(served, "?snapshot=1") as events:
        blocks = [block for block in events.raw.split("\n\n") if "id: " in block]
    assert [("event: synced" in block, "data: " in block) for block in blocks] == [(True, True)]


async def test_a_log_that_is_replaced_under_a_stream_gives_a_reset_and_the_documents(
    serve: Serve, stream: Stream
) -> None:
    store = MemoryObjectStore()
    served = serve(NOTES, store=store)
    await served.push("notes/1", {})
    async with stream(served) as events:
        await served.push("notes/2", {})
        await events.events(1)
        store.changes._epoch = "another"  # as a restore does
        await served.push("notes/3", {})
        while events.kinds[-1:] != ["synced"]:
            await events.part()
        told = [each["key"] for each in events.seen if each.get("snapshot")]
        assert told == ["notes/1", "notes/2", "notes/3"]
        await served.push("notes/4", {})
        assert (await events.events(1))[0]["key"] == "notes/4"
    assert events.kinds == ["reset", "synced"]


async def test_only_0_and_1_are_answers(serve: Serve) -> None:
    answer = await serve(NOTES).get("/events?snapshot=yes")
    assert (answer.status_code, answer.json()["error"]) == (400, "Invalid snapshot parameter")
