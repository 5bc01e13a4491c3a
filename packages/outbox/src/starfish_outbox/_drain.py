"""One pass over a queue: claim, send, then remove or record the failure."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starfish_outbox._backend import Outcome
from starfish_outbox._backoff import Backoff
from starfish_outbox._changes import Change, Claim, MarkFailed, RecordFailure, Release, Remove
from starfish_outbox._clock import system_now_ms
from starfish_outbox._entry import OutboxEntry
from starfish_outbox._lanes import LaneOf, plan
from starfish_outbox._queue import OutboxQueue
from starfish_outbox.errors import PermanentSendError, RetryAfterError

logger = logging.getLogger(__name__)

Send = Callable[[OutboxEntry], Awaitable[object]]
"""Performs the write of an entry; an exception means that it was not performed."""


@dataclass(frozen=True, slots=True)
class DrainResult:
    """What one pass did."""

    sent: int
    """Entries that were sent and removed."""
    failed: int
    """Entries that became ``failed``."""


@dataclass(frozen=True, slots=True)
class DrainProgress:
    """How far a pass is."""

    sent: int
    """Entries that were sent and removed so far."""
    failed: int
    """Entries that became ``failed`` so far."""
    done: int
    """Entries this pass is through with, sent or not."""
    total: int
    """Entries this pass began with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainOptions:
    """How a pass goes about it; see `drain_outbox`."""

    max_attempts: int = 5
    concurrency: int = 1
    lane: LaneOf | None = None
    backoff: Backoff | None = None
    on_progress: Callable[[DrainProgress], object] | None = None
    now_ms: Callable[[], int] = system_now_ms

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts is {self.max_attempts}, must be at least 1")
        if self.concurrency < 1:
            raise ValueError(f"concurrency is {self.concurrency}, must be at least 1")


async def drain_outbox(
    queue: OutboxQueue,
    send: Send,
    *,
    max_attempts: int = 5,
    concurrency: int = 1,
    lane: LaneOf | None = None,
    backoff: Backoff | None = None,
    on_progress: Callable[[DrainProgress], object] | None = None,
    stop: asyncio.Event | None = None,
    now_ms: Callable[[], int] = system_now_ms,
) -> DrainResult:
    """Send the entries that are ``queued`` now, oldest first, each at most once.

    ``send`` gets the claimed entry. When it returns, the entry is removed; `PermanentSendError`
    makes it ``failed``; any other exception counts an attempt. A cancellation puts what is being
    sent back to ``queued`` without counting an attempt, and propagates.

    Args:
        queue: where the entries are.
        send: performs the write.
        max_attempts: with so many failed attempts an entry is ``failed`` and waits for `retry`.
        concurrency: sends under way at a time.
        lane: entries with the same lane are sent in order, and one that is not sent holds back
            the rest of its lane. Without it every entry is its own lane.
        backoff: how long an entry rests after a failed attempt; without it the next pass tries.
        on_progress: called after each entry; what it raises is logged.
        stop: once set, no further entry is begun; what is under way ends.
        now_ms: the clock, milliseconds since the epoch.

    Raises:
        OutboxPersistenceError: the storage failed. What was being sent by others is put back.
        NotHydratedError: the queue is bound to no key.
        ValueError: ``max_attempts`` or ``concurrency`` is below 1.

    Examples:
        >>> from starfish_outbox.testing import MemoryCache
        >>> async def main() -> DrainResult:
        ...     queue = OutboxQueue(MemoryCache())
        ...     await queue.hydrate("outbox.ada")
        ...     await queue.enqueue("note-1", {"text": "hi"})
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
        backoff=backoff,
        on_progress=on_progress,
        now_ms=now_ms,
    )
    return await DrainPass(queue, send, options, lambda: stop is None or not stop.is_set()).run()


class DrainPass:
    """One pass.

    Args:
        queue: where the entries are.
        send: performs the write.
        options: how.
        may_continue: asked before each entry.
    """

    def __init__(
        self,
        queue: OutboxQueue,
        send: Send,
        options: DrainOptions,
        may_continue: Callable[[], bool],
    ) -> None:
        self._queue = queue
        self._binding = queue.binding()
        self._send = send
        self._options = options
        self._may_continue = may_continue
        self._lanes: deque[deque[OutboxEntry]] = deque()
        self._total = self._done = self._sent = self._failed = 0

    async def run(self) -> DrainResult:
        """Send what is due."""
        await self._binding.refresh()
        self._lanes = plan(
            self._binding.entries.values(),
            self._binding.not_before,
            self._options.now_ms(),
            self._options.lane,
        ).lanes
        self._total = sum(len(lane) for lane in self._lanes)
        workers = min(self._options.concurrency, len(self._lanes))
        if workers <= 1:
            await self._work()
        else:
            await _run_all([asyncio.create_task(self._work()) for _ in range(workers)])
        return DrainResult(self._sent, self._failed)

    async def _work(self) -> None:
        while self._lanes:
            lane = self._lanes.popleft()
            while lane and self._goes_on():
                if not await self._process(lane.popleft()):
                    break

    def _goes_on(self) -> bool:
        same_key = self._queue.key == self._binding.key
        return same_key and self._may_continue()

    async def _process(self, entry: OutboxEntry) -> bool:
        """Whether the next entry of the lane may follow."""
        claimed = await self._claim(entry.id)
        if claimed is None:
            there = self._queue.successor(self._binding).entries.get(entry.id)
            return there is None or there.status == "failed"
        try:
            await self._send(claimed)
        except Exception as error:  # noqa: BLE001 - whatever a sender raises is a failed attempt
            await self._record(claimed, error)
            sent = False
        except BaseException:
            await self._put_back(claimed.id)
            raise
        else:
            await self._commit(Remove(claimed.id))
            self._sent += 1
            sent = True
        self._done += 1
        self._report()
        return sent

    async def _claim(self, entry_id: str) -> OutboxEntry | None:
        change = Claim(entry_id, due_by=self._options.now_ms())
        claiming = asyncio.ensure_future(self._commit(change))
        try:
            outcome = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # The claim is on its way to the storage: see how it ends before giving it back.
            await asyncio.wait([claiming])
            if claiming.exception() is None and claiming.result().changed:
                await self._put_back(entry_id)
            raise
        return outcome.entry if outcome.changed else None

    async def _record(self, entry: OutboxEntry, error: Exception) -> None:
        if isinstance(error, PermanentSendError):
            outcome = await self._commit(MarkFailed(entry.id))
        else:
            backoff = self._options.backoff
            delay = 0 if backoff is None else backoff.delay_ms(entry.attempts + 1)
            if isinstance(error, RetryAfterError):
                delay = max(delay, error.delay_ms)
            not_before = self._options.now_ms() + delay if delay else 0
            outcome = await self._commit(
                RecordFailure(entry.id, self._options.max_attempts, not_before)
            )
        failed = outcome.changed and outcome.entry is not None and outcome.entry.status == "failed"
        self._failed += failed
        level = logging.WARNING if failed else logging.INFO
        logger.log(level, "entry %s was not sent: %s", entry.id, type(error).__name__)

    async def _put_back(self, entry_id: str) -> None:
        """Release a claim although the caller is being cancelled."""
        releasing = asyncio.ensure_future(self._commit(Release(entry_id)))
        await asyncio.wait([releasing])
        error = releasing.exception()
        if error is not None:
            logger.warning("entry %s could not be put back: %s", entry_id, error)

    async def _commit(self, change: Change) -> Outcome:
        return await self._queue.successor(self._binding).submit(change)

    def _report(self) -> None:
        if self._options.on_progress is None:
            return
        try:
            self._options.on_progress(
                DrainProgress(self._sent, self._failed, self._done, self._total)
            )
        except Exception:
            logger.exception("on_progress failed")


async def _run_all(tasks: list[asyncio.Task[None]]) -> None:
    """Wait for all; when one fails or the caller is cancelled, cancel and wait for the rest.

    Each task is cancelled once: a second time would tear it from giving its claim back.
    """
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in sorted(tasks, key=lambda task: task.cancelled()):
        task.result()
