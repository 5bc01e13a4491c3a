"""Whole answers, sent in raw ASGI with nothing in between."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from starfish_http.errors import PROBLEM_MEDIA_TYPE, RequestRefusedError, problem

__all__ = (
    "Answer",
    "Headers",
    "bytes_answer",
    "json_answer",
    "problem_answer",
    "raw_json_answer",
    "refusal_answer",
    "send_answer",
)

_JSON = (b"content-type", b"application/json")
_PROBLEM = (b"content-type", PROBLEM_MEDIA_TYPE.encode())
_WITHOUT_LENGTH = frozenset({204, 304})

Headers = list[tuple[bytes, bytes]]
"""Header lines as ASGI takes them: names in lower case."""


class Answer:
    """A whole HTTP response; an ASGI application that answers every request with it."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, body: bytes, headers: Headers) -> None:
        self.status = status
        self.body = body
        self.headers = headers
        """Without ``Content-Length``, which `send_answer` adds."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - an ASGI application
        """Send it; to ``HEAD``, its headers only."""
        await send_answer(send, self, without_body=scope["method"] == "HEAD")


def json_answer(status: int, content: Any, headers: Headers | None = None) -> Answer:
    """An answer whose body is the JSON of a value.

    Examples:
        >>> json_answer(200, {"ok": True}).body
        b'{"ok":true}'
    """
    return Answer(status, orjson.dumps(content), [_JSON, *(headers or ())])


def raw_json_answer(body: bytes, headers: Headers | None = None) -> Answer:
    """A 200 whose body is JSON text already."""
    return Answer(200, body, [_JSON, *headers] if headers else [_JSON])


def bytes_answer(status: int, body: bytes, content_type: str, headers: Headers) -> Answer:
    """An answer of any content type."""
    return Answer(status, body, [(b"content-type", content_type.encode("latin-1")), *headers])


def problem_answer(
    status: int, code: str, detail: str, headers: Headers | None = None, /, **facts: Any
) -> Answer:
    """A refusal in the shape of `starfish_http.errors`.

    Examples:
        >>> problem_answer(404, "not_found", "there is no note 7").body
        b'{"error":"not_found","detail":"there is no note 7","status":404}'
    """
    return Answer(status, problem(status, code, detail, **facts), [_PROBLEM, *(headers or ())])


def refusal_answer(refusal: RequestRefusedError) -> Answer:
    """The answer that a refusal is sent as; `starfish_http.errors.refusal_of` makes one of any error."""
    lines = [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in (refusal.headers or {}).items()
    ]
    return Answer(refusal.status, refusal.body(), [_PROBLEM, *lines])


async def send_answer(send: Send, answer: Answer, *, without_body: bool = False) -> None:
    """Send an answer; to ``HEAD``, its headers only."""
    headers = answer.headers
    if answer.status not in _WITHOUT_LENGTH:
        headers = [*headers, (b"content-length", b"%d" % len(answer.body))]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if without_body else answer.body})
