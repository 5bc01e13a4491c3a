"""``/events``: each write, told to the callers that may read it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from starfish_protocol.plugins import PullHookResult, ServerPlugin
from starfish_server import MemoryObjectStore, SqliteObjectStore
from starfish_server.requests import _event_stream
from starfish_server.routes import _feed

Serve = Callable[..., Any]
Stream = Callable[..., Any]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteObjectStore]:
    store = SqliteObjectStore(tmp_path / "documents.sqlite")
    yield store
    await store.close()


async def test_writes_are_told_as_they_happen(
    serve: Serve, store: SqliteObjectStore, stream: Stream
) -> None:
    served = serve({}, store=store)
    await served.push("notes/ada", {"n": 0})
    async with stream(served) as events:
        pushed = (await served.push("notes/ben", {"n": 1}, user="ben")).json()

        assert await events.events(1) == [
            {
                "sequence": 2,
                "collection": "notes",
                "key": "notes/ben",
                "hash": pushed["hash"],
                "timestamp": pushed["timestamp"],
            }
        ]
    assert (events.status, events.last_id) == (200, "2")


async def test_a_reader_resumes_without_a_gap(
    serve: Serve, store: SqliteObjectStore, stream: Stream
) -> None:
    served = serve({}, store=store)
    for number in range(700):  # more than a page
        await served.push(f"notes/n{number}", {"n": number})

    async with stream(served, "?since=0") as events:
        first = await events.events(300)
    async with stream(served, "?since=0", **{"last-event-id": events.last_id}) as resumed:
        rest = await resumed.events(700 - int(events.last_id))

    told = [each["sequence"] for each in first][: int(events.last_id)]
    assert told + [each["sequence"] for each in rest] == list(range(1, 701))


async def test_only_named_collections_and_only_those_of_the_namespace(
    serve: Serve,
    store: SqliteObjectStore,
    stream: Stream,
) -> None:
    members = [{}, {"name": "tasks", "storagePath": "tasks/{task}"}]
    served = serve(*members, store=store, namespaces={"team": [{}]})
    for path in ("push/notes/a", "push/tasks/b", "team/push/notes/c"):
        await served.post(f"/{path}", {"data": {}, "baseHash": None})

    async with stream(served, "?since=0&collections=tasks") as events:
        assert [each["key"] for each in await events.events(1)] == ["tasks/b"]
    async with stream(served, "?since=0") as events:
        assert [each["key"] for each in await events.events(2)] == ["notes/a", "tasks/b"]
    async with stream(served, "/team/events?since=0") as events:
        (event,) = await events.events(1)
    assert (event["namespace"], event["key"]) == ("team", "notes/c")


async def test_a_caller_sees_what_it_may_pull_and_no_more(
    serve: Serve,
    store: SqliteObjectStore,
    stream: Stream,
) -> None:
    served = serve({"readRoles": ["self", "admin"]}, store=store)
    for name in ("ada", "ben"):
        await served.push(f"notes/{name}", {}, user=name)

    async with stream(served, "?since=0", **{"x-user": "ben"}) as events:
        (event,) = await events.events(1)
    async with stream(served, "?since=0", **{"x-user": "eve", "x-roles": "admin"}) as events:
        both = await events.events(2)

    assert (event["key"], event["identity"]) == ("notes/ben", "ben")
    assert [each["key"] for each in both] == ["notes/ada", "notes/ben"]
    assert not any("identity" in each for each in both)
    refused = await served.get("/events")
    assert (refused.status_code, refused.json()) == (401, {"error": "Unauthorized"})


async def test_what_a_plugin_keeps_from_pulls_it_keeps_from_events(
    serve: Serve,
    store: SqliteObjectStore,
    stream: Stream,
) -> None:
    def gate(context: Any) -> PullHookResult:
        if context.params["identity"] == "ada":
            return PullHookResult("reject", status=403, error="no")
        return PullHookResult("proceed")

    served = serve({}, store=store, plugins=[ServerPlugin(name="gate", before_pull=gate)])
    for name in ("ada", "ben"):
        await served.push(f"notes/{name}", {})

    async with stream(served, "?since=0") as events:
        assert [each["key"] for each in await events.events(1)] == ["notes/ben"]


@pytest.mark.parametrize(
    ("query", "headers", "answer"),
    [
        ("?collections=nothing", {}, (404, "Collection not found")),
        ("?collections=", {}, (404, "Collection not found")),
        ("?collections=drop", {}, (404, "Collection not found")),
        ("?since=-1", {}, (400, "Invalid since parameter")),
        ("?since=x", {}, (400, "Invalid since parameter")),
        ("?since=99999999999999999999", {}, (400, "Invalid since parameter")),
        ("?since=0", {"last-event-id": "x"}, (400, "Invalid since parameter")),
        ("?since=5", {}, (409, "unknown_sequence")),
    ],
)
async def test_what_cannot_be_followed_is_refused(
    serve: Serve,
    store: SqliteObjectStore,
    query: str,
    headers: dict[str, str],
    answer: tuple[int, str],
) -> None:
    drop = {"name": "drop", "storagePath": "drop/{item}", "pushOnly": True}
    served = serve({}, drop, store=store)

    given = await served.client.get(f"/events{query}", headers=headers)

    assert (given.status_code, given.json()["error"]) == answer


async def test_a_store_without_a_log_has_no_events(serve: Serve) -> None:
    class WithoutLog(MemoryObjectStore):
        changes = None

    served = serve({}, store=WithoutLog())

    assert (await served.get("/events")).status_code == 404


async def test_head_answers_the_headers_alone(serve: Serve, store: SqliteObjectStore) -> None:
    answer = await serve({}, store=store).client.head("/events")

    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
    assert answer.headers["cache-control"] == "no-store"


async def test_a_quiet_stream_is_kept_open_by_comments_that_move_its_id(
    serve: Serve,
    store: SqliteObjectStore,
    monkeypatch: pytest.MonkeyPatch,
    stream: Stream,
) -> None:
    monkeypatch.setattr(_feed, "_COMMENT_EVERY_S", 0.05)
    served = serve({"readRoles": ["self"]}, store=store)
    async with stream(served, **{"x-user": "ada"}) as events:
        await served.push("notes/ben", {}, user="ben")
        while events.last_id != "1":
            assert await events.part() == []
    assert events.comments >= 1


async def test_a_stream_ends_when_the_server_stops(
    serve: Serve, store: SqliteObjectStore, stream: Stream
) -> None:
    stopping = asyncio.Event()
    served = serve({}, store=store, stopping=stopping)
    async with stream(served) as events:
        stopping.set()
        assert await events.events(1) == []
        assert events.ended


async def test_a_stream_ends_after_a_while(
    serve: Serve,
    store: SqliteObjectStore,
    monkeypatch: pytest.MonkeyPatch,
    stream: Stream,
) -> None:
    monkeypatch.setattr(_feed, "_LONGEST_S", 0.0)
    async with stream(serve({}, store=store)) as events:
        assert await events.events(1) == []
        assert events.ended


async def test_a_reader_that_does_not_read_is_left(
    serve: Serve,
    store: SqliteObjectStore,
    monkeypatch: pytest.MonkeyPatch,
    stream: Stream,
) -> None:
    monkeypatch.setattr(_event_stream, "_UNREAD_S", 0.05)
    served = serve({}, store=store)
    async with stream(served) as events:
        events.may_send.clear()
        await served.push("notes/ada", {})
        await asyncio.wait_for(asyncio.shield(events.task), 10)

    async with stream(served, "?since=0") as again:
        assert len(await again.events(1)) == 1


async def test_streams_are_counted(serve: Serve, store: SqliteObjectStore, stream: Stream) -> None:
    served = serve({}, store=store, max_event_streams=1)
    async with stream(served):
        refused = await served.get("/events")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    async with stream(served) as again:
        assert again.status == 200


async def test_a_store_that_fails_ends_the_stream(
    serve: Serve,
    store: SqliteObjectStore,
    tmp_path: Path,
    stream: Stream,
) -> None:
    async with stream(serve({}, store=store)) as events:
        (tmp_path / "documents.sqlite").rename(tmp_path / "elsewhere")
        assert await events.events(1) == []
        assert events.ended
