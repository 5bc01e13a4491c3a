"""The body of a request, within limits of size and time for every reader."""

from __future__ import annotations

import asyncio

from starlette.types import Message, Receive, Scope

from starfish_artifact_registry.http._limits import HttpLimits
from starfish_artifact_registry.http._refusals import RequestRefusedError

__all__ = ("BoundedBody",)


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
        self._declared = _declared_length(scope)
        self._is_complete = scope["method"] in {"GET", "HEAD"}

    @property
    def is_unread(self) -> bool:
        """Whether some of it may still come."""
        return not self._is_complete and self._declared != 0

    async def __call__(self) -> Message:
        """The next message of the client.

        Raises:
            RequestRefusedError: 413, as soon as it is known; 408; 400 for another length than
                was declared.
        """
        if self._is_complete:
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
            self._is_complete = True
            if self._declared is not None and self._size != self._declared:
                raise RequestRefusedError(
                    400,
                    "incomplete_body",
                    f"the body has {self._size} bytes, its header promised {self._declared}",
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
            ) from error
        finally:
            self._waited_s += loop.time() - began

    def _too_large(self) -> RequestRefusedError:
        return RequestRefusedError(
            413,
            "body_too_large",
            f"a body of this request has at most {self._max_bytes} bytes",
            max_bytes=self._max_bytes,
        )


def _declared_length(scope: Scope) -> int | None:
    """How long the headers say the body is; ``None`` when its end will tell."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value[:20])
        if name == b"transfer-encoding":
            return None
    # RFC 9112, section 6.3: a request of HTTP/1 that says nothing has no body.
    return 0 if scope["http_version"].startswith("1") else None
