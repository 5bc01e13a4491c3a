"""The queue an application holds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from starfish_outbox._backend import Outcome, QueueBackend, QueueSession
from starfish_outbox._cache_backend import CacheSession, LocalCache
from starfish_outbox._changes import (
    Change,
    Claim,
    Enqueue,
    MarkFailed,
    RecordFailure,
    Release,
    Remove,
    Retry,
)
from starfish_outbox._clock import system_now_ms
from starfish_outbox._entry import OutboxEntry, Quarantined, check_text
from starfish_outbox._json_item import encode_item
from starfish_outbox._pipeline import CommitPipeline
from starfish_outbox.errors import NotHydratedError

logger = logging.getLogger(__name__)


class OutboxQueue:
    """A durable queue of writes of one identity.

    Calls may overlap: changes happen one after the other, and the order in memory is the order in
    the storage. A call that is cancelled has either happened in both or in neither when its
    ``CancelledError`` arrives.

    Args:
        storage: a `LocalCache` that nobody else writes under the same key, or a `SqliteOutbox`.
        now_ms: the clock, milliseconds since the epoch.

    Examples:
        >>> import asyncio
        >>> from starfish_outbox.testing import MemoryCache
        >>> async def main() -> None:
        ...     queue = OutboxQueue(MemoryCache())
        ...     await queue.hydrate("outbox.ada")
        ...     await queue.enqueue("note-1", {"text": "hi"})
        ...     print(await queue.claim("note-1"), await queue.claim("note-1"))
        >>> asyncio.run(main())
        True False
    """

    def __init__(
        self, storage: LocalCache | QueueBackend, *, now_ms: Callable[[], int] = system_now_ms
    ) -> None:
        self._storage = storage
        self._now_ms = now_ms
        self._pipeline: CommitPipeline | None = None
        self._left: dict[str, CommitPipeline] = {}
        self._hydrating = asyncio.Lock()
        self._clears = 0
        self._listeners: dict[object, Callable[[], None]] = {}
        self.quarantined: tuple[Quarantined, ...] = ()
        """What the last `hydrate` put aside because it was no entry."""

    @property
    def key(self) -> str | None:
        """The key that the queue is bound to."""
        return self._pipeline.key if self._pipeline is not None else None

    async def hydrate(self, key: str) -> None:
        """Bind the queue to a key and load its entries.

        Entries that were being sent by somebody who is gone are ``queued`` again. What is stored
        but is no entry is moved aside, logged, and listed in `quarantined`. A `clear` during the
        call leaves the queue unbound.

        Args:
            key: one queue of one identity, for instance ``outbox.<user>``.

        Raises:
            OutboxPersistenceError: the storage could not be read; the queue is as it was before.
            TypeError: the key is not a text.
            ValueError: the key holds a lone surrogate.
        """
        check_text("key", key)
        async with self._hydrating:
            clears = self._clears
            current = self._pipeline
            before = current if current is not None and current.key == key else self._left.get(key)
            session = self._session(key)
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
            self._pipeline = CommitPipeline(key, session, loaded, self._notify_of)
            self.quarantined = tuple(loaded.quarantined)
        self._notify()

    async def enqueue(self, id: str, item: Any, ts: int | None = None) -> None:  # noqa: A002 - the name of the field
        """Add a write to the end of the queue; stored when this returns.

        An id that is already queued is ignored.

        Args:
            id: the application's name for the write.
            item: the write, anything with a JSON form; later changes to it change nothing here.
            ts: when it was made, milliseconds since the epoch; by default now.

        Raises:
            OutboxPersistenceError: the storage did not take it; the queue is as before.
            NotHydratedError: the queue is bound to no key.
            TypeError: ``item`` has no JSON form, the message names the path; or ``id`` is no
                text, or ``ts`` no integer.
            ValueError: ``id`` holds a lone surrogate, or ``ts`` is out of range.
        """
        check_text("id", id)
        text, copy = encode_item(item)
        at = self._now_ms() if ts is None else _checked_ms(ts)
        await self._change(Enqueue(id, OutboxEntry(id, copy, "queued", 0, at), text))

    async def claim(self, id: str) -> bool:  # noqa: A002 - as above
        """Take an entry for sending, once: the second caller gets ``False``.

        Returns:
            ``False`` when the entry is absent, ``failed``, or being sent here or elsewhere.

        Raises:
            OutboxPersistenceError: the storage did not take it; the queue is as before.
            NotHydratedError: the queue is bound to no key.
        """
        return (await self._change(Claim(id))).changed

    async def release(self, id: str) -> None:  # noqa: A002 - as above
        """Give a claim back: ``queued`` again, no attempt counted.

        Raises:
            OutboxPersistenceError: the storage did not take it; the queue is as before.
            NotHydratedError: the queue is bound to no key.
        """
        await self._change(Release(id))

    async def remove(self, id: str) -> None:  # noqa: A002 - as above
        """Forget an entry, because it was sent or is no longer wanted; absent ones are ignored.

        Raises:
            OutboxPersistenceError: the storage did not take it; the queue is as before.
            NotHydratedError: the queue is bound to no key.
        """
        await self._change(Remove(id))

    async def record_failure(
        self,
        id: str,  # noqa: A002 - as above
        max_attempts: int,
        *,
        not_before: int = 0,
    ) -> None:
        """Count a failed attempt: ``failed`` once there are ``max_attempts``, else ``queued``.

        Args:
            id: whose attempt.
            max_attempts: at least 1.
            not_before: earliest next try of a drain, milliseconds since the epoch.

        Raises:
            OutboxPersistenceError: the storage did not take it; the queue is as before.
            NotHydratedError: the queue is bound to no key.
            ValueError: ``max_attempts`` is below 1.
        """
        if max_attempts < 1:
            raise ValueError(f"max_attempts is {max_attempts}, must be at least 1")
        await self._change(RecordFailure(id, max_attempts, not_before))

    async def mark_failed(self, id: str) -> None:  # noqa: A002 - as above
        """Count a failed attempt that was the last: ``failed`` at once.

        Raises:
            OutboxPersistenceError: the storage did not take it; the queue is as before.
            NotHydratedError: the queue is bound to no key.
        """
        await self._change(MarkFailed(id))

    async def retry(self, id: str) -> None:  # noqa: A002 - as above
        """Queue a ``failed`` entry again, its attempts kept; others are left as they are.

        Raises:
            OutboxPersistenceError: the storage did not take it; the queue is as before.
            NotHydratedError: the queue is bound to no key.
        """
        await self._change(Retry(id))

    async def refresh(self) -> None:
        """Take over what other processes wrote; `get` alone answers from memory.

        Raises:
            OutboxPersistenceError: the storage could not be read.
            NotHydratedError: the queue is bound to no key.
        """
        await (await self._bound()).refresh()

    def get(self) -> list[OutboxEntry]:
        """All entries in queue order; empty before `hydrate`."""
        return list(self._pipeline.entries.values()) if self._pipeline is not None else []

    def pending(self, predicate: Callable[[Any], bool] | None = None) -> list[OutboxEntry]:
        """The entries whose item the predicate accepts, in queue order; all without one."""
        return [entry for entry in self.get() if predicate is None or predicate(entry.item)]

    def not_before(self, id: str) -> int:  # noqa: A002 - as above
        """When a drain tries an entry next at the earliest, milliseconds since the epoch, or 0."""
        return self._pipeline.not_before.get(id, 0) if self._pipeline is not None else 0

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
        """Forget the key and the entries in memory; what is stored stays as it is."""
        self._clears += 1
        if self._pipeline is not None:
            self._leave(self._pipeline)
            self._pipeline = None
            self._notify()

    def binding(self) -> CommitPipeline:
        """What `hydrate` bound last; for a drain, which ends on the key where it began.

        Raises:
            NotHydratedError: the queue is bound to no key.
        """
        if self._pipeline is None:
            raise NotHydratedError
        return self._pipeline

    def successor(self, binding: CommitPipeline) -> CommitPipeline:
        """Who takes the changes of an earlier binding now."""
        current = self._pipeline
        return current if current is not None and current.key == binding.key else binding

    def _session(self, key: str) -> QueueSession:
        if isinstance(self._storage, QueueBackend):
            return self._storage.bind(key)
        return CacheSession(self._storage, key, self._now_ms)

    def _leave(self, pipeline: CommitPipeline) -> None:
        self._left[pipeline.key] = pipeline

    async def _bound(self) -> CommitPipeline:
        while self._hydrating.locked():
            async with self._hydrating:
                pass
        return self.binding()

    async def _change(self, change: Change) -> Outcome:
        if not isinstance(change, Enqueue):
            check_text("id", change.id)
        if self._hydrating.locked():
            await self._bound()
        return await self.binding().submit(change)

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
