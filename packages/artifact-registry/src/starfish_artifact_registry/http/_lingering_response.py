"""An answer to a request whose body has not been read to its end.

A server that closes a connection in which bytes wait unread makes the system reset it, and a reset
takes away what the client has not read yet: the answer. So the client gets the whole answer at once,
and the connection ends only after what it still sends was read and thrown away for a while.
"""

from __future__ import annotations

import asyncio
import contextlib

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from typing_extensions import override

__all__ = ("LingeringResponse",)


class LingeringResponse(Response):
    """An answer after which the connection closes, at most ``linger_s`` later."""

    def __init__(self, answer: Response, linger_s: float) -> None:
        super().__init__(status_code=answer.status_code)
        self.raw_headers = answer.raw_headers
        answer.headers["connection"] = "close"
        self._answer = answer
        self._linger_s = linger_s

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_but_the_end(message: Message) -> None:
            is_last = message["type"] == "http.response.body" and not message.get("more_body")
            if not is_last:
                await send(message)
                return
            # The length is in the headers: the client knows that this is all of it.
            await send({**message, "more_body": True})
            await _discard(receive, self._linger_s)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        await self._answer(scope, receive, send_but_the_end)


async def _discard(receive: Receive, limit_s: float) -> None:
    """Read until the body is complete, the client is gone or the time is over."""
    loop = asyncio.get_running_loop()
    end = loop.time() + limit_s
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(end):
            # The clock is looked at too: a client that is fast enough never lets the timeout in.
            while loop.time() < end:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
