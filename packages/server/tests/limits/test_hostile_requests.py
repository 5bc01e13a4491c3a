"""Limits that hold under attack; each with its documented answer, and nothing half written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message

from starfish_protocol.hash import compute_hash
from starfish_server import (
    AuthResult,
    CollectionConfig,
    MemoryObjectStore,
    SyncConfig,
    SyncRouterOptions,
    create_sync_router,
)
from starfish_server.mounting._application import SyncFastAPI
from starfish_server.testing.faulty_store import FaultyStore

LIMIT = 1000


class Server:
    """A router spoken to in raw ASGI, so that a body comes exactly as a test wants it."""

    def __init__(self, **options: Any) -> None:
        async def anybody(_request: Request) -> AuthResult:
            return AuthResult(identity=None)

        self.store = MemoryObjectStore()
        self.faulty = FaultyStore(self.store)
        notes = CollectionConfig(
            name="notes", storage_path="notes/{note}", read_roles=["public"],
            write_roles=["public"], max_body_bytes=LIMIT,
        )  # fmt: skip
        config = SyncConfig(collections=[notes])
        options = {"body_timeout": 0.05, **options}
        self.app = SyncFastAPI()
        self.app.include_router(
            create_sync_router(SyncRouterOptions(self.faulty, config, anybody, **options))
        )
        self.chunks_read = 0

    async def push(
        self,
        chunks: Sequence[bytes | Callable[[], Any] | None],
        *,
        content_length: int | str | None = None,
        path: str = "/push/notes/ada",
    ) -> tuple[int, Any, dict[str, str]] | None:
        """Send chunks; ``None`` in place of one is a client that leaves, a callable is awaited."""
        headers = [(b"content-type", b"application/json")]
        if content_length is None:
            headers.append((b"transfer-encoding", b"chunked"))
        else:
            headers.append((b"content-length", str(content_length).encode()))
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
            "scheme": "http", "path": path, "raw_path": path.encode(), "root_path": "",
            "query_string": b"", "headers": headers, "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }  # fmt: skip
        pending = list(chunks)
        sent: list[Message] = []

        async def receive() -> Message:
            self.chunks_read += 1
            chunk = pending.pop(0)
            if chunk is None:
                return {"type": "http.disconnect"}
            if callable(chunk):
                chunk = await chunk()
            return {"type": "http.request", "body": chunk, "more_body": bool(pending)}

        async def send(message: Message) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        if not sent:
            return None
        start, body = sent
        decoded = {k.decode(): v.decode() for k, v in start["headers"]}
        return start["status"], json.loads(body["body"]), decoded

    async def is_untouched(self) -> bool:
        return await self.store.list_keys("") == []


def push_of(text: str) -> bytes:
    return b'{"data":{"text":' + text.encode() + b"}}"


async def test_a_declared_length_over_the_limit_is_refused_unread() -> None:
    server = Server()

    answer = await server.push([b"x"] * 10, content_length=LIMIT + 1)

    assert answer is not None
    status, body, headers = answer
    assert (status, body) == (413, {"error": "Payload too large"})
    assert headers["connection"] == "close"
    assert server.chunks_read == 0
    assert await server.is_untouched()


@pytest.mark.parametrize("declared", [None, "10", "9" * 5000, "-1", "x"])
async def test_a_chunked_body_is_refused_as_soon_as_it_is_too_large(declared: str | None) -> None:
    server = Server()

    answer = await server.push([b"x" * 300] * 1000, content_length=declared)

    assert answer is not None
    assert answer[:2] == (413, {"error": "Payload too large"})
    assert server.chunks_read <= 4
    assert await server.is_untouched()


async def test_a_body_of_exactly_the_limit_is_taken() -> None:
    body = push_of('"' + "x" * (LIMIT - 20) + '"')
    assert len(body) == LIMIT
    server = Server()

    assert (await server.push([body], content_length=LIMIT) or [0])[0] == 200
    assert (await server.push([body[:10], b"", body[10:] + b" "]) or [0])[0] == 413


@pytest.mark.parametrize(
    ("opening", "closing"),
    [('{"a":', "}"), ("[", "]"), ('[{"a":', "}]")],
    ids=["maps", "lists", "both"],
)
async def test_nesting_deeper_than_64_is_refused(opening: str, closing: str) -> None:
    levels = len(closing)
    fits = (64 - 2) // levels  # the body and the object of data are the first levels

    deepest = push_of(opening * fits + "1" + closing * fits)
    deeper = push_of(opening * (fits + 1) + "1" + closing * (fits + 1))

    server = Server()
    refused = await server.push([deeper])
    assert refused is not None
    assert refused[:2] == (400, {"error": "Body nesting too deep"})
    assert await server.is_untouched()
    assert (await server.push([deepest]) or [0])[0] == 200


@pytest.mark.parametrize("depth", [450, 900])
async def test_absurd_nesting_is_refused_too(depth: int) -> None:
    for body in (
        b"[" * depth + b"]" * depth if depth < 500 else b"[" * depth,
        b'{"a":' * (depth // 5),
    ):
        answer = await Server().push([body])
        assert answer is not None
        assert answer[0] == 400


async def test_brackets_in_text_are_no_nesting() -> None:
    assert (await Server().push([push_of('"' + "[{" * 200 + '"')]) or [0])[0] == 200


@pytest.mark.parametrize("number", ["1e999", "-1e400", "9" * 400, "1e99999999999999999999"])
async def test_a_number_beyond_a_double_is_refused(number: str) -> None:
    server = Server()

    answer = await server.push([push_of(number)])

    assert answer is not None
    assert answer[:2] == (400, {"error": "Invalid JSON body"})
    assert await server.is_untouched()


@pytest.mark.parametrize(
    ("number", "kept"),
    [
        ("123456789012345678901234567890", 1.2345678901234568e29),
        ("1e-400", 0.0),
        ("1" * 300, float("1" * 300)),
    ],
)
async def test_a_number_with_more_digits_than_a_double_is_rounded(number: str, kept: float) -> None:
    server = Server()

    answer = await server.push([push_of(number)])

    assert answer is not None
    assert answer[1]["hash"] == compute_hash({"text": kept})
    assert json.loads(await server.store.get_string("notes/ada") or "")["data"] == {"text": kept}


async def test_of_duplicate_keys_the_last_wins() -> None:
    server = Server()

    answer = await server.push([b'{"data":{"a":1},"data":{"b":1,"b":2}}'])

    assert answer is not None
    assert answer[1]["hash"] == compute_hash({"b": 2})


@pytest.mark.parametrize(
    "text", [b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xed\xa0\x80"', b'"\xff"', b'"\xc0\xaf"']
)
async def test_a_lone_surrogate_or_malformed_utf8_is_refused(text: bytes) -> None:
    server = Server()

    for body in (b'{"data":{"a":' + text + b"}}", b'{"data":{' + text + b":1}}"):
        answer = await server.push([body])
        assert answer is not None
        assert answer[:2] == (400, {"error": "Invalid JSON body"})
    assert await server.is_untouched()


async def test_nul_in_a_document_is_text_like_any_other() -> None:
    server = Server()

    answer = await server.push([b'{"data":{"a\\u0000b":"\\u0000"}}'])

    assert answer is not None
    assert answer[1]["hash"] == compute_hash({"a\0b": "\0"})
    stored = await server.store.get_string("notes/ada") or ""
    assert "\0" not in stored
    assert json.loads(stored)["data"] == {"a\0b": "\0"}


async def test_raw_nul_and_nul_in_a_path_are_refused() -> None:
    server = Server()

    raw = await server.push([b'{"data":{"a":"\0"}}'])
    path = await server.push([b'{"data":{}}'], path="/push/notes/a\0")

    assert raw is not None
    assert path is not None
    assert raw[:2] == (400, {"error": "Invalid JSON body"})
    assert path[:2] == (400, {"error": "Invalid path parameter"})
    assert await server.is_untouched()


async def test_a_client_that_stalls_is_let_go() -> None:
    async def never() -> bytes:
        await asyncio.sleep(60)
        raise AssertionError

    server = Server()

    answer = await server.push([b'{"data":', never, b"{}}"])

    assert answer is not None
    status, body, headers = answer
    assert (status, body) == (408, {"error": "Request body too slow"})
    assert headers["connection"] == "close"
    assert await server.is_untouched()


async def test_a_client_that_trickles_is_let_go_in_total_not_a_chunk() -> None:
    async def drop() -> bytes:
        await asyncio.sleep(0.01)
        return b" "

    answer = await Server().push([drop] * 100)

    assert answer is not None
    assert answer[0] == 408


@pytest.mark.parametrize("before", [0, 1, 3])
async def test_a_client_that_leaves_in_mid_push_writes_nothing(before: int) -> None:
    server = Server()

    answer = await server.push([b'{"data":{}} '] * before + [None])

    assert answer is None
    assert await server.is_untouched()


async def test_a_request_that_is_cancelled_in_the_store_writes_all_or_nothing() -> None:
    server = Server()
    before = await server.push([b'{"data":{"n":1}}'])
    assert before is not None
    async with server.faulty.stalled("put_if_match") as reached:
        task = asyncio.create_task(
            server.push([json.dumps({"data": {"n": 2}, "baseHash": before[1]["hash"]}).encode()])
        )
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    stored = json.loads(await server.store.get_string("notes/ada") or "")
    assert stored["hash"] == compute_hash(stored["data"])
    assert stored["data"] in ({"n": 1}, {"n": 2})


async def test_a_store_that_is_away_is_503_and_says_when_to_come_back() -> None:
    server = Server()
    server.faulty.fail("put_if_match", times=1)

    answer = await server.push([b'{"data":{}}'])

    assert answer is not None
    status, body, headers = answer
    assert (status, body) == (503, {"error": "Storage unavailable"})
    assert headers["retry-after"] == "1"
    assert await server.is_untouched()
    assert (await server.push([b'{"data":{}}']) or [0])[0] == 200
