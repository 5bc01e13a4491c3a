"""An answer to a request whose body has not been read to its end: a refusal that is heard.

A server that closes a connection in which bytes wait unread makes the system reset it, and a reset
takes away the answer that the client has not read yet. So the client gets the whole answer at once,
and the connection ends only after the bytes that it still sends were read and thrown away for a while.
"""

from __future__ import annotations

import asyncio
import contextlib

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ("Lingering",)


class Lingering:
    """Answers with another ASGI application or response, after which the connection closes.

    Args:
        answer: an `Answer`, a Starlette ``Response`` or any other ASGI application.
        linger_s: how long the rest of the body is read at most.
    """

    def __init__(self, answer: ASGIApp, linger_s: float = 2.0) -> None:
        self._answer = answer
        self._linger_s = linger_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, and end it when the client is done."""

        async def send_but_the_end(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [line for line in message["headers"] if line[0].lower() != b"connection"]
                await send({**message, "headers": [*kept, (b"connection", b"close")]})
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                # The length is in the headers: the client knows that this is all of it.
                await send({**message, "more_body": True})
                await _discard(receive, self._linger_s)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                await send(message)

        await self._answer(scope, receive, send_but_the_end)


async def _discard(receive: Receive, limit_s: float) -> None:
    """Read until the body is complete, the client is gone or the time is over."""
    loop = asyncio.get_running_loop()
    end = loop.time() + limit_s
    # RuntimeError: another reader in front of us was at the end already.
    with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError):
        async with asyncio.timeout_at(end):
            # The clock is looked at too: a client that is fast enough never lets the timeout in.
            while loop.time() < end:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
