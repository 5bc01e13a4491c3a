"""The body of a request, never more of it than is accepted."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

from starfish_mpack_wire.errors import InvalidMessageError
from starfish_mpack_wire.server.errors import RequestTooLargeError

__all__ = ("body_pieces", "read_body")


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
