"""An answer that goes on: Server-Sent Events (HTML Living Standard, section 9.2).

It ends when the client leaves or reads too slowly, when the server stops, and after a while by
itself; the client comes back with the last ``id`` that it saw.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.types import Receive, Send

from starfish_server.errors import ServerError
from starfish_server.requests._answers import Answer, Headers

__all__ = ("EventStream",)

_LOG = logging.getLogger(__name__)
_HEADERS: Headers = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
]
_UNREAD_S = 30.0
"""How long a client may leave events unread."""


class EventStream(Answer):
    """A 200 whose body is made while it is sent.

    Args:
        blocks: what to send, each complete.
        stopping: set when the server stops.
    """

    __slots__ = ("_blocks", "_stopping")

    def __init__(self, blocks: AsyncGenerator[bytes], stopping: asyncio.Event) -> None:
        super().__init__(200, b"", _HEADERS)
        self._blocks = blocks
        self._stopping = stopping

    async def run(self, receive: Receive, send: Send) -> None:
        """Send until one side has had enough."""
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        writing = asyncio.create_task(self._write(send))
        ends = (
            writing,
            asyncio.create_task(_client_left(receive)),
            asyncio.create_task(self._stopping.wait()),
        )
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in ends:
                task.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
        if not writing.cancelled() and isinstance(writing.exception(), TimeoutError):
            return  # the end would wait behind the unread events
        await send({"type": "http.response.body", "body": b""})

    async def _write(self, send: Send) -> None:
        try:
            async with aclosing(self._blocks) as blocks:
                async for block in blocks:
                    async with asyncio.timeout(_UNREAD_S):
                        await send({"type": "http.response.body", "body": block, "more_body": True})
        except TimeoutError:
            raise
        except ServerError as error:
            _LOG.error("an event stream ends early: %s", error)
        except Exception:  # noqa: BLE001 - a plugin's or our own fault ends this stream alone
            _LOG.exception("an event stream failed")


async def _client_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
