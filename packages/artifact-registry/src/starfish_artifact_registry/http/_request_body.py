"""The body of a request, within limits of size and time, whoever reads it."""

from __future__ import annotations

import asyncio

from starlette.types import Message, Receive, Scope

from starfish_artifact_registry.http._refusals import RequestRefusedError
from starfish_artifact_registry.http.limits import HttpLimits

__all__ = ("BoundedBody",)

_CLOSE = {"connection": "close"}  # the rest of the body stays unread


class BoundedBody:
    """An ASGI ``receive`` that refuses a body that is too long or comes too slowly.

    Only the time that is spent waiting for the client counts, not what the reader takes between.
    """

    def __init__(
        self, scope: Scope, receive: Receive, limits: HttpLimits, *, max_bytes: int
    ) -> None:
        self._receive = receive
        self._limits = limits
        self._max_bytes = max_bytes
        self._size = 0
        self._progress = 0
        self._waited_s = 0.0
        self.is_complete = scope["method"] in {"GET", "HEAD"}
        """Whether all of it has been read, or there is none."""
        self._declared = _content_length(scope)

    async def __call__(self) -> Message:
        """The next message of the client.

        Raises:
            RequestRefusedError: 413, as soon as it is known; 408; 400 for a broken length.
        """
        if self.is_complete:
            return await self._receive()  # the next news is that the client has gone
        if self._declared is not None and self._declared > self._max_bytes:
            raise self._too_large()
        message = await self._receive_in_time()
        if message["type"] != "http.request":
            return message
        length = len(message.get("body", b""))
        self._size += length
        if self._size > self._max_bytes:
            raise self._too_large()
        self._progress += length
        if self._progress >= self._limits.min_body_bytes:
            self._progress, self._waited_s = 0, 0.0
        if not message.get("more_body", False):
            self.is_complete = True
            if self._declared is not None and self._size != self._declared:
                raise RequestRefusedError(
                    400,
                    "incomplete_body",
                    f"the body has {self._size} bytes, Content-Length promised {self._declared}",
                    headers=_CLOSE,
                )
        return message

    async def _receive_in_time(self) -> Message:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._limits.body_interval_s - self._waited_s):
                return await self._receive()
        except TimeoutError as error:
            raise RequestRefusedError(
                408,
                "body_too_slow",
                f"less than {self._limits.min_body_bytes} bytes of the body arrived within "
                f"{self._limits.body_interval_s:g} s",
                headers=_CLOSE,
            ) from error
        finally:
            self._waited_s += loop.time() - began

    def _too_large(self) -> RequestRefusedError:
        return RequestRefusedError(
            413,
            "body_too_large",
            f"a body of this request has at most {self._max_bytes} bytes",
            headers=_CLOSE,
            max_bytes=self._max_bytes,
        )


def _content_length(scope: Scope) -> int | None:
    for name, value in scope["headers"]:
        if name == b"content-length":
            if not value.isdigit():
                raise RequestRefusedError(
                    400, "invalid_request", "Content-Length is not a number", headers=_CLOSE
                )
            return int(value[:20])
    return None
