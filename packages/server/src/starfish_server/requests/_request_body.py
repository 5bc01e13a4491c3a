"""A request's body, read within limits of size and time before anybody interprets it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from starlette.types import Message, Receive, Scope

from starfish_server.requests._refusals import ClientDisconnectedError, RequestRefusedError
from starfish_server.requests._time_limit import within

__all__ = ("RequestBody", "header")


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of a name, which must be lower case."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


class RequestBody:
    """The body of one request, read at most once."""

    __slots__ = ("_content", "_limit", "_receive", "_scope", "_timeout")

    def __init__(self, scope: Scope, receive: Receive, limit: int, timeout: float) -> None:
        self._scope = scope
        self._receive = receive
        self._limit = limit
        self._timeout = timeout
        self._content: bytes | None = None

    async def read(self) -> bytes:
        """The whole body.

        Raises:
            RequestRefusedError: 413 as soon as the limit is known to be passed, 408 when the
                client is too slow.
            ClientDisconnectedError: the client left in the middle.
        """
        if self._content is None:
            self._check_declared()
            try:
                self._content = await within(self._timeout, self._read_within_limit())
            except TimeoutError as error:
                raise _too_slow() from error
        return self._content

    def is_short(self, size: int) -> bool:
        """Whether the body is here already, or announces no more than so many bytes."""
        declared = header(self._scope, b"content-length")
        if self._content is not None:
            return True
        return declared is not None and declared.isdigit() and int(declared[:20]) <= size

    async def pieces(self) -> AsyncGenerator[bytes]:
        """The body as it arrives; raises as `read`."""
        if self._content is not None:
            yield self._content
            return
        self._check_declared()
        size = 0
        more = True
        loop = asyncio.get_running_loop()
        end = loop.time() + self._timeout
        while more:
            try:
                message = await within(max(end - loop.time(), 0.001), self._receive())
            except TimeoutError as error:
                raise _too_slow() from error
            if message["type"] == "http.disconnect":
                raise ClientDisconnectedError
            piece: bytes = message.get("body", b"")
            size += len(piece)
            if size > self._limit:
                raise _too_large()
            more = message.get("more_body", False)
            if piece:
                yield piece

    def _check_declared(self) -> None:
        declared = header(self._scope, b"content-length")
        if declared is not None and declared.isdigit() and int(declared[:20]) > self._limit:
            raise _too_large()

    async def replay(self) -> Message:
        """The ASGI ``receive`` of somebody else who wants the body: a role resolver."""
        return {"type": "http.request", "body": await self.read(), "more_body": False}

    async def _read_within_limit(self) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnectedError
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > self._limit:
                raise _too_large()
            if not message.get("more_body", False):
                return b"".join([*chunks, chunk]) if chunks else chunk
            if chunk:
                chunks.append(chunk)


def _too_slow() -> RequestRefusedError:
    return RequestRefusedError(408, "Request body too slow", leaves_body_unread=True)


def _too_large() -> RequestRefusedError:
    return RequestRefusedError(413, "Payload too large", leaves_body_unread=True)
