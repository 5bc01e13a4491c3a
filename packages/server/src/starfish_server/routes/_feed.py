"""``/events``: each write as it happens, told to the callers that may read it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson

from starfish_http.answers import Answer, json_answer
from starfish_http.errors import AuthError
from starfish_http.events import COMMENT, EventStream, StreamBudget
from starfish_http.request_body import header
from starfish_http.stopping import stopping_of
from starfish_server.documents._types import PushSuccess
from starfish_server.requests._access import Identified
from starfish_server.requests._change_tail import ChangeTail, Follower, Happening
from starfish_server.requests._event_ids import EventIds
from starfish_server.requests._refusals import RequestRefusedError
from starfish_server.requests._request_context import Handler, RequestContext
from starfish_server.requests._served_collection import ServedCollection
from starfish_server.requests._stream_tickets import StreamTickets
from starfish_server.routes._feed_snapshot import Snapshot
from starfish_server.storage.base import StoreContext
from starfish_server.storage.changes import Change, ChangeLog
from starfish_server.storage.errors import PositionLostError
from starfish_server.storage.values import Position

__all__ = ("EventFeed",)

_PAGE = 256
_COMMENT_EVERY_S = 15.0
"""Proxies close a connection that is silent for a minute or less."""
_LOOK_EVERY_S = 0.5
"""How often a stream looks whether its credential still holds."""
_LONGEST_S = 900.0
_RETRY_MS = 1000
_BEGINNING = "0"
_RESET = b'event: reset\ndata: {"reason":"position_lost"}\n\n'
_UNREAD_S = 30.0
"""How long a client may leave events unread."""


class EventFeed:
    """Serves one change log.

    Args:
        log: of the store that is served.
        ids: seals the log's positions.
        tickets: let callers in who cannot send headers.
        stopping: set when the server stops; ends the streams.
        budget: how many streams may be open.
    """

    def __init__(
        self,
        log: ChangeLog,
        ids: EventIds,
        tickets: StreamTickets,
        stopping: asyncio.Event,
        budget: StreamBudget,
    ) -> None:
        self._tail = ChangeTail(log)
        self._ids = ids
        self._tickets = tickets
        self._stopping = stopping
        self._budget = budget

    def handler(self, members: Sequence[ServedCollection], namespace: str | None) -> Handler:
        """``GET /events`` over the collections of one namespace."""
        pullable = {member.name: member for member in members if not member.config.push_only}

        async def events(request: RequestContext) -> EventStream:
            request = await self._tickets.redeemed(request, namespace)
            caller = await request.caller()
            wanted = _wanted(request, caller, pullable)
            await request.use_credential()
            start = await self._start(request)
            who = caller.auth.identity or f"address {request.address()}"
            with self._budget.enter(who):
                pass  # refused now, before the answer begins
            stream = _Stream(request, wanted, namespace, self._tail, self._ids)
            blocks = self._counted(who, stream.blocks(start))
            return EventStream(
                blocks,
                heartbeat_s=2 * _COMMENT_EVERY_S,  # the stream has comments of its own, with an id
                lifetime_s=_LONGEST_S + 1,
                unread_s=_UNREAD_S,
                stopping=stopping_of(request.scope) or self._stopping,
            )

        return events

    def ticket_handler(self, namespace: str | None) -> Handler:
        """``POST /events/ticket``: for clients that cannot send headers with a stream."""

        async def ticket(request: RequestContext) -> Answer:
            caller = await request.caller()
            if caller.refusal is not None:
                raise caller.refusal
            text, expires_ms = await self._tickets.issued(request, namespace)
            return json_answer(
                200, {"ticket": text, "expires": expires_ms}, [(b"cache-control", b"no-store")]
            )

        return ticket

    def tell(self, context: StoreContext, key: str, stored: PushSuccess, data: Any) -> None:
        """Tell of a push that is not stored, to the streams of this process."""
        change = Change(
            0,
            context.collection,
            context.params,
            key,
            0,
            stored.hash,
            stored.timestamp,
            context.namespace,
            context.identity,
        )
        self._tail.tell(Happening(change, data))

    async def _counted(self, who: str, blocks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        with self._budget.enter(who):
            async with aclosing(blocks):
                async for block in blocks:
                    yield block

    async def _start(self, request: RequestContext) -> _Start:
        given = header(request.scope, b"last-event-id")
        text = request.query.get("since") if given is None else given.decode("latin-1")
        snapshot = request.query.get("snapshot", "0")
        if snapshot not in {"0", "1"}:
            raise RequestRefusedError(400, "Invalid snapshot parameter")
        log = self._tail.log
        await self._ids.ready()
        if text is None:
            if snapshot == "1":
                return _Start(None, has_snapshot=True)
            return _Start(await log.end(), is_end=True)
        if text == _BEGINNING:
            return _Start(None)
        try:
            position = await self._ids.open(text) or None
            page = await log.read(position, 1)
        except PositionLostError:
            return _RESET_START
        return _Start(position, is_end=page.is_end and not page.changes)


@dataclass(frozen=True, slots=True)
class _Start:
    """Where a stream begins."""

    position: Position | None
    """``None`` for the beginning of the log."""
    is_end: bool = False
    """Whether there is nothing behind it yet."""
    is_reset: bool = False
    """Whether the client wanted to go on elsewhere, where nobody can."""
    has_snapshot: bool = False
    """Whether the documents as they are come first."""


_RESET_START = _Start(None, is_reset=True, has_snapshot=True)


class _CredentialEndedError(Exception):
    """The credential of the caller holds no longer."""


class _Stream:
    """The events of one caller."""

    def __init__(
        self,
        request: RequestContext,
        wanted: dict[str, ServedCollection],
        namespace: str | None,
        tail: ChangeTail,
        ids: EventIds,
    ) -> None:
        self._request = request
        self._wanted = wanted
        self._namespace = namespace
        self._tail = tail
        self._ids = ids
        self._seen = 0
        """Sequence up to which changes were looked at."""
        self._snapshot: Snapshot | None = None
        """Told before the changes; until they are caught up with, it knows which of them it held."""

    async def blocks(self, start: _Start) -> AsyncGenerator[bytes]:
        """What to send, each block complete; begun anew where the log was replaced meanwhile."""
        end = asyncio.get_running_loop().time() + _LONGEST_S
        while True:
            try:
                async with aclosing(self._blocks(start, end)) as blocks:
                    async for block in blocks:
                        yield block
            except PositionLostError:
                start = _RESET_START
            except _CredentialEndedError:
                return
            else:
                return

    async def _blocks(self, start: _Start, end: float) -> AsyncGenerator[bytes]:
        """The documents as they are, where they were asked for, then the changes.

        The log is read up to its end, then the tail is joined, then the log is read once more for
        the changes between the two; what comes from both is told once.
        """
        position = start.position
        tail, follower = self._tail, None
        self._seen = 0
        try:
            if start.is_end:
                follower = await tail.follow(self._namespace, self._wanted)
            yield b"retry: %d\n\n" % _RETRY_MS + (_RESET if start.is_reset else b"")
            if start.has_snapshot:
                position = await tail.log.end()
                self._snapshot = Snapshot(self._request, self._wanted, tail.log, position)
                async for block in self._documents(self._snapshot):
                    yield block
                # No id before the snapshot is complete, or its rest could be missed.
                yield self._id(position) + _synced(self._snapshot.count)
            else:
                # An id without data: a client that loses the connection now resumes from here.
                yield self._id(position or "") + b"\n"
            if follower is None:
                async for block, reached in self._history(position):
                    position = reached
                    yield block
                follower = await tail.follow(self._namespace, self._wanted)
            async for block, _reached in self._history(position):
                yield block
            self._snapshot = None  # changes made while it was read are behind us
            async for block in self._live(follower, end):
                yield block
        finally:
            if follower is not None:
                tail.leave(follower, self._namespace, self._wanted)

    async def _documents(self, snapshot: Snapshot) -> AsyncGenerator[bytes]:
        async for shown in snapshot.pages():
            if not await self._request.is_current():
                raise _CredentialEndedError
            parts = [b"data: %b\n\n" % orjson.dumps(each) for each in shown]
            yield b"".join(parts) or COMMENT

    async def _history(self, position: Position | None) -> AsyncGenerator[tuple[bytes, Position]]:
        """Blocks of the log up to its end, and where each leads."""
        is_end = False
        while not is_end:
            page = await self._tail.log.read(position, _PAGE)
            position, is_end = page.next, page.is_end
            changes = [each for each in page.changes if each.sequence > self._seen]
            block = await self._told([Happening(each) for each in changes])
            if page.changes:
                self._seen = max(self._seen, page.changes[-1].sequence)
            if block is None:
                return
            # Changes that are not told move the position all the same.
            if page.changes:
                yield block or self._id(position) + b"\n", position

    async def _live(self, follower: Follower, end: float) -> AsyncGenerator[bytes]:
        loop = asyncio.get_running_loop()
        quiet_since = loop.time()
        is_bounded = (await self._request.caller()).auth.recheck is not None
        while loop.time() < end:
            reached = self._tail.position
            wait = max(quiet_since + _COMMENT_EVERY_S - loop.time(), 0)
            # A credential may be withdrawn while nothing happens.
            happenings = await follower.take(min(wait, _LOOK_EVERY_S) if is_bounded else wait)
            new = [
                each
                for each in happenings
                if each.data is not None or each.change.sequence > self._seen
            ]
            block = await self._told(new)
            if block is None:
                return
            if block:
                yield block
                quiet_since = loop.time()
            elif loop.time() >= quiet_since + _COMMENT_EVERY_S:
                yield b": nothing new\n%b\n" % self._id(reached)
                quiet_since = loop.time()

    async def _told(self, happenings: Sequence[Happening]) -> bytes | None:
        """The events that the caller may see; ``None`` when its credential holds no longer."""
        if not await self._request.is_current():
            return None
        parts = [part for each in happenings if (part := await self._event(each)) is not None]
        return b"".join(parts)

    async def _event(self, happening: Happening) -> bytes | None:
        change = happening.change
        if self._snapshot is not None and self._snapshot.holds(change):
            return None
        collection = self._wanted.get(change.collection)
        if collection is None or collection.namespace != change.namespace:
            return None
        path = change.key[len(collection.store_key("")) :]
        params = collection.template.match(path)
        request = self._request
        context = None if params is None else await request.as_reader(collection, path, params)
        if context is None:
            return None
        names = await request.services.views.names(collection, change.key, context)
        shown: dict[str, Any] = {
            "collection": change.collection,
            "key": path,
            "hash": names.of(change.hash, change.timestamp) if change.hash else "",
            "timestamp": change.timestamp,
        }
        if change.is_deleted:
            shown["deleted"] = True
        if change.namespace is not None:
            shown["namespace"] = change.namespace
        if change.identity is not None and change.identity == context.identity:
            shown["identity"] = (
                change.identity
            )  # an own write; who else writes, a pull does not tell
        if happening.data is not None:
            return b"data: %b\n\n" % orjson.dumps({**shown, "live": True, "data": happening.data})
        return b"%bdata: %b\n\n" % (self._id(change.position), orjson.dumps(shown))

    def _id(self, position: Position) -> bytes:
        return b"id: %b\n" % self._ids.seal(position)


def _synced(count: int) -> bytes:
    return b'event: synced\ndata: {"documents":%d}\n\n' % count


def _wanted(
    request: RequestContext, caller: Identified, pullable: dict[str, ServedCollection]
) -> dict[str, ServedCollection]:
    """The collections that were asked for; without a list, all where something may be readable."""
    text = request.query.get("collections")
    names = list(pullable) if text is None else list(dict.fromkeys(text.split(",")))
    if not all(name in pullable for name in names):
        raise RequestRefusedError(404, "Collection not found")
    access = request.services.access
    readable = {n: pullable[n] for n in names if access.may_read_some(caller, pullable[n])}
    if len(readable) < len(names) and (text is not None or not readable):
        raise caller.refusal or AuthError(status=401)
    return readable
