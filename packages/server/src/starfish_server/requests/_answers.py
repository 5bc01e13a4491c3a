"""Answers, and how they are sent without anything in between."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson
from starlette.types import Send

from starfish_protocol.constants import ERROR_FIELD

__all__ = (
    "Answer",
    "Headers",
    "StreamedAnswer",
    "bytes_answer",
    "error_answer",
    "json_answer",
    "raw_json_answer",
    "send_answer",
)

_JSON = (b"content-type", b"application/json")
Headers = list[tuple[bytes, bytes]]


class Answer:
    """A whole HTTP response."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, body: bytes, headers: Headers) -> None:
        self.status = status
        self.body = body
        self.headers = headers
        """Without ``Content-Length``, which `send_answer` adds."""


class StreamedAnswer(Answer):
    """A response whose body is read from the store while the client takes it.

    Args:
        status: 200 or 206.
        pieces: the body, in order.
        size: of the whole body, in bytes.
        content_type: of the body.
        headers: others.
    """

    __slots__ = ("_pieces",)

    def __init__(
        self,
        status: int,
        pieces: AsyncGenerator[bytes],
        size: int,
        content_type: str,
        headers: Headers,
    ) -> None:
        described = [
            (b"content-type", content_type.encode("latin-1")),
            (b"content-length", b"%d" % size),
        ]
        super().__init__(status, b"", [*described, *headers])
        self._pieces = pieces

    async def run(self, send: Send, *, without_body: bool) -> None:
        """Send it; an error in the middle goes on, so that the connection ends short."""
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        async with aclosing(self._pieces) as pieces:
            if not without_body:
                async for piece in pieces:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def json_answer(status: int, content: Any, headers: Headers | None = None) -> Answer:
    """An answer whose body is the JSON of a value."""
    return Answer(status, orjson.dumps(content), [_JSON, *(headers or ())])


def raw_json_answer(body: bytes, headers: Headers | None = None) -> Answer:
    """A 200 whose body is JSON text already."""
    return Answer(200, body, [_JSON, *headers] if headers else [_JSON])


def bytes_answer(status: int, body: bytes, content_type: str, headers: Headers) -> Answer:
    """An answer of any content type."""
    return Answer(status, body, [(b"content-type", content_type.encode("latin-1")), *headers])


def error_answer(status: int, error: str, headers: Headers | None = None, **fields: Any) -> Answer:
    """A refusal: ``{"error": …}`` and what else the client may want to know."""
    return json_answer(status, {ERROR_FIELD: error, **fields}, headers)


async def send_answer(send: Send, answer: Answer, *, without_body: bool = False) -> None:
    """Send an answer; to ``HEAD``, its headers only."""
    headers = answer.headers
    if answer.status not in {204, 304}:
        headers = [*headers, (b"content-length", b"%d" % len(answer.body))]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if without_body else answer.body})
