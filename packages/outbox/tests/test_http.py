"""Pushes against a real server on loopback: conflicts, lost answers, refusals."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip(
    "starfish_outbox.http", reason="the extra http is not installed", exc_type=ImportError
)

import httpx

from starfish_outbox import (
    Conflict,
    DrainResult,
    NotAuthorised,
    OutboxEntry,
    OutboxQueue,
    PermanentSendError,
    Refused,
    SendError,
    Unreachable,
    drain_outbox,
)
from starfish_outbox.http import PushSender
from starfish_outbox.testing import MemoryCache
from starfish_protocol.hash import compute_hash
from starfish_protocol.types import PullResult

Answer = tuple[int, dict[str, str], bytes]


class Server:
    """Documents with compare-and-swap; a test may put an answer before it."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.before: Callable[[str], Answer | None] = lambda request: None
        self.lose_answers = 0

    def answer(self, method: str, path: str, body: bytes) -> Answer | None:
        self.requests.append(f"{method} {path}")
        prepared = self.before(self.requests[-1])
        if prepared is not None:
            return prepared
        kind, _, key = path[1:].partition("/")
        document = self.documents.get(key)
        current = compute_hash(document) if document is not None else ""
        if (method, kind) == ("GET", "pull"):
            return self.json(200, {"data": document or {}, "hash": current, "timestamp": 1})
        push = json.loads(body)
        if (push["baseHash"] or "") != current:
            return self.json(409, {"error": "hash_mismatch", "currentHash": current})
        self.documents[key] = push["data"]
        if self.lose_answers:
            self.lose_answers -= 1
            return None
        return self.json(200, {"hash": compute_hash(push["data"]), "timestamp": 2})

    @staticmethod
    def json(status: int, value: object, **headers: str) -> Answer:
        return status, headers, json.dumps(value).encode()


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = state.answer(self.command, self.path, body)
            if answer is None:
                self.close_connection = True
                return
            status, headers, content = answer
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = reply  # noqa: N815 - the names the base class calls

        def log_message(self, *args: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

    listening = Quiet(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{listening.server_address[1]}"
    yield state
    listening.shutdown()
    thread.join()
    listening.server_close()


@pytest.fixture
async def client(server: Server):
    async with httpx.AsyncClient(base_url=server.url, timeout=5) as client:
        yield client


def entry(body: Any, base: str | None = None, path: str = "notes/1") -> OutboxEntry:
    return OutboxEntry("e", {"path": path, "body": body, "baseHash": base}, "sending", 0, 0)


async def test_a_new_document_is_pushed(server: Server, client) -> None:
    await PushSender(client)(entry({"text": "hi \ud800"}))

    assert server.documents == {"notes/1": {"text": "hi \ud800"}}
    assert server.requests == ["POST /push/notes/1"]


@pytest.mark.parametrize("path", ["notes/1", "/notes/1", "/push/notes/1"])
async def test_a_path_may_come_with_its_prefix(server: Server, client, path: str) -> None:
    await PushSender(client)(entry({"n": 1}, path=path))

    assert server.requests == ["POST /push/notes/1"]


async def test_edits_of_both_sides_are_kept_and_the_users_value_has_a_field_of_both(
    server: Server, client
) -> None:
    base = {"a": "v0", "b": {"x": 0}, "gone": 1, "theirs": 1}
    server.documents["notes/1"] = {"a": "theirs", "b": {"x": 1}, "gone": 1, "new": 2}
    mine = {"a": "mine", "b": {"x": 0, "y": 2}, "theirs": 1}
    item = {"path": "notes/1", "body": mine, "baseHash": compute_hash(base), "base": base}
    await PushSender(client)(OutboxEntry("e", item, "sending", 0, 0))

    assert server.documents["notes/1"] == {"a": "mine", "b": {"x": 1, "y": 2}, "new": 2}
    assert server.requests == ["POST /push/notes/1", "GET /pull/notes/1", "POST /push/notes/1"]


async def test_the_base_is_found_by_its_hash_where_no_field_was_changed_by_both(
    server: Server, client
) -> None:
    base = {"title": "p", "text": "", "tags": {"old": 1}, "gone": 1}
    server.documents["notes/1"] = {**base, "text": "by ben", "tags": {"old": 1, "ben": 1}}
    mine = {"title": "p", "text": "", "tags": {"old": 1, "ada": 1}}
    await PushSender(client)(entry(mine, base=compute_hash(base)))

    assert server.documents["notes/1"] == {
        "title": "p",
        "text": "by ben",
        "tags": {"old": 1, "ben": 1, "ada": 1},
    }


async def test_without_a_base_a_field_of_both_is_a_conflict_that_stays(
    server: Server, client
) -> None:
    server.documents["notes/1"] = {"a": "theirs", "b": {"x": 1}}
    before = dict(server.documents)
    queue = OutboxQueue(MemoryCache())
    await queue.hydrate("k")
    await queue.enqueue("e", entry({"a": "ours", "c": 3}, base="0" * 64).item)

    assert await drain_outbox(queue, PushSender(client)) == DrainResult(0, 1)
    (left,) = queue.get()
    assert (left.status, left.failure.kind) == ("failed", "conflict")
    assert "another value in a" in left.failure.reason
    assert server.documents == before


async def test_without_a_base_nothing_is_guessed_away(server: Server, client) -> None:
    server.documents["notes/1"] = {"a": 1, "b": 2}
    await PushSender(client)(entry({"a": 1, "c": 3}, base="0" * 64))

    assert server.documents["notes/1"] == {"a": 1, "b": 2, "c": 3}


async def test_the_application_decides_a_conflict(server: Server, client) -> None:
    server.documents["notes/1"] = {"n": 1}
    asked: list[tuple[OutboxEntry, PullResult]] = []

    async def ours_wins(entry: OutboxEntry, current: PullResult) -> dict[str, Any]:
        asked.append((entry, current))
        return entry.item["body"]

    pushed = entry({"n": 2})
    await PushSender(client, on_conflict=ours_wins)(pushed)

    assert server.documents["notes/1"] == {"n": 2}
    assert asked[0][0] is pushed
    assert asked[0][1].data == {"n": 1}
    assert asked[0][1].hash == compute_hash({"n": 1})


async def test_the_application_may_ask_for_the_base_as_well(server: Server, client) -> None:
    base = {"n": 0}
    server.documents["notes/1"] = {"n": 1}
    asked: list[tuple[Any, ...]] = []

    async def decide(entry, base, mine, theirs):
        asked.append((entry.id, base, mine, theirs))
        return {"n": 3}

    item = {"path": "notes/1", "body": {"n": 2}, "baseHash": compute_hash(base), "base": base}
    await PushSender(client, on_conflict=decide)(OutboxEntry("e", item, "sending", 0, 0))

    assert asked == [("e", {"n": 0}, {"n": 2}, {"n": 1})]
    assert server.documents["notes/1"] == {"n": 3}


def test_an_on_conflict_that_cannot_be_called_is_refused() -> None:
    client = httpx.AsyncClient()
    with pytest.raises(TypeError, match="must take the entry"):
        PushSender(client, on_conflict=lambda one: None)
    asyncio.run(client.aclose())


async def test_the_application_may_keep_the_servers_document(server: Server, client) -> None:
    server.documents["notes/1"] = {"n": 1}
    await PushSender(client, on_conflict=lambda entry, current: None)(entry({"n": 2}))

    assert server.documents["notes/1"] == {"n": 1}
    assert server.requests.count("POST /push/notes/1") == 1


async def test_a_push_whose_answer_was_lost_counts_as_sent(server: Server, client) -> None:
    server.lose_answers = 1
    queue = OutboxQueue(MemoryCache())
    await queue.hydrate("k")
    await queue.enqueue("e", entry({"n": 1}).item)

    def never(entry: OutboxEntry, current: PullResult) -> None:
        raise AssertionError("this is not a conflict")

    send = PushSender(client, on_conflict=never)
    assert await drain_outbox(queue, send) == DrainResult(0, 0)
    assert await drain_outbox(queue, send) == DrainResult(1, 0)
    assert server.documents == {"notes/1": {"n": 1}}


async def test_a_merge_whose_answer_was_lost_is_not_merged_twice(server: Server, client) -> None:
    server.documents["notes/1"] = {"a": 1}
    server.lose_answers = 1
    send, pushed = PushSender(client), entry({"b": 2})
    with pytest.raises(SendError):
        await send(pushed)
    await send(pushed)

    assert server.documents["notes/1"] == {"a": 1, "b": 2}
    assert server.requests[-1] == "GET /pull/notes/1"


async def test_a_document_that_keeps_changing_is_given_up_for_now(server: Server, client) -> None:
    count = 0

    def change(request: str) -> None:
        nonlocal count
        if request.startswith("POST"):
            count += 1
            server.documents["notes/1"] = {"count": count}

    server.before = change
    with pytest.raises(SendError, match="each of 3 tries") as caught:
        await PushSender(client, max_rounds=3)(entry({"x": 1}))

    assert not isinstance(caught.value, PermanentSendError)
    assert count == 3


@pytest.mark.parametrize("status", [400, 403, 404, 405, 413, 415, 422])
async def test_a_refusal_is_permanent_and_says_why(server: Server, client, status: int) -> None:
    server.before = lambda request: server.json(
        status, {"error": "schema_violation", "detail": "title is required"}
    )

    with pytest.raises(Refused, match=f"{status}: schema_violation: title is required"):
        await PushSender(client)(entry({"x": 1}))


@pytest.mark.parametrize(
    ("status", "body", "headers", "is_certain"),
    [
        (401, {"error": "token expired"}, {}, True),
        (401, {}, {}, True),
        (403, {"error": "insufficient_scope"}, {"WWW_Authenticate": "Bearer"}, True),
        (403, {"error": "Forbidden"}, {}, False),
    ],
)
async def test_a_refusal_of_the_credential_is_not_one_of_the_write(
    server: Server, client, status: int, body: object, headers: dict[str, str], *, is_certain: bool
) -> None:
    server.before = lambda request: server.json(status, body, **headers)

    with pytest.raises(NotAuthorised, match=str(status)) as caught:
        await PushSender(client)(entry({"x": 1}))
    assert caught.value.is_certain is is_certain


@pytest.mark.parametrize("status", [302, 408, 409, 425, 429, 500, 502, 503])
async def test_trouble_that_passes_is_an_outage(server: Server, client, status: int) -> None:
    server.before = lambda request: server.json(status, {"error": "later"})

    with pytest.raises(Unreachable, match=str(status)):
        await PushSender(client)(entry({"x": 1}))


@pytest.mark.parametrize("status", [200, 201, 204, 302, 400, 403, 404, 511])
@pytest.mark.parametrize(
    "page",
    [b"", b"<html>Welcome</html>", b'{"ok": true}', b'{"hash": "abc", "timestamp": 1}', b"[]"],
    ids=["empty", "page", "other json", "no hash", "array"],
)
async def test_an_answer_of_somebody_else_is_neither_success_nor_refusal(
    server: Server, client, status: int, page: bytes
) -> None:
    server.before = lambda request: (status, {}, b"" if status == 204 else page)

    with pytest.raises(Unreachable):
        await PushSender(client)(entry({"x": 1}))


async def test_the_hash_of_another_document_is_not_a_proof(server: Server, client) -> None:
    answer = {"hash": "ab" * 32, "timestamp": 1}
    server.before = lambda r: server.json(200, answer) if r.startswith("POST") else None

    with pytest.raises(Unreachable, match="another document"):
        await PushSender(client)(entry({"x": 1}))
    server.documents["notes/1"] = {"x": 1, "stamped": "by the server"}
    await PushSender(client)(entry({"x": 1}))  # a pull shows it


async def test_a_login_page_behind_a_redirect_is_not_a_proof(server: Server) -> None:
    def answer(request: str) -> Answer | None:
        if request.startswith("POST /push"):
            return 302, {"Location": "/login"}, b""
        return 200, {"Content_Type": "text/html"}, b"<html>log in</html>"

    server.before = answer
    async with httpx.AsyncClient(base_url=server.url, follow_redirects=True) as client:
        with pytest.raises(Unreachable):
            await PushSender(client)(entry({"x": 1}))


@pytest.mark.parametrize("names_base", [True, False])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("others", ["nobody", "another field", "the same field"])
@pytest.mark.parametrize("restarts", [False, True])
async def test_the_last_of_several_offline_edits_is_on_the_server(
    server: Server, client, *, names_base: bool, count: int, others: str, restarts: bool
) -> None:
    base = {"title": "v0", "done": False, "undone": 0}
    server.documents["notes/1"] = {
        "nobody": base,
        "another field": {**base, "more": 1},
        "the same field": {**base, "title": "theirs"},
    }[others]
    queue = OutboxQueue(MemoryCache())
    await queue.hydrate("k")
    for number in range(1, count + 1):
        body = {"title": f"v{number}", "done": number == count, "undone": number % 2}
        item = {"path": "notes/1", "body": body, "baseHash": compute_hash(base)}
        await queue.enqueue(f"e{number}", item | ({"base": base} if names_base else {}))
    send = PushSender(client)
    for _ in range(2 * count):
        await drain_outbox(queue, send)
        send = PushSender(client) if restarts else send

    left = {e.id: e.failure.kind for e in queue.get()}
    assert set(left.values()) <= {"conflict"}
    if others != "the same field" or names_base:
        assert left == {}
        assert server.documents["notes/1"] == {
            "title": f"v{count}",
            "done": True,
            "undone": count % 2,
            **({"more": 1} if others == "another field" else {}),
        }
    else:
        assert f"e{count}" in left
        assert server.documents["notes/1"]["title"] == "theirs"


async def test_an_older_edit_that_is_retried_does_not_undo_a_newer_one(
    server: Server, client
) -> None:
    base = {"a": 0, "b": 0}
    server.documents["notes/1"] = base
    send = PushSender(client)
    first = {"path": "notes/1", "body": {"a": 1, "b": 0}, "baseHash": compute_hash(base)}
    second = {"path": "notes/1", "body": {"a": 2, "b": 0}, "baseHash": compute_hash(base)}
    server.before = lambda r: server.json(422, {"error": "schema_violation"})
    with pytest.raises(Refused):
        await send(OutboxEntry("e1", first | {"base": base}, "sending", 0, 0))
    server.before = lambda r: None
    await send(OutboxEntry("e2", second | {"base": base}, "sending", 0, 0))

    with pytest.raises(Conflict, match="later edit"):
        await send(OutboxEntry("e1", first | {"base": base}, "sending", 1, 0))
    assert server.documents["notes/1"] == {"a": 2, "b": 0}


async def test_waiting_edits_are_sent_as_one_where_the_application_says_so(
    server: Server, client
) -> None:
    base = {"n": 0, "gone": 1}
    server.documents["notes/1"] = {**base, "theirs": 1}
    queue = OutboxQueue(MemoryCache())
    await queue.hydrate("k")
    for number in range(1, 6):
        item = {"path": "notes/1", "body": {"n": number}, "baseHash": compute_hash(base)}
        await queue.enqueue(f"e{number}", item | {"base": base})
    await queue.enqueue("other", {"path": "notes/2", "body": {}, "baseHash": None})

    assert await drain_outbox(queue, PushSender(client, coalesce=True)) == DrainResult(6, 0)
    assert server.documents["notes/1"] == {"n": 5, "theirs": 1}
    assert server.requests.count("POST /push/notes/1") == 2
    assert queue.get() == []


async def test_one_entry_that_a_server_cannot_digest_does_not_hold_up_the_others(
    server: Server, client
) -> None:
    server.before = lambda r: server.json(500, {}) if r.endswith("/bad") else None
    queue = OutboxQueue(MemoryCache())
    await queue.hydrate("k")
    for name in ("bad", "a", "b"):
        await queue.enqueue(name, {"path": f"notes/{name}", "body": {}, "baseHash": None})

    assert await drain_outbox(queue, PushSender(client)) == DrainResult(2, 0)
    assert [(e.id, e.status, e.attempts) for e in queue.get()] == [("bad", "queued", 0)]


@pytest.mark.parametrize("answer", [(401, 1), (403, 2), (500, 2), (503, 1)])
async def test_an_outage_is_asked_about_once_or_twice_and_counts_no_attempt(
    server: Server, client, answer: tuple[int, int]
) -> None:
    status, requests = answer
    server.before = lambda r: server.json(status, {"error": "Forbidden"})
    told: list[str] = []
    queue = OutboxQueue(MemoryCache())
    await queue.hydrate("k")
    for number in range(20):
        await queue.enqueue(f"e{number}", {"path": f"notes/{number}", "body": {}, "baseHash": None})
    result = await drain_outbox(
        queue, PushSender(client), on_unauthorized=lambda entry, error: told.append(entry.id)
    )

    assert len(server.requests) == requests
    assert {(e.status, e.attempts) for e in queue.get()} == {("queued", 0)}
    assert isinstance(result.stopped, NotAuthorised if status < 500 else Unreachable)
    assert bool(told) is (status < 500)
    assert queue.get()[0].failure.kind == ("unauthorised" if status < 500 else "unreachable")


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"path": "my notes/1", "body": {}}, "path"),
        ({"path": "notes/1", "body": {"a": ["\ud800"]}}, "surrogate"),
        ({"path": "notes/1", "body": {"\ud800": 1}}, "surrogate"),
        ({"path": "notes/1", "body": {}, "baseHash": "abc"}, "baseHash"),
        ({"path": "notes/1", "body": {}, "base": 1}, "base is int"),
        ("text", "must be an object"),
    ],
)
def test_an_item_can_be_checked_before_it_is_enqueued(item: object, message: str) -> None:
    with pytest.raises(Refused, match=message):
        PushSender.check(item)
    PushSender.check({"path": "notes/1", "body": {"a": "é"}, "baseHash": None, "base": {}})


@pytest.mark.parametrize(
    ("value", "delay_ms"),
    [
        ("7", 7000),
        ("Tue, 14 Nov 2023 22:13:30 GMT", 10_000),
        ("Tue, 14 Nov 2023 22:13:00 GMT", 0),
        ("999999999", 3_600_000),
    ],
)
async def test_retry_after_is_the_earliest_next_try(
    server: Server, client, now, value: str, delay_ms: int
) -> None:
    server.before = lambda request: server.json(503, {}, Retry_After=value)

    with pytest.raises(Unreachable) as caught:
        await PushSender(client, now_ms=now)(entry({"x": 1}))
    assert caught.value.delay_ms == delay_ms


@pytest.mark.parametrize("value", ["soon", "-5", "1e3", ""])
async def test_a_retry_after_that_says_nothing_is_ignored(
    server: Server, client, value: str
) -> None:
    server.before = lambda request: server.json(503, {}, Retry_After=value)

    with pytest.raises(Unreachable) as caught:
        await PushSender(client)(entry({"x": 1}))
    assert caught.value.delay_ms is None


async def test_no_network_is_an_outage() -> None:
    async with httpx.AsyncClient(base_url="http://127.0.0.1:9") as client:
        with pytest.raises(Unreachable) as caught:
            await PushSender(client)(entry({"x": 1}))
    assert caught.value.is_certain


@pytest.mark.parametrize(
    "item",
    [
        "text",
        {},
        {"path": "notes/1", "body": [1]},
        {"path": 1, "body": {}},
        {"path": "notes/1", "body": {}, "baseHash": 5},
        {"path": "../admin", "body": {}},
        {"path": "//evil.example/x", "body": {}},
        {"path": "notes/1?x=1", "body": {}},
        {"path": "", "body": {}},
        {"path": "notes//1", "body": {}},
        {"path": "http://evil.example/", "body": {}},
    ],
    ids=str,
)
async def test_an_item_that_is_not_a_push_is_permanent_and_never_sent(
    server: Server, client, item: object
) -> None:
    with pytest.raises(PermanentSendError):
        await PushSender(client)(OutboxEntry("e", item, "sending", 0, 0))
    assert server.requests == []


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"data": [], "hash": "", "timestamp": 1}'])
async def test_an_answer_that_is_not_a_document_is_an_outage(
    server: Server, client, content: bytes
) -> None:
    server.documents["notes/1"] = {"n": 1}
    server.before = lambda request: (200, {}, content) if request.startswith("GET") else None

    with pytest.raises(SendError, match="not a document"):
        await PushSender(client)(entry({"x": 1}))


async def test_a_whole_drain_over_the_network(server: Server, client) -> None:
    queue = OutboxQueue(MemoryCache())
    await queue.hydrate("k")
    for number in range(20):
        body = {f"field{number}": number}
        await queue.enqueue(f"e{number}", entry(body, path=f"notes/{number % 4}").item)
    send = PushSender(client)
    result = await drain_outbox(queue, send, concurrency=4, lane=lambda e: e.item["path"])

    assert result == DrainResult(20, 0)
    assert server.documents["notes/0"] == {f"field{n}": n for n in range(0, 20, 4)}


def test_max_rounds_below_one_is_refused() -> None:
    client = httpx.AsyncClient()
    with pytest.raises(ValueError, match="max_rounds is 0"):
        PushSender(client, max_rounds=0)
    asyncio.run(client.aclose())
