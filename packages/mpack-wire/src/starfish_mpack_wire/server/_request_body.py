"""The body of a request, never more of it than is accepted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from starfish_mpack_wire.errors import InvalidMessageError
from starfish_mpack_wire.server.errors import RequestTooLargeError

__all__ = ("LingeringResponse", "body_pieces", "read_body")

LINGER_S = 2.0
"""How long a body that is refused is thrown away; enough for a client to notice the answer."""


async def body_pieces(request: Request, what: str, allowed: int) -> AsyncIterator[bytes]:
    """The body as it arrives.

    Raises:
        RequestTooLargeError: before anything is read when the length is announced, otherwise as soon as it shows.
        InvalidMessageError: the client left in the middle.
    """
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > allowed:
        raise RequestTooLargeError(what, allowed)
    size = 0
    try:
        async for piece in request.stream():
            size += len(piece)
            if size > allowed:
                raise RequestTooLargeError(what, allowed)
            yield piece
    except ClientDisconnect as error:
        raise InvalidMessageError("the body ended before it was complete") from error


async def read_body(request: Request, allowed: int) -> bytes:
    """The whole body.

    Raises:
        RequestTooLargeError: it is over the cap.
        InvalidMessageError: the client left in the middle.
    """
    return b"".join([piece async for piece in body_pieces(request, "body", allowed)])


class LingeringResponse(Response):
    """An answer to a request whose body was not read to its end.

    Closing a connection with unread bytes in it resets it, and a client that is still sending may never
    see the answer. So the answer goes out first, and then the rest of the body is thrown away until the client has seen
    it and stops, or `LINGER_S` are over.
    """

    def __init__(self, request: Request, answer: Response) -> None:
        super().__init__(answer.body, answer.status_code, {**answer.headers, "connection": "close"})
        self._request = request

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send the answer, and end it when the client is done."""
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        # RuntimeError: the stream was at its end, or a reader in front of us has read it.
        with suppress(TimeoutError, ClientDisconnect, RuntimeError):
            async with asyncio.timeout(LINGER_S):
                async for _ in self._request.stream():
                    pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})
