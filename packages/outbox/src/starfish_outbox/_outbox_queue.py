"""The queue of an application, over any storage that it brings."""

from __future__ import annotations

from collections.abc import Callable

from starfish_outbox._cache.local_cache import CacheBackend, LocalCache
from starfish_outbox._clock import system_now_ms
from starfish_outbox._queue.backend import QueueBackend
from starfish_outbox._queue.queue import BackedQueue


class OutboxQueue(BackedQueue):
    """A durable queue of writes of one identity.

    Calls may overlap: changes happen one after the other, and the order in memory is the order in
    the storage. A call that is cancelled has either happened in both or in neither when its
    ``CancelledError`` arrives.

    Args:
        storage: a `LocalCache` whose key nobody else writes, or a `SqliteOutbox`.
        now_ms: the clock, milliseconds since the epoch.
        max_entries: entries that may wait; one more is refused with `OutboxFullError`.
        max_bytes: bytes of JSON text that their items may have together.
        timeout_ms: how long a change may take before it ends with `OutboxTimeoutError`; by default
            as long as the storage needs.

    Raises:
        ValueError: a bound is below 1.

    Examples:
        >>> import asyncio
        >>> from starfish_outbox.testing import MemoryCache
        >>> async def main() -> None:
        ...     queue = OutboxQueue(MemoryCache())
        ...     await queue.hydrate("outbox.ada")
        ...     print(await queue.enqueue("note-1", {"text": "hi"}))
        ...     print(await queue.claim("note-1"), await queue.claim("note-1"))
        >>> asyncio.run(main())
        True
        True False
    """

    def __init__(
        self,
        storage: LocalCache | QueueBackend,
        *,
        now_ms: Callable[[], int] = system_now_ms,
        max_entries: int | None = None,
        max_bytes: int | None = None,
        timeout_ms: int | None = None,
    ) -> None:
        super().__init__(
            storage if isinstance(storage, QueueBackend) else CacheBackend(storage, now_ms),
            now_ms=now_ms,
            max_entries=max_entries,
            max_bytes=max_bytes,
            timeout_ms=timeout_ms,
        )
