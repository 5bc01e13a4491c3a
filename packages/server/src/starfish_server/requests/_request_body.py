"""A request's body, read within limits of size, time and depth before anybody interprets it."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.types import Message, Receive, Scope

from starfish_server.documents._json_shapes import is_list, is_object
from starfish_server.requests._refusals import ClientDisconnectedError, RequestRefusedError
from starfish_server.requests._time_limit import within

__all__ = ("MAX_DEPTH", "RequestBody", "header", "parse_json_object")

MAX_DEPTH = 64
"""How deep ``data`` may nest, the object itself included."""
_MAX_CONTAINERS = MAX_DEPTH + 1  # the body around data is one more


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
            declared = header(self._scope, b"content-length")
            if declared is not None and declared.isdigit() and int(declared[:20]) > self._limit:
                raise _too_large()
            try:
                self._content = await within(self._timeout, self._read_within_limit())
            except TimeoutError as error:
                raise RequestRefusedError(
                    408, "Request body too slow", leaves_body_unread=True
                ) from error
        return self._content

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


def _too_large() -> RequestRefusedError:
    return RequestRefusedError(413, "Payload too large", leaves_body_unread=True)


def parse_json_object(body: bytes) -> dict[str, Any]:
    """Read a JSON object; of duplicate keys the last wins, as in JavaScript.

    Raises:
        RequestRefusedError: it is not JSON, not an object, or nested too deep.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        too_deep = "depth limit" in error.msg
        raise RequestRefusedError(
            400, "Body nesting too deep" if too_deep else "Invalid JSON body"
        ) from error
    if not is_object(value):
        raise RequestRefusedError(400, "Body must be a JSON object")
    # Fewer brackets than levels allowed: the common case, found without a walk.
    if body.count(b"{") + body.count(b"[") > _MAX_CONTAINERS and _is_too_deep(value):
        raise RequestRefusedError(400, "Body nesting too deep")
    return value


def _is_too_deep(value: dict[str, Any]) -> bool:
    level: list[Any] = [value]
    for _depth in range(_MAX_CONTAINERS):
        level = [
            member
            for container in level
            for member in (container.values() if is_object(container) else container)
            if is_object(member) or is_list(member)
        ]
        if not level:
            return False
    return True
