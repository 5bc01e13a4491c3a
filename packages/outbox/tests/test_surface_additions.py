"""Many in one call, another item, pausing, bounds, time limits, other threads and loops."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from starfish_outbox import (
    DrainResult,
    OutboxEntry,
    OutboxFullError,
    OutboxLoopError,
    OutboxPersistenceError,
    OutboxQueue,
    OutboxTimeoutError,
    Refused,
    SqliteOutbox,
    SyncOutbox,
    create_tables,
    drain_outbox,
    enqueue_in,
    run_outbox,
)
from starfish_outbox.testing import MemoryCache

Reopen = Callable[[], Awaitable[OutboxQueue]]


async def test_enqueue_says_whether_it_added(reopen: Reopen) -> None:
    queue = await reopen()

    assert await queue.enqueue("a", 1) is True
    assert await queue.enqueue("a", 2) is False
    await queue.claim("a")
    assert await queue.enqueue("a", 2) is False
    await queue.mark_failed("a")
    assert await queue.enqueue("a", 2) is False
    await queue.remove("a")
    assert await queue.enqueue("a", 2) is True


async def test_many_are_added_in_one_step(reopen: Reopen) -> None:
    queue = await reopen()
    await queue.enqueue("b", "old")

    assert await queue.enqueue_many([("a", 1), ("b", 2), ("c", 3), ("a", 4)], ts=7) == [
        True,
        False,
        True,
        False,
    ]
    assert await queue.enqueue_many([]) == []
    with pytest.raises(TypeError, match="bytes"):
        await queue.enqueue_many([("d", 1), ("e", b"bytes")])
    assert [(e.id, e.item) for e in (await reopen()).get()] == [("b", "old"), ("a", 1), ("c", 3)]


async def test_many_are_all_refused_together() -> None:
    class Picky(MemoryCache):
        async def set_item(self, key: str, value: str) -> None:
            if "poison" in value:
                raise OSError("no")
            await super().set_item(key, value)

    queue = OutboxQueue(Picky())
    await queue.hydrate("k")
    results = await asyncio.gather(
        queue.enqueue_many([("a", 1), ("b", "poison")]),
        queue.enqueue("c", 1),
        return_exceptions=True,
    )

    assert [type(r) for r in results] == [OutboxPersistenceError, bool]
    assert [e.id for e in queue.get()] == ["c"]


async def test_another_item_takes_the_place_of_one_that_waits(reopen: Reopen) -> None:
    queue = await reopen()
    await queue.enqueue_many([("a", 1), ("b", 2)], ts=1)

    assert await queue.replace("a", {"n": 3})
    assert not await queue.replace("absent", 1)
    await queue.claim("b")
    assert not await queue.replace("b", 4)
    await queue.mark_failed("a")
    assert await queue.replace("a", {"n": 5})
    assert [(e.id, e.item, e.status) for e in (await reopen()).get()] == [
        ("a", {"n": 5}, "failed"),
        ("b", 2, "queued"),
    ]


async def test_why_an_entry_failed_is_kept(reopen: Reopen, now) -> None:
    queue = await reopen()
    await queue.enqueue("a", 1)

    async def send(entry: OutboxEntry) -> None:
        raise Refused("422: title is required")

    await drain_outbox(queue, send, now_ms=now)
    for entry in (queue.get()[0], (await reopen()).get()[0]):
        assert entry.failure is not None
        assert (entry.failure.kind, entry.failure.reason) == ("refused", "422: title is required")
        assert entry.failure.at == now.ms


async def test_a_refused_entry_holds_its_lane_only_where_the_application_says_so(
    reopen: Reopen,
) -> None:
    queue = await reopen()
    await queue.enqueue_many([("a", 1), ("b", 2)])

    async def send(entry: OutboxEntry) -> None:
        if entry.id == "a":
            raise Refused("no")

    def lane(entry: OutboxEntry) -> str:
        return "one"

    assert await drain_outbox(queue, send, lane=lane, refused_lane="wait") == DrainResult(0, 1)
    assert await drain_outbox(queue, send, lane=lane, refused_lane="wait") == DrainResult(0, 0)
    assert await drain_outbox(queue, send, lane=lane) == DrainResult(1, 0)
    await queue.enqueue("b", 2)
    await queue.retry("a")
    assert await drain_outbox(queue, send, lane=lane) == DrainResult(1, 1)
    with pytest.raises(ValueError, match="refused_lane is 'stop'"):
        await drain_outbox(queue, send, refused_lane="stop")


async def test_a_paused_queue_is_not_drained(reopen: Reopen) -> None:
    queue = await reopen()
    await queue.enqueue("a", 1)
    sent: list[str] = []

    async def send(entry: OutboxEntry) -> None:
        sent.append(entry.id)

    queue.pause()
    assert await drain_outbox(queue, send) == DrainResult(0, 0)
    online, stop = asyncio.Event(), asyncio.Event()
    online.set()
    run = asyncio.create_task(run_outbox(queue, send, online, stop=stop))
    await asyncio.sleep(0.02)
    assert (sent, queue.is_paused) == ([], True)
    queue.resume()
    async with asyncio.timeout(10):
        while not sent:  # noqa: ASYNC110 - any condition, not one event
            await asyncio.sleep(0.001)
    stop.set()
    await run


@pytest.mark.parametrize("limit", ["max_entries", "max_bytes"])
async def test_a_bound_is_kept_also_by_changes_in_flight(tmp_path: Path, limit: str) -> None:
    async with SqliteOutbox(tmp_path / "o.sqlite") as outbox:
        for storage in (MemoryCache(), outbox):
            queue = OutboxQueue(storage, **{limit: 3 if limit == "max_entries" else 30})
            await queue.hydrate("k")
            results = await asyncio.gather(
                *(queue.enqueue(str(n), "x" * 8) for n in range(6)), return_exceptions=True
            )
            assert [r if r is True else type(r) for r in results] == [True] * 3 + [
                OutboxFullError
            ] * 3
            with pytest.raises(OutboxFullError, match=limit) as caught:
                await queue.enqueue_many([("a", 1), ("b", "y" * 40)])
            assert caught.value.limit == limit
            await queue.remove("1")
            assert await queue.enqueue("again", "x" * 8)
    with pytest.raises(ValueError, match="max_entries is 0"):
        OutboxQueue(MemoryCache(), max_entries=0)


async def test_a_change_ends_in_time_where_the_application_says_so() -> None:
    class Stuck(MemoryCache):
        go_on = asyncio.Event()

        async def set_item(self, key: str, value: str) -> None:
            await self.go_on.wait()
            await super().set_item(key, value)

    cache = Stuck()
    queue = OutboxQueue(cache, timeout_ms=20)
    await queue.hydrate("k")
    with pytest.raises(OutboxTimeoutError, match="20 ms"):
        await queue.enqueue("a", 1)
    cache.go_on.set()
    await queue.enqueue("b", 2)

    assert [e.id for e in queue.get()] == ["a", "b"]


@pytest.mark.parametrize("kind", ["sqlite", "memory"])
def test_a_loop_that_ended_in_a_change_leaves_a_queue_that_works(tmp_path: Path, kind: str) -> None:
    outbox = SqliteOutbox(tmp_path / "o.sqlite", inline_commit_ms=0)
    queue = OutboxQueue(outbox if kind == "sqlite" else MemoryCache())
    asyncio.run(queue.hydrate("k"))

    async def begin(turns: int) -> None:
        change = asyncio.create_task(queue.enqueue(f"torn{turns}", 1))
        for _ in range(turns):
            await asyncio.sleep(0)
        change.cancel()
        await asyncio.sleep(0)
        change.cancel()

    for turns in range(4):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(begin(turns))
        loop.close()

        async def again(number: int) -> None:
            async with asyncio.timeout(10):
                assert await queue.enqueue(f"after{number}", 1)
                await queue.hydrate("k")

        asyncio.run(again(turns))
    assert {f"after{n}" for n in range(4)} <= {e.id for e in queue.get()}
    if kind == "sqlite":
        asyncio.run(outbox.close())


async def test_two_running_loops_are_refused() -> None:
    queue = OutboxQueue(MemoryCache())
    await queue.hydrate("k")
    await queue.enqueue("a", 1)

    def elsewhere() -> None:
        asyncio.run(queue.enqueue("b", 2))

    with pytest.raises(OutboxLoopError):
        await asyncio.to_thread(elsewhere)


def test_the_queue_works_without_asyncio(tmp_path: Path) -> None:
    with SyncOutbox(tmp_path / "o.sqlite", "k") as outbox:
        assert outbox.enqueue("a", 1)
        assert outbox.enqueue_many([("b", 2), ("c", 3)]) == [True, True]
        assert outbox.replace("b", 5)
        assert outbox.claim("a")
        outbox.release("a")
        outbox.record_failure("c", 1, reason="once")
        outbox.retry("c")
        outbox.mark_failed("c", reason="twice")
        sent: list[object] = []
        assert outbox.drain(lambda entry: sent.append(entry.item)) == DrainResult(2, 0)
        assert sent == [1, 5]
        assert [(e.id, e.failure.reason) for e in outbox.get() if e.failure] == [("c", "twice")]
        outbox.remove("c")
        assert outbox.get() == []
    outbox.close()
    with pytest.raises(Exception, match="closed"):
        outbox.enqueue("d", 1)
    with pytest.raises(ValueError, match="max_entries"):
        SyncOutbox(MemoryCache(), "k", max_entries=0)


def test_an_entry_is_there_when_the_applications_transaction_is(tmp_path: Path) -> None:
    path = tmp_path / "shop.sqlite"
    shop = sqlite3.connect(path)
    shop.execute("CREATE TABLE orders (id TEXT)")
    shop.commit()
    with pytest.raises(OutboxPersistenceError, match="create_tables"):
        enqueue_in(shop, "mails", "x", 1)
    create_tables(shop)
    create_tables(shop)
    assert enqueue_in(shop, "mails", "one", {"n": 1}, 1)
    assert not enqueue_in(shop, "mails", "one", {"n": 2})
    shop.commit()
    enqueue_in(shop, "mails", "rolled back", 1)
    shop.rollback()
    sent: list[str] = []
    with SyncOutbox(SqliteOutbox.inside(path), "mails") as mails:
        assert [e.id for e in mails.get()] == ["one"]
        enqueue_in(shop, "mails", "two", 2)
        shop.commit()
        assert mails.enqueue("three", 3)
        assert not mails.enqueue("two", 4)
        assert mails.drain(lambda entry: sent.append(entry.id)) == DrainResult(3, 0)
        assert enqueue_in(shop, "mails", "two", "anew")
        shop.commit()
        assert [e.item for e in mails.get()] == ["anew"]
    assert sent == ["one", "two", "three"]
    assert shop.execute("SELECT count(*) FROM orders").fetchone() == (0,)
    shop.close()
    with pytest.raises(OutboxPersistenceError, match="no such"):
        SyncOutbox(SqliteOutbox.inside(tmp_path / "missing.sqlite"), "k")
