"""Follow ``/events`` of a server: an async iterator that connects again, resumes, and says when it cannot.

Needs httpx, the extra ``client``.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

from starfish_server.errors import ServerError

if TYPE_CHECKING:
    import httpx

__all__ = ("FeedEvent", "FeedRefusedError", "follow")

_Kind = Literal["change", "document", "live", "reset", "synced"]
_BEGINNING = "0"
_SILENCE_S = 45.0
"""The server says something at least every 15 s; a longer silence is a dead connection."""
_MOST_WAIT_S = 30.0
_LONGEST_BLOCK = 16 * 1024 * 1024
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class FeedEvent:
    """One event of the feed."""

    kind: _Kind
    """``change``: a document was written or removed. ``document``: a document as it is, of the
    snapshot. ``synced``: the snapshot is complete. ``reset``: the events
    told so far are of another log; the documents follow. ``live``: a push that the server does not store."""
    collection: str = ""
    """Name of the collection."""
    key: str = ""
    """Path of the document: what follows ``/pull/``."""
    hash: str = ""
    """The version, as a pull tells it; empty when the document was removed."""
    timestamp: int = 0
    """Time of the write, milliseconds since the epoch."""
    is_deleted: bool = False
    """Whether the document was removed or has expired."""
    namespace: str | None = None
    """The namespace, if any."""
    identity: str | None = None
    """The caller, when the write was the caller's own."""
    data: Mapping[str, Any] | None = field(default=None, hash=False)
    """The pushed data, of a ``live`` event only."""
    position: str | None = None
    """Where to resume after this event; ``None`` where one cannot."""


class FeedRefusedError(ServerError):
    """The server refuses the stream, and would again."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(f"the server refuses the event stream: {status} {error}")
        self.status = status
        """Of the answer: 400, 401, 403 or 404, for example."""
        self.error = error
        """The answer's ``error``, or the beginning of its text."""


async def follow(
    url: str,
    *,
    collections: Sequence[str] = (),
    since: str | None = None,
    snapshot: bool = False,
    headers: Mapping[str, str] | None = None,
    client: httpx.AsyncClient | None = None,
) -> AsyncGenerator[FeedEvent]:
    """Yield the events of a server for as long as one iterates.

    A connection that ends or is silent is made again, after a pause that grows up to half a minute
    (or that ``Retry-After`` asks for), and goes on behind the last event that was yielded: each change
    is yielded once. A snapshot that was interrupted begins anew. Live events of the time in between
    are missed.

    Args:
        url: of the server, or of one namespace: ``https://example.org/v1``.
        collections: which ones; all that the caller may read when empty.
        since: the ``position`` of the last event that was handled; ``"0"`` for the beginning of the
            log; ``None`` for now.
        snapshot: without ``since``, begin with the documents as they are.
        headers: sent with each connection: ``{"authorization": "Bearer …"}``.
        client: to use and leave open; its time-outs are not used. ``None`` makes one.

    Raises:
        FeedRefusedError: the server refuses the stream.
        ImportError: httpx is not installed.

    Examples:
        >>> async def titles() -> None:
        ...     async for event in follow("http://127.0.0.1:8000", snapshot=True):
        ...         print(event.kind, event.key, event.hash)
    """
    try:
        import httpx
    except ImportError as error:
        raise ImportError(
            "starfish_server.events needs the extra client: "
            'pip install --find-links dist "starfish-server[client]"'
        ) from error
    made: AbstractAsyncContextManager[httpx.AsyncClient] = (
        httpx.AsyncClient() if client is None else nullcontext(client)
    )
    query = {"collections": ",".join(collections)} if collections else {}
    if snapshot:
        query["snapshot"] = "1"
    state = _State(since)
    limits = httpx.Timeout(10.0, read=_SILENCE_S)
    async with made as opened:
        while True:
            sent = {"accept": "text/event-stream", **(headers or {}), **state.headers()}
            asked = opened.stream(
                "GET",
                f"{url.rstrip('/')}/events",
                params={**query, **state.query()},
                headers=sent,
                timeout=limits,
            )
            try:
                async with aclosing(_connection(asked, state)) as events:
                    async for event in events:
                        yield event
            except httpx.UnsupportedProtocol:
                raise
            except (httpx.TransportError, TimeoutError):
                pass
            except _TryAgain as again:
                state.pause_s = again.after_s
            await asyncio.sleep(state.next_pause())


@dataclass(slots=True)
class _State:
    """What outlives a connection."""

    position: str | None
    failures: int = 0
    retry_s: float = 1.0
    pause_s: float | None = None

    def headers(self) -> dict[str, str]:
        """Where to resume, as a header."""
        is_id = self.position is not None and self.position != _BEGINNING
        return {"last-event-id": self.position or ""} if is_id else {}

    def query(self) -> dict[str, str]:
        """Where to begin, as a parameter."""
        return {"since": _BEGINNING} if self.position == _BEGINNING else {}

    def next_pause(self) -> float:
        """Seconds until the next connection, another number for each client."""
        asked, self.pause_s = self.pause_s, None
        if asked is not None:
            return asked
        grown: float = min(self.retry_s * 2**self.failures, _MOST_WAIT_S)
        self.failures = min(self.failures + 1, 10)
        return grown * random.uniform(0.5, 1.0)  # noqa: S311 - spreads clients, keeps no secret


class _TryAgain(Exception):  # noqa: N818 - it never leaves this module
    """The server asks to come back later."""

    def __init__(self, after_s: float | None) -> None:
        super().__init__()
        self.after_s = after_s


async def _connection(
    asked: AbstractAsyncContextManager[httpx.Response], state: _State
) -> AsyncGenerator[FeedEvent]:
    async with asked as answer:
        if answer.status_code != 200:
            await _refuse(answer)
        async for block in _blocks(answer.aiter_bytes()):
            state.failures = 0
            if block.retry_ms is not None:
                state.retry_s = min(block.retry_ms / 1000, _MOST_WAIT_S)
            event = _event_of(block)
            # A position counts once its event was taken: the generator goes on only then.
            if event is not None:
                yield event
            if block.id is not None:
                state.position = block.id


async def _refuse(answer: httpx.Response) -> None:
    body = (await answer.aread())[:10_000]
    if answer.status_code in _RETRIED:
        after = answer.headers.get("retry-after", "")
        raise _TryAgain(min(float(after), 3600.0) if after.isdecimal() else None)
    try:
        error = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        error = body[:200].decode("utf-8", "replace")
    raise FeedRefusedError(answer.status_code, error)


@dataclass(slots=True)
class _Block:
    event: str = ""
    data: str | None = None
    id: str | None = None
    retry_ms: int | None = None


async def _blocks(chunks: AsyncIterator[bytes]) -> AsyncGenerator[_Block]:
    """Server-Sent Events (HTML Living Standard, section 9.2) whose lines end with a line feed."""
    pending = b""
    async for chunk in chunks:
        *whole, pending = (pending + chunk).split(b"\n\n")
        if len(pending) > _LONGEST_BLOCK:
            raise FeedRefusedError(200, f"an event has more than {_LONGEST_BLOCK} bytes")
        for text in whole:
            yield _block_of(text)


def _block_of(text: bytes) -> _Block:
    block = _Block()
    data: list[str] = []
    for line in text.decode("utf-8", "replace").split("\n"):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ").removesuffix("\r")
        if name == "data":
            data.append(value)
        elif name == "event":
            block.event = value
        elif name == "id" and "\0" not in value:
            block.id = value
        elif name == "retry" and value.isdecimal():
            block.retry_ms = int(value)
    if data:
        block.data = "\n".join(data)
    return block


def _event_of(block: _Block) -> FeedEvent | None:
    if block.event in {"reset", "synced"}:
        return FeedEvent(cast("_Kind", block.event), position=block.id)
    if block.data is None or block.event:
        return None  # an event of a newer server
    try:
        return _change_of(json.loads(block.data), block.id)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FeedRefusedError(200, f"not an event of this protocol: {block.data:.100}") from error


def _change_of(told: dict[str, Any], position: str | None) -> FeedEvent:
    kind: _Kind = "change"
    if told.get("live"):
        kind = "live"
    elif told.get("snapshot"):
        kind = "document"
    return FeedEvent(
        kind,
        told["collection"],
        told["key"],
        told["hash"],
        told["timestamp"],
        bool(told.get("deleted")),
        told.get("namespace"),
        told.get("identity"),
        told.get("data"),
        position,
    )
