"""``/events``: each write as it happens, told to the callers that may read it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import orjson

from starfish_http.errors import AuthError
from starfish_http.stopping import stopping_of
from starfish_server.requests._access import Identified
from starfish_server.requests._answers import Answer
from starfish_server.requests._event_stream import EventStream
from starfish_server.requests._refusals import RequestRefusedError
from starfish_server.requests._request_body import header
from starfish_server.requests._request_context import Handler, RequestContext
from starfish_server.requests._served_collection import ServedCollection
from starfish_server.storage.changes import Change, ChangeLog

__all__ = ("EventFeed",)

_PAGE = 256
_COMMENT_EVERY_S = 15.0
"""Proxies close a connection that is silent for a minute or less."""
_LONGEST_S = 900.0
"""Then the client comes back, so that credentials are looked at again."""
_RETRY_MS = 1000


class EventFeed:
    """Serves one change log.

    Args:
        log: of the store that is served.
        stopping: set when the server stops; ends the streams.
        max_streams: most streams at a time.
    """

    def __init__(self, log: ChangeLog, stopping: asyncio.Event, max_streams: int) -> None:
        self._log = log
        self._stopping = stopping
        self._free = max_streams

    def handler(self, members: Sequence[ServedCollection]) -> Handler:
        """``GET /events`` over the collections of one namespace."""
        pullable = {member.name: member for member in members if not member.config.push_only}

        async def events(request: RequestContext) -> Answer:
            caller = await request.caller()
            wanted = _wanted(request, caller, pullable)
            for collection in wanted.values():
                await request.count(caller, collection, "pull")
            start = await self._start(request)
            if self._free <= 0:
                raise RequestRefusedError(
                    503, "Too many event streams", headers={"retry-after": "5"}
                )
            stopping = stopping_of(request.scope) or self._stopping
            return EventStream(self._blocks(request, caller, wanted, start), stopping)

        return events

    async def _start(self, request: RequestContext) -> int:
        given = header(request.scope, b"last-event-id")
        text = request.query.get("since") if given is None else given.decode("latin-1")
        last = await self._log.last_sequence()
        if text is None:
            return last
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise RequestRefusedError(400, "Invalid since parameter")
        if int(text) > last:
            # A log that was put back to an earlier state: waiting would miss what comes until then.
            raise RequestRefusedError(409, "unknown_sequence", lastSequence=last)
        return int(text)

    async def _blocks(
        self,
        request: RequestContext,
        caller: Identified,
        wanted: dict[str, ServedCollection],
        position: int,
    ) -> AsyncGenerator[bytes]:
        now = asyncio.get_running_loop().time
        self._free -= 1
        try:
            end = now() + _LONGEST_S
            # An id without data: a client that loses the connection now resumes from here.
            yield b"retry: %d\nid: %d\n\n" % (_RETRY_MS, position)
            quiet_since = now()
            while now() < end:
                changes = await self._log.read(position, _PAGE)
                shown = [
                    b"id: %d\ndata: %b\n\n" % (change.sequence, text)
                    for change in changes
                    if (text := await _shown(request, caller, wanted, change)) is not None
                ]
                position = changes[-1].sequence if changes else position
                if shown:
                    yield b"".join(shown)
                    quiet_since = now()
                elif now() >= quiet_since + _COMMENT_EVERY_S:
                    yield b": nothing new\nid: %d\n\n" % position
                    quiet_since = now()
                if not changes:
                    wait_s = quiet_since + _COMMENT_EVERY_S - now()
                    await self._log.last_sequence(wait_after=position, timeout=wait_s)
        finally:
            self._free += 1


def _wanted(
    request: RequestContext, caller: Identified, pullable: dict[str, ServedCollection]
) -> dict[str, ServedCollection]:
    """The collections that were asked for; without a list, all where something may be readable."""
    text = request.query.get("collections")
    names = list(pullable) if text is None else text.split(",")
    if not all(name in pullable for name in names):
        raise RequestRefusedError(404, "Collection not found")
    access = request.services.access
    readable = {n: pullable[n] for n in names if access.may_read_some(caller, pullable[n])}
    if len(readable) < len(names) and (text is not None or not readable):
        raise caller.refusal or AuthError(status=401)
    return readable


async def _shown(
    request: RequestContext, caller: Identified, wanted: dict[str, ServedCollection], change: Change
) -> bytes | None:
    """A change as its reader may know it; ``None`` when that is not at all."""
    collection = wanted.get(change.collection)
    if collection is None or collection.namespace != change.namespace:
        return None
    path = change.key[len(collection.store_key("")) :]
    params = collection.template.match(path)
    context = None if params is None else await request.as_reader(collection, path, params)
    if context is None:
        return None
    names = await request.services.views.names(collection, change.key, context)
    shown = {
        "sequence": change.sequence,
        "collection": change.collection,
        "key": path,
        "hash": names.of(change.hash, change.timestamp),
        "timestamp": change.timestamp,
    }
    if change.namespace is not None:
        shown["namespace"] = change.namespace
    if change.identity is not None and change.identity == caller.auth.identity:
        shown["identity"] = change.identity  # an own write; who else writes, a pull does not tell
    return orjson.dumps(shown)
