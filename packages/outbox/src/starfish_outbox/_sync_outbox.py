"""The queue for programs without asyncio."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar

from starfish_outbox._cache.local_cache import LocalCache
from starfish_outbox._clock import system_now_ms
from starfish_outbox._drain.backoff import Backoff
from starfish_outbox._drain.drain import drain_outbox
from starfish_outbox._drain.lanes import LaneOf
from starfish_outbox._drain.options import DrainProgress, DrainResult, OnUnauthorized, RefusedLane
from starfish_outbox._outbox_queue import OutboxQueue
from starfish_outbox._queue.backend import QueueBackend
from starfish_outbox._queue.entry import OutboxEntry
from starfish_outbox._sqlite.outbox import SqliteOutbox
from starfish_outbox.errors import OutboxClosedError, OutboxForkedError

T = TypeVar("T")


class SyncOutbox:
    """An `OutboxQueue` whose calls block; safe between threads.

    It runs an event loop on a thread of its own. Each method does what the one of `OutboxQueue` of the
    same name does, and raises the same errors.

    Args:
        storage: the path of a `SqliteOutbox`, or a storage, which is then left open by `close`.
        key: one queue of one identity, for instance ``outbox.<user>``.
        now_ms: the clock, milliseconds since the epoch.
        max_entries: as for `OutboxQueue`.
        max_bytes: as for `OutboxQueue`.
        timeout_ms: as for `OutboxQueue`.

    Raises:
        OutboxError: the storage cannot be read.

    Examples:
        >>> import tempfile
        >>> with SyncOutbox(tempfile.mkdtemp() + "/outbox.sqlite", "outbox.ada") as outbox:
        ...     print(outbox.enqueue("note-1", {"text": "hi"}))
        ...     print(outbox.drain(lambda entry: print("sending", entry.item)))
        True
        sending {'text': 'hi'}
        DrainResult(sent=1, failed=0)
    """

    def __init__(
        self,
        storage: str | os.PathLike[str] | LocalCache | QueueBackend,
        key: str,
        *,
        now_ms: Callable[[], int] = system_now_ms,
        max_entries: int | None = None,
        max_bytes: int | None = None,
        timeout_ms: int | None = None,
    ) -> None:
        self._own = (
            SqliteOutbox(storage, now_ms=now_ms) if isinstance(storage, str | os.PathLike) else None
        )
        self._location = str(storage) if self._own is not None else key
        self._queue = OutboxQueue(
            self._own if self._own is not None else storage,  # type: ignore[arg-type]  # a path is own
            now_ms=now_ms,
            max_entries=max_entries,
            max_bytes=max_bytes,
            timeout_ms=timeout_ms,
        )
        self._now_ms = now_ms
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="starfish-sync-outbox", daemon=True
        )
        self._thread.start()
        try:
            self._run(self._queue.hydrate(key))
        except BaseException:
            self.close()
            raise

    def enqueue(self, id: str, item: Any, ts: int | None = None) -> bool:  # noqa: A002 - the name of the field
        """As `OutboxQueue.enqueue`."""
        return self._run(self._queue.enqueue(id, item, ts))

    def enqueue_many(self, items: Iterable[tuple[str, Any]], ts: int | None = None) -> list[bool]:
        """As `OutboxQueue.enqueue_many`."""
        return self._run(self._queue.enqueue_many(items, ts))

    def replace(self, id: str, item: Any) -> bool:  # noqa: A002 - as above
        """As `OutboxQueue.replace`."""
        return self._run(self._queue.replace(id, item))

    def claim(self, id: str) -> bool:  # noqa: A002 - as above
        """As `OutboxQueue.claim`."""
        return self._run(self._queue.claim(id))

    def release(self, id: str) -> None:  # noqa: A002 - as above
        """As `OutboxQueue.release`."""
        self._run(self._queue.release(id))

    def remove(self, id: str) -> None:  # noqa: A002 - as above
        """As `OutboxQueue.remove`."""
        self._run(self._queue.remove(id))

    def record_failure(
        self,
        id: str,  # noqa: A002 - as above
        max_attempts: int,
        *,
        not_before: int = 0,
        reason: str | None = None,
    ) -> None:
        """As `OutboxQueue.record_failure`."""
        self._run(
            self._queue.record_failure(id, max_attempts, not_before=not_before, reason=reason)
        )

    def mark_failed(self, id: str, *, reason: str | None = None) -> None:  # noqa: A002 - as above
        """As `OutboxQueue.mark_failed`."""
        self._run(self._queue.mark_failed(id, reason=reason))

    def retry(self, id: str) -> None:  # noqa: A002 - as above
        """As `OutboxQueue.retry`."""
        self._run(self._queue.retry(id))

    def get(self) -> list[OutboxEntry]:
        """As `OutboxQueue.get`, with the entries of other processes."""

        async def refreshed() -> list[OutboxEntry]:
            await self._queue.refresh()
            return self._queue.get()

        return self._run(refreshed())

    def drain(
        self,
        send: Callable[[OutboxEntry], object],
        *,
        max_attempts: int = 5,
        concurrency: int = 1,
        lane: LaneOf | None = None,
        refused_lane: RefusedLane = "continue",
        backoff: Backoff | None = None,
        on_progress: Callable[[DrainProgress], object] | None = None,
        on_unauthorized: OnUnauthorized | None = None,
    ) -> DrainResult:
        """As `drain_outbox`, with a ``send`` that blocks; it runs on threads of its own.

        Ctrl-C puts the entries that are being sent back to ``queued`` when the sends have ended.
        """

        async def send_in_thread(entry: OutboxEntry) -> None:
            await asyncio.to_thread(send, entry)

        return self._run(
            drain_outbox(
                self._queue,
                send_in_thread,
                max_attempts=max_attempts,
                concurrency=concurrency,
                lane=lane,
                refused_lane=refused_lane,
                backoff=backoff,
                on_progress=on_progress,
                on_unauthorized=on_unauthorized,
                now_ms=self._now_ms,
            )
        )

    def close(self) -> None:
        """End the thread; close the storage that this object opened. Twice is harmless.

        Raises:
            OutboxForkedError: it was opened before this process was forked.
        """
        if self._pid != os.getpid():
            raise OutboxForkedError(self._location)
        if self._loop.is_closed():
            return
        try:
            if self._own is not None:
                self._run(self._own.close())
            self._run(self._loop.shutdown_default_executor())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        if self._pid != os.getpid():
            call.close()
            raise OutboxForkedError(self._location)
        if self._loop.is_closed():
            call.close()
            raise OutboxClosedError(self._location)
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise
