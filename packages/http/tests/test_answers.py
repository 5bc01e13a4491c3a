from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message

from starfish_http.answers import (
    bytes_answer,
    json_answer,
    problem_answer,
    raw_json_answer,
    refusal_answer,
)
from starfish_http.errors import AuthError
from starfish_http.linger import Lingering


async def call(
    app: ASGIApp, *incoming: Message, method: str = "GET"
) -> tuple[int, dict[bytes, bytes], list[Message]]:
    sent: list[Message] = []
    waiting = list(incoming)

    async def receive() -> Message:
        if not waiting:
            await asyncio.sleep(600)
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": "http", "method": method, "path": "/", "headers": []}
    await app(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1:]


@pytest.mark.parametrize(
    ("answer", "status", "content_type", "body"),
    [
        (json_answer(201, {"a": 1}), 201, b"application/json", b'{"a":1}'),
        (raw_json_answer(b"[]", [(b"etag", b'"x"')]), 200, b"application/json", b"[]"),
        (bytes_answer(206, b"ab", "image/png", []), 206, b"image/png", b"ab"),
        (
            problem_answer(409, "taken", "the name is taken", name="x"),
            409,
            b"application/problem+json",
            b'{"error":"taken","detail":"the name is taken","status":409,"name":"x"}',
        ),
    ],
)
async def test_an_answer_is_sent_whole_and_to_head_without_its_body(
    answer: ASGIApp, status: int, content_type: bytes, body: bytes
) -> None:
    for method, sent_body in (("GET", body), ("HEAD", b"")):
        found, headers, messages = await call(answer, method=method)

        assert (found, headers[b"content-type"]) == (status, content_type)
        assert headers[b"content-length"] == str(len(body)).encode()
        assert [each["body"] for each in messages] == [sent_body]


async def test_an_answer_without_content_announces_no_length() -> None:
    _, headers, _ = await call(bytes_answer(304, b"", "text/plain", []))

    assert b"content-length" not in headers


async def test_a_refusal_is_answered_with_its_headers() -> None:
    status, headers, _ = await call(refusal_answer(AuthError("no")))

    assert status == 401
    assert headers[b"www-authenticate"] == b"Bearer"


@pytest.mark.parametrize("answer", [json_answer(413, {}), PlainTextResponse("{}", 413)])
async def test_a_refusal_is_sent_at_once_and_ended_when_the_client_is_done(answer: ASGIApp) -> None:
    more: Message = {"type": "http.request", "body": b"x", "more_body": True}
    last: Message = {"type": "http.request", "body": b"x", "more_body": False}

    status, headers, messages = await call(Lingering(answer), more, more, last)

    assert (status, headers[b"connection"], headers[b"content-length"]) == (413, b"close", b"2")
    assert [(each["body"], each["more_body"]) for each in messages] == [(b"{}", True), (b"", False)]


async def test_a_client_that_never_ends_is_not_waited_for() -> None:
    async with asyncio.timeout(5):
        await call(Lingering(json_answer(413, {}), linger_s=0.05))
