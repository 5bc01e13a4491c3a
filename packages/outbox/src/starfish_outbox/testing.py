"""For the author of a storage: the suites that every storage here passes, and a cache for tests.

A suite is a class to inherit from; the test module supplies one fixture. The tests are coroutines:
run them with ``pytest-asyncio`` in its ``auto`` mode.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starfish_outbox._cache.local_cache import LocalCache
from starfish_outbox._drain.drain import drain_outbox
from starfish_outbox._outbox_queue import OutboxQueue
from starfish_outbox._queue.backend import QueueBackend
from starfish_outbox._queue.entry import OutboxEntry

__all__ = ("LocalCacheContract", "MemoryCache", "OpenBackend", "QueueBackendContract")

KEY = "outbox.ada"


class MemoryCache:
    """A `LocalCache` in a dictionary; loses everything with the process.

    Examples:
        >>> cache = MemoryCache({"outbox.ada": "[]"})
        >>> asyncio.run(cache.get_item("outbox.ada"))
        '[]'
    """

    def __init__(self, values: dict[str, str] | None = None) -> None:
        self.values = {} if values is None else values
        """The texts by key."""

    async def get_item(self, key: str) -> str | None:
        """The text under a key, ``None`` when there is none."""
        return self.values.get(key)

    async def set_item(self, key: str, value: str) -> None:
        """Set the text under a key."""
        self.values[key] = value

    async def remove_item(self, key: str) -> None:
        """Remove a key; no error when it is absent."""
        self.values.pop(key, None)


class LocalCacheContract:
    """What a queue needs from a `LocalCache`.

    The test module overrides the fixture ``cache`` with one that gives an empty cache.
    """

    async def test_an_absent_key_is_none(self, cache: LocalCache) -> None:
        """Nothing was stored."""
        assert await cache.get_item(KEY) is None

    async def test_a_text_comes_back_as_it_was(self, cache: LocalCache) -> None:
        """Line ends, quotes and every plane of Unicode survive."""
        text = '["a\\n\r\n\t\\u0000", "é 漢 🚀", ""]'

        await cache.set_item(KEY, text)

        assert await cache.get_item(KEY) == text

    async def test_a_second_write_replaces_the_first(self, cache: LocalCache) -> None:
        """A shorter text leaves nothing of a longer one."""
        await cache.set_item(KEY, "[1, 2, 3]")
        await cache.set_item(KEY, "[]")

        assert await cache.get_item(KEY) == "[]"

    async def test_keys_do_not_touch_each_other(self, cache: LocalCache) -> None:
        """Not even keys that look like paths, or differ in case only."""
        keys = [KEY, "outbox.Ada", "outbox", "../outbox", "a/b", "a%2Fb", ".", ""]
        for number, key in enumerate(keys):
            await cache.set_item(key, str(number))
        await cache.remove_item("outbox")

        found = [await cache.get_item(key) for key in keys]
        assert found == ["0", "1", None, "3", "4", "5", "6", "7"]

    async def test_removing_an_absent_key_is_no_error(self, cache: LocalCache) -> None:
        """Twice is as good as once."""
        await cache.set_item(KEY, "[]")
        await cache.remove_item(KEY)
        await cache.remove_item(KEY)

        assert await cache.get_item(KEY) is None

    async def test_it_carries_a_queue(self, cache: LocalCache) -> None:
        """What one queue stored, the next one has."""
        first = OutboxQueue(cache)
        await first.hydrate(KEY)
        await first.enqueue("a", {"text": "é 🚀"}, ts=1)

        second = OutboxQueue(cache)
        await second.hydrate(KEY)
        assert second.get() == [OutboxEntry("a", {"text": "é 🚀"}, "queued", 0, 1)]


OpenBackend = Callable[[], Awaitable[QueueBackend]]
"""Opens the same storage once more, as another process would."""


class QueueBackendContract:
    """What a queue needs from a `QueueBackend`.

    The test module overrides the fixture ``open_backend`` with an `OpenBackend` of an empty
    storage. Storages that it gave may still be open when it is called again.
    """

    async def test_what_was_enqueued_is_there_for_the_next(self, open_backend: OpenBackend) -> None:
        """In order, with every field."""
        first = await self._queue(open_backend)
        for number in range(5):
            await first.enqueue(f"n{number}", {"n": number}, ts=number)

        second = await self._queue(open_backend)
        assert second.get() == first.get()
        assert [entry.id for entry in second.get()] == ["n0", "n1", "n2", "n3", "n4"]

    async def test_an_id_that_is_queued_is_ignored(self, open_backend: OpenBackend) -> None:
        """Also when somebody else queued it."""
        first, second = await self._queue(open_backend), await self._queue(open_backend)
        await first.enqueue("a", 1, ts=1)
        await second.enqueue("a", 2, ts=2)

        assert second.get() == [OutboxEntry("a", 1, "queued", 0, 1)]

    async def test_keys_do_not_touch_each_other(self, open_backend: OpenBackend) -> None:
        """One identity never sees another's entries."""
        ada = await self._queue(open_backend)
        bob = OutboxQueue(await open_backend())
        await bob.hydrate("outbox.bob")
        await ada.enqueue("a", 1)
        await bob.enqueue("a", 2)
        await ada.remove("a")

        await bob.refresh()
        assert [entry.item for entry in bob.get()] == [2]

    async def test_only_one_holder_has_a_claim(self, open_backend: OpenBackend) -> None:
        """The second one is told so."""
        first, second = await self._queue(open_backend), await self._queue(open_backend)
        await first.enqueue("a", 1)

        won = await asyncio.gather(first.claim("a"), second.claim("a"), second.claim("a"))
        assert sorted(won) == [False, False, True]

    async def test_a_released_claim_can_be_taken(self, open_backend: OpenBackend) -> None:
        """No attempt is counted."""
        first, second = await self._queue(open_backend), await self._queue(open_backend)
        await first.enqueue("a", 1)
        await first.claim("a")
        await first.release("a")

        assert await second.claim("a")
        assert second.get()[0].attempts == 0

    async def test_failures_are_counted_in_the_storage(self, open_backend: OpenBackend) -> None:
        """`retry` keeps the count."""
        first = await self._queue(open_backend)
        await first.enqueue("a", 1)
        for _ in range(2):
            await first.claim("a")
            await first.record_failure("a", 2)
        await first.retry("a")

        second = await self._queue(open_backend)
        assert [(entry.status, entry.attempts) for entry in second.get()] == [("queued", 2)]

    async def test_two_drains_send_every_entry_once(self, open_backend: OpenBackend) -> None:
        """However they interleave."""
        first, second = await self._queue(open_backend), await self._queue(open_backend)
        for number in range(30):
            await first.enqueue(f"n{number}", number)
        sent: list[int] = []

        async def send(entry: OutboxEntry) -> None:
            await asyncio.sleep(0)
            sent.append(entry.item)

        results = await asyncio.gather(
            drain_outbox(first, send, concurrency=3), drain_outbox(second, send, concurrency=3)
        )
        assert sorted(sent) == list(range(30))
        assert sum(result.sent for result in results) == 30

    async def _queue(self, open_backend: OpenBackend) -> OutboxQueue:
        queue = OutboxQueue(await open_backend())
        await queue.hydrate(KEY)
        return queue
