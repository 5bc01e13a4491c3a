"""The log as server-sent events (WHATWG HTML, section 9.2), for a reader that may be slow.

Rule: nothing is gathered for a reader. An event is read from the log when the one before it went
into the connection; a reader who takes nothing loses the connection and resumes where it was.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

from fastapi.sse import format_sse_event

from starfish_artifact_registry.events import Event
from starfish_artifact_registry.model._event_form import event_form

__all__ = ("HEARTBEAT", "event_stream", "until")

T = TypeVar("T")

HEARTBEAT = b": \n\n"
"""A comment: clients ignore it, proxies see that the connection lives."""


async def event_stream(
    events: AsyncIterator[Event],
    *,
    heartbeat_s: float,
    lifetime_s: float,
    closing: asyncio.Event | None = None,
) -> AsyncGenerator[bytes]:
    """The text of an event stream: each event as soon as it is there, else a sign of life.

    Ends after ``lifetime_s``, with the last event or when ``closing`` is set, and closes the iterator.
    """
    yield HEARTBEAT  # the client learns at once that it is connected
    async for event in until(
        events, heartbeat_s=heartbeat_s, lifetime_s=lifetime_s, closing=closing
    ):
        yield HEARTBEAT if event is None else _text(event)


async def until(
    items: AsyncIterator[T],
    *,
    heartbeat_s: float,
    lifetime_s: float,
    closing: asyncio.Event | None = None,
) -> AsyncGenerator[T | None]:
    """The items as they come, and ``None`` for each ``heartbeat_s`` without one."""
    loop = asyncio.get_running_loop()
    end = loop.time() + lifetime_s
    following: asyncio.Task[T] | None = None
    closed = asyncio.ensure_future((closing or asyncio.Event()).wait())
    try:
        while (left := end - loop.time()) > 0 and not closed.done():
            if following is None:
                following = asyncio.ensure_future(_next(items))
            await asyncio.wait(
                {following, closed},
                timeout=min(heartbeat_s, left),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not following.done():
                if heartbeat_s <= left and not closed.done():
                    yield None
                continue
            try:
                item = following.result()
            except StopAsyncIteration:
                return
            following = None
            yield item
    finally:
        closed.cancel()
        if following is not None:
            following.cancel()
            await asyncio.wait({following})
        if isinstance(items, AsyncGenerator):
            await items.aclose()


async def _next(items: AsyncIterator[T]) -> T:
    return await anext(items)


def _text(event: Event) -> bytes:
    return format_sse_event(
        data_str=json.dumps(event_form(event), separators=(",", ":")),
        event=event.event_type,
        id=str(event.sequence),
    )
