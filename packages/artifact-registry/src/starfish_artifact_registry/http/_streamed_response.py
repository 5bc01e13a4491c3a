"""An answer that is made while it is sent, to a client that may stop reading."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping

from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send
from typing_extensions import override

__all__ = ("StreamedResponse",)


class StreamedResponse(StreamingResponse):
    """A stream of bytes whose source is closed at the end, however the end comes.

    A client that leaves a chunk unread for ``unread_timeout_s`` loses the connection.
    """

    def __init__(
        self,
        chunks: AsyncGenerator[bytes],
        *,
        status: int = 200,
        media_type: str,
        headers: Mapping[str, str],
        unread_timeout_s: float,
    ) -> None:
        super().__init__(chunks, status, headers)
        self.headers["content-type"] = media_type
        self._chunks = chunks
        self._unread_timeout_s = unread_timeout_s

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(self._unread_timeout_s):
                await send(message)

        async with contextlib.aclosing(self._chunks):
            # A begun answer cannot become an error any more: the connection ends before the body.
            with contextlib.suppress(TimeoutError):
                await super().__call__(scope, receive, send_in_time)
