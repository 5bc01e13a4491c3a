"""One pass over a queue: claim, send, then remove or record the failure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starfish_outbox._clock import system_now_ms
from starfish_outbox._drain.backoff import Backoff
from starfish_outbox._drain.lanes import LaneOf
from starfish_outbox._drain.one_pass import DrainPass
from starfish_outbox._drain.options import (
    DrainOptions,
    DrainProgress,
    DrainResult,
    OnUnauthorized,
    RefusedLane,
    Send,
    ServerOf,
)
from starfish_outbox._queue.queue import BackedQueue


async def drain_outbox(
    queue: BackedQueue,
    send: Send,
    *,
    max_attempts: int = 5,
    concurrency: int = 1,
    lane: LaneOf | None = None,
    server: ServerOf | None = None,
    refused_lane: RefusedLane = "continue",
    backoff: Backoff | None = None,
    on_progress: Callable[[DrainProgress], object] | None = None,
    on_unauthorized: OnUnauthorized | None = None,
    stop: asyncio.Event | None = None,
    now_ms: Callable[[], int] = system_now_ms,
) -> DrainResult:
    """Send the entries that are ``queued`` now, oldest first, each at most once.

    ``send`` gets the claimed entry. When it returns, the entry is removed. `Unreachable` and
    `NotAuthorised` leave it ``queued``, count no attempt, and end the pass for that server;
    `PermanentSendError`, and so `Refused` and `Conflict`, makes it ``failed``; any other exception
    counts an attempt. The reason is kept as ``entry.failure``. A cancellation puts the entries that
    are being sent back to ``queued`` without counting an attempt, and propagates.

    Args:
        queue: where the entries are.
        send: performs the write.
        max_attempts: with so many failed attempts an entry is ``failed`` and waits for `retry`.
        concurrency: sends under way at a time.
        lane: entries with the same lane are sent in order, and one that is not sent holds back
            the rest of its lane. By default the lanes of ``send`` where it has a method ``lane``
            (`PushSender` has: one lane a document), else every entry is its own lane.
        server: names the server of an entry; one that cannot be reached holds back its own entries
            only. By default there is one server.
        refused_lane: ``"continue"`` to go on behind an entry that became ``failed``, ``"wait"`` to
            hold its lane back until it is retried or removed.
        backoff: how long an entry rests after a failed attempt; without it the next pass tries.
        on_progress: called after each entry; an exception of it is logged.
        on_unauthorized: called with the entry and the error when a credential was refused, may be a
            coroutine function; an exception of it is logged.
        stop: once set, no further entry is begun; the sends under way end.
        now_ms: the clock, milliseconds since the epoch.

    Raises:
        OutboxPersistenceError: the storage failed. Entries that were being sent are put back.
        NotHydratedError: the queue is not bound to a key.
        ValueError: ``max_attempts`` or ``concurrency`` is below 1.

    Examples:
        >>> from starfish_outbox.testing import MemoryCache
        >>> from starfish_outbox import OutboxEntry, OutboxQueue
        >>> async def main() -> DrainResult:
        ...     queue = OutboxQueue(MemoryCache())
        ...     await queue.hydrate("outbox.ada")
        ...     _ = await queue.enqueue("note-1", {"text": "hi"})
        ...     async def send(entry: OutboxEntry) -> None:
        ...         print("sending", entry.item)
        ...     return await drain_outbox(queue, send)
        >>> asyncio.run(main())
        sending {'text': 'hi'}
        DrainResult(sent=1, failed=0)
    """
    options = DrainOptions(
        max_attempts=max_attempts,
        concurrency=concurrency,
        lane=lane,
        server=server,
        refused_lane=refused_lane,
        backoff=backoff,
        on_progress=on_progress,
        on_unauthorized=on_unauthorized,
        now_ms=now_ms,
    )
    return await DrainPass(queue, send, options, lambda: stop is None or not stop.is_set()).run()
