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
    DrainResult,
    OutboxEntry,
    OutboxQueue,
    PermanentSendError,
    RetryAfterError,
    SendError,
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


async def test_a_conflict_is_merged_and_the_servers_values_win(server: Server, client) -> None:
    server.documents["notes/1"] = {"a": "theirs", "b": {"x": 1}}
    await PushSender(client)(entry({"a": "ours", "b": {"y": 2}, "c": 3}, base="0" * 64))

    assert server.documents["notes/1"] == {"a": "theirs", "b": {"x": 1, "y": 2}, "c": 3}
    assert server.requests == ["POST /push/notes/1", "GET /pull/notes/1", "POST /push/notes/1"]


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
        raise AssertionError("this is no conflict")

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


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 415, 422])
async def test_a_refusal_is_permanent(server: Server, client, status: int) -> None:
    server.before = lambda request: server.json(status, {"error": "no"})

    with pytest.raises(PermanentSendError, match=str(status)):
        await PushSender(client)(entry({"x": 1}))


@pytest.mark.parametrize("status", [302, 408, 409, 425, 429, 500, 502, 503])
async def test_trouble_that_passes_is_an_ordinary_failure(
    server: Server, client, status: int
) -> None:
    server.before = lambda request: server.json(status, {"error": "later"})

    with pytest.raises(SendError) as caught:
        await PushSender(client)(entry({"x": 1}))
    assert type(caught.value) is SendError


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

    with pytest.raises(RetryAfterError) as caught:
        await PushSender(client, now_ms=now)(entry({"x": 1}))
    assert caught.value.delay_ms == delay_ms


@pytest.mark.parametrize("value", ["soon", "-5", "1e3", ""])
async def test_a_retry_after_that_says_nothing_is_ignored(
    server: Server, client, value: str
) -> None:
    server.before = lambda request: server.json(503, {}, Retry_After=value)

    with pytest.raises(SendError) as caught:
        await PushSender(client)(entry({"x": 1}))
    assert type(caught.value) is SendError


async def test_no_network_is_an_ordinary_failure() -> None:
    async with httpx.AsyncClient(base_url="http://127.0.0.1:9") as client:
        with pytest.raises(SendError) as caught:
            await PushSender(client)(entry({"x": 1}))
    assert type(caught.value) is SendError


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
async def test_an_item_that_is_no_push_is_permanent_and_never_sent(
    server: Server, client, item: object
) -> None:
    with pytest.raises(PermanentSendError):
        await PushSender(client)(OutboxEntry("e", item, "sending", 0, 0))
    assert server.requests == []


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"data": [], "hash": "", "timestamp": 1}'])
async def test_an_answer_that_is_no_document_is_an_ordinary_failure(
    server: Server, client, content: bytes
) -> None:
    server.documents["notes/1"] = {"n": 1}
    server.before = lambda request: (200, {}, content) if request.startswith("GET") else None

    with pytest.raises(SendError, match="no document"):
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
