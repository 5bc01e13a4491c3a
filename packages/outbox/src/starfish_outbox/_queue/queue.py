"""The queue an application holds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

from starfish_outbox._clock import system_now_ms
from starfish_outbox._queue.backend import Outcome, QueueBackend
from starfish_outbox._queue.bounds import Bounds
from starfish_outbox._queue.changes import (
    Change,
    Claim,
    Enqueue,
    MarkFailed,
    RecordFailure,
    Release,
    Remove,
    Replace,
    Rest,
    Retry,
)
from starfish_outbox._queue.entry import (
    LONGEST_REASON,
    Failure,
    OutboxEntry,
    Quarantined,
    check_text,
)
from starfish_outbox._queue.json_item import encode_item
from starfish_outbox._queue.pipeline import CommitPipeline
from starfish_outbox.errors import NotHydratedError, OutboxLoopError

logger = logging.getLogger(__name__)


class BackedQueue:
    """A queue over a `QueueBackend`; `OutboxQueue` adds every other kind of storage."""

    def __init__(
        self,
        backend: QueueBackend,
        *,
        now_ms: Callable[[], int] = system_now_ms,
        max_entries: int | None = None,
        max_bytes: int | None = None,
        timeout_ms: int | None = None,
    ) -> None:
        if timeout_ms is not None and timeout_ms < 1:
            raise ValueError(f"timeout_ms is {timeout_ms}, must be at least 1")
        self._backend = backend
        self._now_ms = now_ms
        self._bounds = Bounds(max_entries, max_bytes)
        self._timeout_ms = timeout_ms
        self._pipeline: CommitPipeline | None = None
        self._left: dict[str, CommitPipeline] = {}
        self._hydrating = asyncio.Lock()
        self._hydrating_loop: asyncio.AbstractEventLoop | None = None
        self._clears = 0
        self._is_paused = False
        self._listeners: dict[object, Callable[[], None]] = {}
        self.quarantined: tuple[Quarantined, ...] = ()
        """Values that the last `hydrate` put aside because they were not entries."""

    @property
    def key(self) -> str | None:
        """The key that the queue is bound to."""
        return self._pipeline.key if self._pipeline is not None else None

    async def hydrate(self, key: str) -> None:
        """Bind the queue to a key and load its entries.

        Entries that were being sent by a process that is gone are ``queued`` again. A stored value
        that is not an entry is moved aside, logged, and listed in `quarantined`. A `clear` during
        the call leaves the queue unbound.

        Args:
            key: one queue of one identity, for instance ``outbox.<user>``.

        Raises:
            OutboxPersistenceError: the storage could not be read; the queue is as it was before.
            TypeError: the key is not a text.
            ValueError: the key holds a lone surrogate.
        """
        check_text("key", key)
        async with self._lock():
            clears = self._clears
            current = self._pipeline
            before = current if current is not None and current.key == key else self._left.get(key)
            session = self._backend.bind(key)
            try:
                if before is not None:
                    await before.retire()
                    before.release()
                loaded = await session.load()
            except BaseException:
                if before is not None:
                    before.reinstate()
                raise
            self._left.pop(key, None)
            if clears != self._clears:
                session.release()
                return
            if current is not None and current is not before:
                self._leave(current)
            self._pipeline = CommitPipeline(key, session, loaded, self._notify_of, self._timeout_ms)
            self._bounds.begin(self._pipeline)
            self.quarantined = tuple(loaded.quarantined)
        self._notify()

    async def enqueue(self, id: str, item: Any, ts: int | None = None) -> bool:  # noqa: A002 - the name of the field
        """Add a write to the end of the queue; stored when this returns.

        Args:
            id: the application's name for the write.
            item: the write, anything with a JSON form; later changes to it change nothing here.
            ts: when it was made, milliseconds since the epoch; by default now.

        Returns:
            ``True`` when the entry was added; ``False`` when its id is in the queue already,
            whatever its status: that entry stays as it is.

        Raises:
            OutboxPersistenceError: the storage did not take it; the queue is as before.
            OutboxFullError: the queue holds as much as the application allows.
            NotHydratedError: the queue is not bound to a key.
            TypeError: ``item`` has no JSON form, the message names the path; or ``id`` is not a
                text, or ``ts`` not an integer.
            ValueError: ``id`` holds a lone surrogate, or ``ts`` is out of range.
        """
        change = self._new(id, item, ts)
        if not self._bounds.is_bounded:
            return (await self._submit(change))[0].changed
        with self._bounds.reserve(change):
            return (await self._change(change)).changed

    async def enqueue_many(
        self, items: Iterable[tuple[str, Any]], ts: int | None = None
    ) -> list[bool]:
        """Add writes to the end of the queue in one commit: all of them or none.

        Args:
            items: ids and items, as for `enqueue`.
            ts: when they were made, milliseconds since the epoch; by default now.

        Returns:
            For each whether it was added; an id that comes twice is added once.

        Raises:
            OutboxPersistenceError: the storage did not take them; the queue is as before.
            OutboxFullError: the queue holds as much as the application allows.
            NotHydratedError: the queue is not bound to a key.
            TypeError: as for `enqueue`.
            ValueError: as for `enqueue`.
        """
        changes = [self._new(entry_id, item, ts) for entry_id, item in items]
        if not changes:
            await self._bound()
            return []
        with self._bounds.reserve(*changes):
            return [outcome.changed for outcome in await self._submit(*changes)]

    async def replace(self, id: str, item: Any) -> bool:  # noqa: A002 - as above
        """Put another item in the place of one that waits; it keeps its place and its attempts.

        Returns:
            ``False`` when the entry is absent or being sent.

        Raises:
            OutboxPersistenceError: the storage did not take it; the queue is as before.
            NotHydratedError: the queue is not bound to a key.
            TypeError: ``item`` has no JSON form, the message names the path.
        """
        text, copy = encode_item(item)
        return (await self._change(Replace(id, copy, text))).changed

    async def claim(self, id: str) -> bool:  # noqa: A002 - as above
        """Take an entry for sending, once: the second caller gets ``False``.

        Returns:
            ``False`` when the entry is absent, ``failed``, or being sent here or elsewhere.

        Raises:
            OutboxPersistenceError: the storage did not take it; the queue is as before.
            NotHydratedError: the queue is not bound to a key.
        """
        return (await self._change(Claim(id))).changed

    async def release(self, id: str) -> None:  # noqa: A002 - as above
        """Give a claim back: ``queued`` again, no attempt counted.

        Raises:
            OutboxPersistenceError: the storage did not take it; the queue is as before.
            NotHydratedError: the queue is not bound to a key.
        """
        await self._change(Release(id))

    async def remove(self, id: str) -> None:  # noqa: A002 - as above
        """Forget an entry, because it was sent or not wanted any longer; absent ones are ignored.

        Raises:
            OutboxPersistenceError: the storage did not take it; the queue is as before.
            NotHydratedError: the queue is not bound to a key.
        """
        await self._change(Remove(id))

    async def record_failure(
        self,
        id: str,  # noqa: A002 - as above
        max_attempts: int,
        *,
        not_before: int = 0,
        reason: str | None = None,
    ) -> None:
        """Count a failed attempt: ``failed`` once there are ``max_attempts``, else ``queued``.

        Args:
            id: whose attempt.
            max_attempts: at least 1.
            not_before: earliest next try of a drain, milliseconds since the epoch.
            reason: why it failed, kept as ``entry.failure``.

        Raises:
            OutboxPersistenceError: the storage did not take it; the queue is as before.
            NotHydratedError: the queue is not bound to a key.
            ValueError: ``max_attempts`` is below 1.
        """
        if max_attempts < 1:
            raise ValueError(f"max_attempts is {max_attempts}, must be at least 1")
        now = self._now_ms()
        rest = Rest(not_before, not_before - now) if not_before > now else None
        await self._change(RecordFailure(id, max_attempts, rest, self._failure(reason)))

    async def mark_failed(self, id: str, *, reason: str | None = None) -> None:  # noqa: A002 - as above
        """Count a failed attempt that was the last: ``failed`` at once.

        Args:
            id: whose attempt.
            reason: why it failed, kept as ``entry.failure``.

        Raises:
            OutboxPersistenceError: the storage did not take it; the queue is as before.
            NotHydratedError: the queue is not bound to a key.
        """
        await self._change(MarkFailed(id, self._failure(reason)))

    async def retry(self, id: str) -> None:  # noqa: A002 - as above
        """Queue a ``failed`` entry again, its attempts kept; others are left as they are.

        Raises:
            OutboxPersistenceError: the storage did not take it; the queue is as before.
            NotHydratedError: the queue is not bound to a key.
        """
        await self._change(Retry(id))

    async def refresh(self) -> None:
        """Take over what other processes wrote; `get` alone answers from memory.

        Raises:
            OutboxPersistenceError: the storage could not be read.
            NotHydratedError: the queue is not bound to a key.
        """
        await (await self._bound()).refresh()

    def get(self) -> list[OutboxEntry]:
        """All entries in queue order; empty before `hydrate`.

        Up to 1,000 entries are kept in memory. A longer queue of a `SqliteOutbox` is read from its
        file, on the caller's thread: `entries` reads it piece by piece.
        """
        return self._pipeline.entries() if self._pipeline is not None else []

    async def entries(self) -> AsyncIterator[OutboxEntry]:
        """All entries in queue order, read in pieces that hold up neither loop nor memory.

        Raises:
            OutboxPersistenceError: the storage could not be read.
            NotHydratedError: the queue is not bound to a key.
        """
        pipeline = await self._bound()
        if pipeline.known is not None or pipeline.paged is None:
            for entry in pipeline.entries():
                yield entry
            return
        begin: int | None = 0
        end = await pipeline.paged.end()
        while begin is not None:
            page = await pipeline.paged.page(begin, end)
            for entry in page.entries:
                yield entry
            begin = page.next

    def pending(self, predicate: Callable[[Any], bool] | None = None) -> list[OutboxEntry]:
        """The entries whose item the predicate accepts, in queue order; all without one."""
        return [entry for entry in self.get() if predicate is None or predicate(entry.item)]

    def not_before(self, id: str) -> int:  # noqa: A002 - as above
        """When a drain tries an entry next at the earliest, milliseconds since the epoch, or 0."""
        rest = self._pipeline.rest(id) if self._pipeline is not None else None
        return rest.until if rest is not None else 0

    @property
    def is_paused(self) -> bool:
        """Whether drains of this queue begin nothing."""
        return self._is_paused

    def pause(self) -> None:
        """Let every drain of this queue end its sends and begin nothing more, until `resume`.

        Holds for this object, not for other processes, and not after a restart.
        """
        if not self._is_paused:
            self._is_paused = True
            self._notify()

    def resume(self) -> None:
        """Let drains begin again."""
        if self._is_paused:
            self._is_paused = False
            self._notify()

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call a listener after every change of what `get` returns.

        What it raises is logged and disturbs neither the queue nor other listeners.

        Returns:
            A function that ends the subscription; calling it twice is harmless.
        """
        handle = object()
        self._listeners[handle] = listener

        def unsubscribe() -> None:
            self._listeners.pop(handle, None)

        return unsubscribe

    def clear(self) -> None:
        """Forget the key and the entries in memory; the storage stays as it is."""
        self._clears += 1
        if self._pipeline is not None:
            self._leave(self._pipeline)
            self._pipeline = None
            self._notify()

    def binding(self) -> CommitPipeline:
        """What `hydrate` bound last; for a drain, which ends on the key where it began.

        Raises:
            NotHydratedError: the queue is not bound to a key.
        """
        if self._pipeline is None:
            raise NotHydratedError
        return self._pipeline

    def successor(self, binding: CommitPipeline) -> CommitPipeline:
        """Who takes the changes of an earlier binding now."""
        current = self._pipeline
        return current if current is not None and current.key == binding.key else binding

    def _leave(self, pipeline: CommitPipeline) -> None:
        self._left[pipeline.key] = pipeline
        pipeline.leave()

    def _lock(self) -> asyncio.Lock:
        """One load at a time; the lock of a loop that is gone would never be released."""
        loop = asyncio.get_running_loop()
        if self._hydrating_loop is not loop:
            if self._hydrating_loop is not None and self._hydrating_loop.is_running():
                raise OutboxLoopError
            self._hydrating, self._hydrating_loop = asyncio.Lock(), loop
        return self._hydrating

    async def _bound(self) -> CommitPipeline:
        while self._lock().locked():
            async with self._hydrating:
                pass
        return self.binding()

    def _new(self, entry_id: str, item: Any, ts: int | None) -> Enqueue:
        check_text("id", entry_id)
        text, copy = encode_item(item)
        at = self._now_ms() if ts is None else _checked_ms(ts)
        return Enqueue(entry_id, OutboxEntry(entry_id, copy, "queued", 0, at), text)

    def _failure(self, reason: str | None) -> Failure | None:
        return None if reason is None else Failure("error", reason[:LONGEST_REASON], self._now_ms())

    async def _change(self, change: Change) -> Outcome:
        if not isinstance(change, Enqueue):
            check_text("id", change.id)
        (outcome,) = await self._submit(change)
        return outcome

    async def _submit(self, *changes: Change) -> Sequence[Outcome]:
        if self._hydrating.locked():
            await self._bound()
        return await self.binding().submit(*changes)

    def _notify_of(self, pipeline: CommitPipeline) -> None:
        if pipeline is self._pipeline:
            self._notify()

    def _notify(self) -> None:
        for listener in tuple(self._listeners.values()):
            try:
                listener()
            except Exception:
                logger.exception("a listener of the queue failed")


def _checked_ms(ts: object) -> int:
    if isinstance(ts, bool) or not isinstance(ts, int):
        raise TypeError(f"ts must be integer milliseconds, not {type(ts).__name__}")
    if abs(ts) > 2**53:
        raise ValueError(f"ts is {ts}, must be within 2**53 of zero")
    return ts
