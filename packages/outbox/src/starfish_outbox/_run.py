"""Draining for as long as there is a network: waits for work, never polls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starfish_outbox._backoff import Backoff, ExponentialBackoff
from starfish_outbox._clock import system_now_ms
from starfish_outbox._drain import DrainOptions, DrainPass, DrainProgress, Send
from starfish_outbox._lanes import LaneOf, plan
from starfish_outbox._queue import OutboxQueue


async def run_outbox(
    queue: OutboxQueue,
    send: Send,
    online: asyncio.Event,
    *,
    max_attempts: int = 5,
    concurrency: int = 1,
    lane: LaneOf | None = None,
    backoff: Backoff | None = None,
    on_progress: Callable[[DrainProgress], object] | None = None,
    stop: asyncio.Event | None = None,
    recheck_ms: int | None = None,
    now_ms: Callable[[], int] = system_now_ms,
) -> None:
    """Drain the queue whenever ``online`` is set; returns once ``stop`` is set.

    Between passes it waits for a change of the queue or for the end of the shortest backoff. When
    ``online`` is cleared during a pass, what is being sent ends and nothing more is begun. A
    cancellation puts what is being sent back to ``queued`` and propagates.

    Args:
        queue: where the entries are, hydrated.
        send: as in `drain_outbox`.
        online: set while the network is there.
        max_attempts: as in `drain_outbox`.
        concurrency: as in `drain_outbox`.
        lane: as in `drain_outbox`.
        backoff: as in `drain_outbox`; by default `ExponentialBackoff()`.
        on_progress: as in `drain_outbox`.
        stop: ends the run.
        recheck_ms: also look for entries of other processes after so long without work.
        now_ms: the clock, milliseconds since the epoch.

    Raises:
        OutboxPersistenceError: the storage failed.
        NotHydratedError: the queue is bound to no key, or was cleared.
    """
    options = DrainOptions(
        max_attempts=max_attempts,
        concurrency=concurrency,
        lane=lane,
        backoff=ExponentialBackoff() if backoff is None else backoff,
        on_progress=on_progress,
        now_ms=now_ms,
    )
    stopped = asyncio.Event() if stop is None else stop
    changed = asyncio.Event()
    unsubscribe = queue.subscribe(changed.set)
    try:
        while not stopped.is_set():
            if not online.is_set():
                await _wait_for_first(online, stopped, timeout_ms=None)
                continue
            await DrainPass(
                queue, send, options, lambda: online.is_set() and not stopped.is_set()
            ).run()
            changed.clear()
            binding, now = queue.binding(), now_ms()
            ahead = plan(binding.entries.values(), binding.not_before, now, lane)
            if not ahead.lanes:
                waits = [ahead.next_due - now] if ahead.next_due is not None else []
                waits += [recheck_ms] if recheck_ms is not None else []
                await _wait_for_first(changed, stopped, timeout_ms=min(waits, default=None))
    finally:
        unsubscribe()


async def _wait_for_first(*events: asyncio.Event, timeout_ms: int | None) -> None:
    waiters = [asyncio.create_task(event.wait()) for event in events]
    try:
        timeout = None if timeout_ms is None else timeout_ms / 1000
        await asyncio.wait(waiters, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiter in waiters:
            waiter.cancel()
        await asyncio.gather(*waiters, return_exceptions=True)
