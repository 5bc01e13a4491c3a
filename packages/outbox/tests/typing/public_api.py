"""Read by the type checker, never run: the public surface as a user sees it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, assert_type

import httpx

from starfish_outbox import (
    DrainResult,
    ExponentialBackoff,
    FileCache,
    LocalCache,
    OutboxEntry,
    OutboxQueue,
    OutboxStatus,
    Quarantined,
    QueueBackend,
    SqliteOutbox,
    drain_outbox,
    reset_sending_to_queued,
    run_outbox,
)
from starfish_outbox.http import PushSender
from starfish_outbox.testing import MemoryCache
from starfish_protocol.types import PullResult


class OwnCache:
    """Needs no base class."""

    async def get_item(self, key: str) -> str | None: ...
    async def set_item(self, key: str, value: str) -> None: ...
    async def remove_item(self, key: str) -> None: ...


async def send(entry: OutboxEntry) -> None: ...


def keep(entry: OutboxEntry, current: PullResult) -> dict[str, Any] | None: ...


async def use(client: httpx.AsyncClient) -> None:
    caches: list[LocalCache] = [OwnCache(), MemoryCache(), FileCache("folder")]
    backend: QueueBackend = SqliteOutbox("outbox.sqlite", lease_ms=30_000, now_ms=lambda: 0)
    queue = OutboxQueue(caches[0])
    OutboxQueue(backend)
    assert_type(await queue.hydrate("k"), None)
    assert_type(await queue.enqueue("a", {"x": 1}), bool)
    assert_type(await queue.enqueue("a", {"x": 1}, 5), bool)
    assert_type(await queue.enqueue("a", {"x": 1}, ts=5), bool)
    assert_type(await queue.claim("a"), bool)
    assert_type(await queue.remove("a"), None)
    assert_type(await queue.record_failure("a", 5), None)
    assert_type(await queue.mark_failed("a"), None)
    assert_type(await queue.retry("a"), None)
    assert_type(await queue.release("a"), None)
    assert_type(await queue.refresh(), None)
    assert_type(queue.get(), list[OutboxEntry])
    assert_type(queue.pending(lambda item: item["x"] > 1), list[OutboxEntry])
    assert_type(queue.subscribe(lambda: None), Callable[[], None])
    assert_type(queue.clear(), None)
    assert_type(queue.quarantined, tuple[Quarantined, ...])
    assert_type(queue.get()[0].status, OutboxStatus)
    assert_type(reset_sending_to_queued(queue.get()), list[OutboxEntry])
    result = await drain_outbox(
        queue,
        send,
        max_attempts=5,
        concurrency=8,
        lane=lambda entry: entry.id,
        backoff=ExponentialBackoff(rng=random.Random(7)),
        on_progress=print,
        stop=asyncio.Event(),
    )
    assert_type(result, DrainResult)
    assert_type(result.sent, int)
    await drain_outbox(queue, PushSender(client, on_conflict=keep))
    await run_outbox(queue, PushSender(client), asyncio.Event(), concurrency=8)
