"""``/events``: each write, told to the callers that may read it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from starfish_protocol.plugins import PullHookResult, ServerPlugin
from starfish_protocol.testing import ManualClock
from starfish_server import AuthResult, MemoryObjectStore, SqliteObjectStore
from starfish_server.auth import AuthError
from starfish_server.requests._request_context import RequestContext
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
                "collection": "notes",
                "key": "notes/ben",
                "hash": pushed["hash"],
                "timestamp": pushed["timestamp"],
            }
        ]
    assert events.status == 200


async def test_a_reader_resumes_without_a_gap(
    serve: Serve, store: SqliteObjectStore, stream: Stream
) -> None:
    served = serve({}, store=store)
    for number in range(700):  # more than a page
        await served.push(f"notes/n{number}", {"n": number})

    async with stream(served, "?since=0") as events:
        first = await events.events(300)
    async with stream(served, "?since=0", **{"last-event-id": events.last_id}) as resumed:
        rest = await resumed.events(700 - len(first))

    assert [each["key"] for each in first + rest] == [f"notes/n{n}" for n in range(700)]


async def test_writes_while_a_reader_catches_up_are_told_once_and_in_order(
    serve: Serve, store: SqliteObjectStore, stream: Stream
) -> None:
    served = serve({}, store=store)

    async def write(first: int, last: int) -> None:
        for number in range(first, last):
            await served.push(f"notes/n{number}", {})

    await write(0, 300)
    writing = asyncio.create_task(write(300, 600))
    async with stream(served, "?since=0") as events, stream(served, "?since=0") as others:
        told, also = await events.events(600), await others.events(600)
    await writing

    assert [each["key"] for each in told] == [f"notes/n{n}" for n in range(600)]
    assert told == also


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
        ("?since=5", {}, (400, "Invalid since parameter")),
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
        before = events.last_id
        await served.push("notes/ben", {}, user="ben")
        while not events.comments or events.last_id == before:
            assert await events.part() == []
        resume = {"x-user": "ada", "last-event-id": events.last_id}
    await served.push("notes/ada", {}, user="ada")
    async with stream(served, **resume) as resumed:
        assert [each["key"] for each in await resumed.events(1)] == ["notes/ada"]


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
    monkeypatch.setattr(_feed, "_UNREAD_S", 0.05)
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


async def test_a_position_says_nothing_about_the_writes_of_others(
    serve: Serve, store: SqliteObjectStore, stream: Stream
) -> None:
    served = serve({}, {"name": "b", "storagePath": "b/{id}", "readRoles": ["b"]}, store=store)
    ids = []
    for foreign in (0, 3, 7):
        for n in range(foreign):
            await served.push(f"b/{foreign}-{n}", {})
        await served.push(f"notes/{foreign}", {})
        async with stream(served) as events:
            ids.append(events.last_id)
    async with stream(served, "?since=0&collections=notes") as events:
        told = await events.events(3)

    assert len({len(each) for each in ids}) == 1
    assert all(re.fullmatch("[A-Za-z0-9_-]{166}", each) for each in ids)
    assert not any("sequence" in each for each in told)


async def test_a_position_of_another_store_is_a_reset(
    serve: Serve, store: SqliteObjectStore, stream: Stream, tmp_path: Path
) -> None:
    other = SqliteObjectStore(tmp_path / "other.sqlite")
    async with stream(serve({}, store=other)) as events:
        position = events.last_id
    served = serve({}, store=store)
    for given in ({"last-event-id": position}, {}):
        query = "" if given else f"?since={position}"
        async with stream(served, query, **given) as events:
            assert (events.status, events.kinds) == (200, ["reset", "synced"])
            await served.push(f"notes/{len(query)}", {})
            assert len(await events.events(1)) == 1
    await other.close()


async def test_a_log_that_was_put_back_is_a_reset(
    serve: Serve, store: SqliteObjectStore, stream: Stream, tmp_path: Path
) -> None:
    served = serve({}, store=store)
    for n in range(5):
        await served.push(f"notes/a{n}", {})
    await asyncio.to_thread(copy_database, tmp_path / "documents.sqlite", tmp_path / "saved")
    for n in range(5):
        await served.push(f"notes/b{n}", {})
    async with stream(served, "?since=0") as events:
        await events.events(10)
        position = events.last_id
    await store.close()
    await asyncio.to_thread(put_back, tmp_path)
    again = SqliteObjectStore(tmp_path / "documents.sqlite")
    served = serve({}, store=again)
    for n in range(20):
        await served.push(f"notes/c{n}", {})

    async with stream(served, **{"last-event-id": position}) as events:
        assert events.kinds == ["reset", "synced"]
    await again.close()


def put_back(folder: Path) -> None:
    for file in folder.glob("documents.sqlite*"):
        file.unlink()
    (folder / "saved").rename(folder / "documents.sqlite")


def copy_database(source: Path, target: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(source)) as open_source,
        contextlib.closing(sqlite3.connect(target)) as open_target,
    ):
        open_source.backup(open_target)


class Withdrawn:
    """A resolver whose answer changes."""

    def __init__(self) -> None:
        self.answer: AuthResult | Exception = AuthResult("ada", ["staff"])

    async def __call__(self, _request: Any) -> AuthResult:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    "answer", [AuthError(), AuthResult("ada", []), AuthResult(None), RuntimeError("gone")]
)
async def test_no_event_follows_the_end_of_a_credential(
    serve: Serve, store: SqliteObjectStore, stream: Stream, answer: Any
) -> None:
    resolver = Withdrawn()
    served = serve({"readRoles": ["staff"]}, store=store, role_resolver=resolver)
    async with stream(served) as events:
        await served.push("notes/a", {})
        assert len(await events.events(1)) == 1
        resolver.answer = answer
        await served.push("notes/b", {})
        assert await events.events(1) == []
        assert events.ended


async def test_a_stream_ends_when_its_credential_expires(
    serve: Serve, store: SqliteObjectStore, stream: Stream
) -> None:
    clock = ManualClock(1_000)

    async def resolver(_request: Any) -> AuthResult:
        return AuthResult("ada", ["staff"], expires_ms=2_000)

    served = serve({"readRoles": ["staff"]}, store=store, role_resolver=resolver, clock=clock)
    async with stream(served) as events:
        clock.advance(1_000)
        await served.push("notes/a", {})
        assert await events.events(1) == []
        assert events.ended


@pytest.mark.parametrize("query", ["notes,notes", "notes,tasks,notes"])
async def test_a_name_given_twice_changes_nothing(
    serve: Serve, store: SqliteObjectStore, stream: Stream, query: str
) -> None:
    served = serve({}, {"name": "tasks", "storagePath": "tasks/{id}"}, store=store)
    async with stream(served, f"?collections={query}") as events:
        await served.push("notes/a", {})
        assert len(await events.events(1)) == 1


async def test_a_stream_is_not_a_pull(
    serve: Serve, store: SqliteObjectStore, stream: Stream
) -> None:
    limit = {"pull": {"windowMs": 60_000, "maxRequests": 1}}
    served = serve({}, {"name": "t", "storagePath": "t/{id}", "rateLimit": limit}, store=store)
    for _ in range(4):
        async with stream(served) as events:
            assert events.status == 200

    assert (await served.get("/pull/t/1")).status_code == 200


async def test_streams_of_one_caller_are_bounded(
    serve: Serve, store: SqliteObjectStore, stream: Stream
) -> None:
    served = serve({}, store=store, max_event_streams_per_caller=1)
    async with stream(served), stream(served, **{"x-user": "ada"}) as other:
        assert other.status == 200
        refused = await served.get("/events")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
    async with stream(served) as again:
        assert again.status == 200


async def test_pushes_that_are_not_stored_are_told_live(
    serve: Serve, store: SqliteObjectStore, stream: Stream
) -> None:
    passing = {"type": "by_timestamp", "persist": False, "requireAuthorSignature": False}
    typing = {"name": "typing", "storagePath": "typing/{room}", "appendOnly": passing}
    served = serve({**typing, "readRoles": ["member"]}, store=store)
    async with stream(served, **{"x-roles": "member"}) as events:
        await served.post("/push/typing/hall", {"data": {"who": "ada"}})
        (told,) = await events.events(1)
        last_id = events.last_id

    assert (told["key"], told["live"], told["data"]) == ("typing/hall", True, {"who": "ada"})
    async with stream(served, **{"x-roles": "member", "last-event-id": last_id}) as events:
        await served.post("/push/typing/hall", {"data": {"who": "ben"}})
        assert [each["data"] for each in await events.events(1)] == [{"who": "ben"}]


async def test_streams_of_quiet_collections_are_not_woken(
    serve: Serve, store: SqliteObjectStore, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write costs the readers of other collections nothing: not one look at their credential."""
    served = serve({}, {"name": "busy", "storagePath": "busy/{id}"}, store=store)
    asked = 0

    async def counted(_self: Any) -> bool:
        nonlocal asked
        asked += 1
        return True

    async with contextlib.AsyncExitStack() as quiet:
        for n in range(20):
            await quiet.enter_async_context(
                stream(served, "?collections=notes", **{"x-user": f"u{n}"})
            )
        busy = await quiet.enter_async_context(stream(served, "?collections=busy"))
        await asyncio.sleep(0.1)
        monkeypatch.setattr(RequestContext, "is_current", counted)
        for n in range(50):
            await served.push(f"busy/{n}", {})
        assert len(await busy.events(50)) == 50

    assert asked <= 50
