"""Answers of this server: refusals in the shape of the public protocol, and bytes in pieces."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.types import Send

from starfish_http.answers import Answer, Headers, json_answer
from starfish_protocol.constants import ERROR_FIELD

__all__ = ("StreamedAnswer", "error_answer")


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


def error_answer(status: int, error: str, headers: Headers | None = None, **fields: Any) -> Answer:
    """A refusal: ``{"error": …}`` and what else the client may want to know."""
    return json_answer(status, {ERROR_FIELD: error, **fields}, headers)
