"""Draining for as long as there is a network."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from starfish_outbox._clock import system_now_ms
from starfish_outbox._drain.attempts import Outages
from starfish_outbox._drain.backoff import Backoff, ExponentialBackoff
from starfish_outbox._drain.lanes import LaneOf
from starfish_outbox._drain.one_pass import DrainPass
from starfish_outbox._drain.options import (
    DrainOptions,
    DrainProgress,
    OnUnauthorized,
    RefusedLane,
    Send,
    ServerOf,
)
from starfish_outbox._queue.changes import Rest
from starfish_outbox._queue.queue import BackedQueue
from starfish_outbox.errors import (
    OutboxDamagedError,
    OutboxMovedError,
    OutboxPersistenceError,
    UnsupportedSchemaError,
)

logger = logging.getLogger(__name__)


async def run_outbox(
    queue: BackedQueue,
    send: Send,
    online: asyncio.Event,
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
    recheck_ms: int | None = 1_000,
    now_ms: Callable[[], int] = system_now_ms,
) -> None:
    """Drain the queue whenever ``online`` is set; returns once ``stop`` is set.

    Between passes it waits for a change of the queue or for the end of the shortest rest. When
    ``online`` is cleared during a pass, the sends under way end and nothing more is begun. A server
    that cannot be reached, or refuses the credential, is left alone as long as ``Retry-After`` or the
    backoff says; the entries stay ``queued``, with their attempts, however long that lasts. Clearing
    and setting ``online`` ends that rest. A storage that fails, for instance because the disk is
    full, is tried again as the backoff says. A cancellation puts the entries that are being sent
    back to ``queued`` and propagates.

    Args:
        queue: where the entries are, hydrated.
        send: as in `drain_outbox`.
        online: set while the network is there.
        max_attempts: as in `drain_outbox`.
        concurrency: as in `drain_outbox`.
        lane: as in `drain_outbox`.
        server: as in `drain_outbox`.
        refused_lane: as in `drain_outbox`.
        backoff: as in `drain_outbox`; by default `ExponentialBackoff()`.
        on_progress: as in `drain_outbox`.
        on_unauthorized: as in `drain_outbox`; the run goes on at once when it answers ``True``.
        stop: ends the run.
        recheck_ms: looks for the entries of other processes after so long without work; ``None``
            for never.
        now_ms: the clock, milliseconds since the epoch.

    Raises:
        OutboxPersistenceError: the storage is damaged, or its file was moved away.
        NotHydratedError: the queue is not bound to a key, or was cleared.
        ValueError: ``max_attempts`` or ``concurrency`` or ``recheck_ms`` is below 1.
    """
    if recheck_ms is not None and recheck_ms < 1:
        raise ValueError(f"recheck_ms is {recheck_ms}, must be at least 1")
    options = DrainOptions(
        max_attempts=max_attempts,
        concurrency=concurrency,
        lane=lane,
        server=server,
        refused_lane=refused_lane,
        backoff=ExponentialBackoff() if backoff is None else backoff,
        on_progress=on_progress,
        on_unauthorized=on_unauthorized,
        now_ms=now_ms,
    )
    stopped = asyncio.Event() if stop is None else stop
    await _Run(queue, send, online, stopped, options, recheck_ms).until_stopped()


class _Run:
    def __init__(  # noqa: PLR0917 - of this module only
        self,
        queue: BackedQueue,
        send: Send,
        online: asyncio.Event,
        stopped: asyncio.Event,
        options: DrainOptions,
        recheck_ms: int | None,
    ) -> None:
        self._queue = queue
        self._send = send
        self._online = online
        self._stopped = stopped
        self._options = options
        self._recheck_ms = recheck_ms
        self._outages = Outages()
        self._changed = asyncio.Event()
        self._storage_failures = 0
        self._was_renewed = False

    async def until_stopped(self) -> None:
        unsubscribe = self._queue.subscribe(self._changed.set)
        try:
            while not self._stopped.is_set():
                if not self._online.is_set():
                    self._outages.clear()
                    await _wait_for_first(self._online, self._stopped, timeout_ms=None)
                elif self._queue.is_paused:
                    self._changed.clear()
                    await self._wait(None)
                else:
                    await self._wait(await self._pass())
        finally:
            unsubscribe()

    async def _pass(self) -> int | None:
        """One pass; when there is work again, milliseconds since the epoch, as far as is known."""
        self._changed.clear()
        drain = DrainPass(
            self._queue,
            self._send,
            self._options,
            lambda: self._online.is_set() and not self._stopped.is_set(),
            self._outages,
        )
        held = self._outages.rest(None, self._options.now_ms())
        if held is not None:
            return held.until
        try:
            result = await drain.run()
        except OutboxPersistenceError as error:
            if isinstance(error, OutboxDamagedError | OutboxMovedError | UnsupportedSchemaError):
                raise
            return self._after_storage_failure(error)
        self._storage_failures = 0
        if drain.is_renewed and not (self._was_renewed and result.sent == 0):
            self._outages.clear()
            self._changed.set()
        self._was_renewed = drain.is_renewed
        return drain.next_due

    def _after_storage_failure(self, error: OutboxPersistenceError) -> int:
        self._storage_failures += 1
        backoff = self._options.backoff or ExponentialBackoff()
        delay_ms = max(1, backoff.delay_ms(self._storage_failures))
        logger.warning("a pass ended, the next one begins in %d ms: %s", delay_ms, error)
        now = self._options.now_ms()
        self._outages.begin(None, Rest(now + delay_ms, delay_ms))
        return now + delay_ms

    async def _wait(self, next_due: int | None) -> None:
        waits = [] if next_due is None else [max(0, next_due - self._options.now_ms())]
        waits += [] if self._recheck_ms is None else [self._recheck_ms]
        await _wait_for_first(self._changed, self._stopped, timeout_ms=min(waits, default=None))


async def _wait_for_first(*events: asyncio.Event, timeout_ms: int | None) -> None:
    waiters = [asyncio.create_task(event.wait()) for event in events]
    try:
        timeout = None if timeout_ms is None else timeout_ms / 1000
        await asyncio.wait(waiters, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiter in waiters:
            waiter.cancel()
        await asyncio.gather(*waiters, return_exceptions=True)
