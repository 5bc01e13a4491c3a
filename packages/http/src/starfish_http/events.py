"""An answer that goes on: Server-Sent Events (HTML Living Standard, section 9.2).

Rule 1: nothing is gathered for a reader. The next block is asked for when the one before it went into
the connection; a reader who takes nothing loses the connection and resumes with the last ``id`` seen.
Rule 2: a stream ends when the client leaves or reads too slowly, when the server stops, and after a
while by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager

from starlette.types import Receive, Scope, Send

from starfish_http.errors import RequestRefusedError
from starfish_http.stopping import stopping_of

__all__ = ("COMMENT", "EventStream", "StreamBudget", "format_event")

_LOG = logging.getLogger(__name__)
_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
]

COMMENT = b": \n\n"
"""Clients ignore it; proxies see that the connection lives."""


def format_event(
    data: str | bytes,
    *,
    event: str | None = None,
    id_: str | None = None,
    retry_ms: int | None = None,
) -> bytes:
    r"""The text of one event.

    Args:
        data: any text; each of its lines becomes a ``data`` line.
        event: its type.
        id_: what a client resumes by.
        retry_ms: how long a client waits before it connects again.

    Raises:
        ValueError: ``event`` or ``id_`` has a line break, or ``id_`` a NUL.

    Examples:
        >>> format_event("a\nb", event="change", id_="7")
        b'event: change\nid: 7\ndata: a\ndata: b\n\n'
    """
    for name, value in (("event", event), ("id", id_)):
        if value is not None and any(each in value for each in "\r\n\0"):
            raise ValueError(f"{name} {value!r:.80} must be one line without NUL")
    text = data.encode() if isinstance(data, str) else data
    lines = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    head = b""
    if event is not None:
        head += b"event: %b\n" % event.encode()
    if id_ is not None:
        head += b"id: %b\n" % id_.encode()
    if retry_ms is not None:
        head += b"retry: %d\n" % retry_ms
    return head + b"".join(b"data: %b\n" % line for line in lines) + b"\n"


class EventStream:
    """A 200 whose body is made while it is sent; an ASGI application.

    Args:
        blocks: complete events, one or several in a block; closed at the end.
        heartbeat_s: a comment is sent when nothing else was for so long.
        lifetime_s: after which the stream ends by itself.
        unread_s: how long a client may leave a block unread.
        stopping: set when the server stops; ``None`` asks `stopping_of` the request.
        headers: further header lines.
    """

    def __init__(
        self,
        blocks: AsyncIterator[bytes],
        *,
        heartbeat_s: float = 15.0,
        lifetime_s: float = 900.0,
        unread_s: float = 30.0,
        stopping: asyncio.Event | None = None,
        headers: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        self._blocks = blocks
        self._heartbeat_s = heartbeat_s
        self._lifetime_s = lifetime_s
        self._unread_s = unread_s
        self._stopping = stopping
        self.status = 200
        """The answer's status."""
        self.headers = [*_HEADERS, *(headers or ())]
        """The answer's header lines."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until one side has had enough."""
        stopping = self._stopping or stopping_of(scope) or asyncio.Event()
        ends = (
            asyncio.create_task(_client_left(receive)),
            asyncio.create_task(_until(stopping)),
        )
        source = _Source(self._blocks)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.headers})
            await self._run(source, ends, send)
        except TimeoutError:
            return  # an end that is sent would wait behind the unread blocks
        finally:
            for task in ends:
                task.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
            await source.close()
        await send({"type": "http.response.body", "body": b""})

    async def _run(self, source: _Source, ends: tuple[asyncio.Task[None], ...], send: Send) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._lifetime_s
        block: bytes | None = COMMENT  # the client learns at once that it is connected
        while block is not None:
            async with asyncio.timeout(self._unread_s):
                await send({"type": "http.response.body", "body": block, "more_body": True})
            following = source.following()
            await asyncio.wait(
                (following, *ends),
                timeout=max(0.0, min(self._heartbeat_s, end - loop.time())),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if any(each.done() for each in ends) or loop.time() >= end:
                return
            block = source.take() if following.done() else COMMENT


class _Source:
    """The blocks of a stream, of which one at most is being waited for."""

    def __init__(self, blocks: AsyncIterator[bytes]) -> None:
        self._blocks = blocks
        self._following: asyncio.Task[bytes] | None = None

    def following(self) -> asyncio.Task[bytes]:
        """The block that comes next."""
        if self._following is None:
            self._following = asyncio.create_task(_next(self._blocks))
        return self._following

    def take(self) -> bytes | None:
        """The block that came; ``None`` after the last one."""
        done, self._following = self.following(), None
        error = done.exception()
        if error is None:
            return done.result()
        if not isinstance(error, StopAsyncIteration):
            # The fault of a source ends this stream alone.
            _LOG.error("an event stream ends early", exc_info=error)
        return None

    async def close(self) -> None:
        """Stop waiting, and close the blocks."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        close = getattr(self._blocks, "aclose", None)
        if close is not None:
            await close()


class StreamBudget:
    """How many streams there may be, of one caller and in all, so that they leave connections for requests.

    Args:
        total: of one process; a share of its connections.
        per_caller: of one address or identity.
    """

    def __init__(self, *, total: int = 500, per_caller: int = 50) -> None:
        self._total = total
        self._per_caller = per_caller
        self._open: Counter[str] = Counter()

    @contextmanager
    def enter(self, caller: str) -> Generator[None]:
        """Count a stream while the ``with`` block runs.

        Raises:
            RequestRefusedError: 503 when there are too many, 429 when this caller has too many.
        """
        if self._open[caller] >= self._per_caller:
            raise _too_many(429, f"a caller may have {self._per_caller} streams at once")
        if self._open.total() >= self._total:
            raise _too_many(503, f"the server has {self._total} streams, which is all it takes")
        self._open[caller] += 1
        try:
            yield
        finally:
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]


def _too_many(status: int, detail: str) -> RequestRefusedError:
    return RequestRefusedError(status, "too_many_streams", detail, headers={"retry-after": "5"})


async def _next(blocks: AsyncIterator[bytes]) -> bytes:
    return await anext(blocks)


async def _until(event: asyncio.Event) -> None:
    await event.wait()


async def _client_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
