"""Queues that are longer than memory: read in pages, drained in order, at the cost of a short one."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from starfish_outbox import (
    DrainResult,
    ExponentialBackoff,
    OutboxEntry,
    OutboxQueue,
    SqliteOutbox,
    drain_outbox,
)
from starfish_outbox._sqlite.session import WINDOW

COUNT = 3 * WINDOW


async def filled(outbox: SqliteOutbox, count: int = COUNT, key: str = "k") -> OutboxQueue:
    queue = OutboxQueue(outbox)
    await queue.hydrate(key)
    await queue.enqueue_many([(f"n{n}", {"lane": n % 7, "n": n}) for n in range(count)])
    return queue


async def test_everything_is_there_though_it_is_not_in_memory(tmp_path: Path) -> None:
    async with SqliteOutbox(tmp_path / "o.sqlite") as outbox:
        queue = await filled(outbox)
        await queue.refresh()

        assert queue._pipeline.known is None
        assert [e.id for e in queue.get()] == [f"n{n}" for n in range(COUNT)]
        assert [e.id async for e in queue.entries()] == [f"n{n}" for n in range(COUNT)]
        assert not await queue.enqueue("n5", "there already")
        assert await queue.enqueue("new", 1)
    async with SqliteOutbox(tmp_path / "o.sqlite") as outbox:
        queue = OutboxQueue(outbox)
        await queue.hydrate("k")
        assert len(queue.get()) == COUNT + 1
        assert not await queue.enqueue("new", 2)


async def test_lanes_keep_their_order_across_pages_and_memory_comes_back(tmp_path: Path) -> None:
    sent: dict[int, list[int]] = {}

    async def send(entry: OutboxEntry) -> None:
        if len(sent.setdefault(entry.item["lane"], [])) % 50 == 10:
            await asyncio.sleep(0)
        sent[entry.item["lane"]].append(entry.item["n"])

    async with SqliteOutbox(tmp_path / "o.sqlite") as outbox:
        queue = await filled(outbox)
        result = await drain_outbox(queue, send, concurrency=5, lane=lambda e: e.item["lane"])

        assert result == DrainResult(COUNT, 0)
        assert sent == {lane: list(range(lane, COUNT, 7)) for lane in range(7)}
        await queue.refresh()
        assert queue._pipeline.known == {}


async def test_a_lane_that_fails_stays_held_in_later_pages(tmp_path: Path) -> None:
    tried: list[int] = []

    async def send(entry: OutboxEntry) -> None:
        if entry.item["lane"] == 3:
            tried.append(entry.item["n"])
            raise OSError("down")

    async with SqliteOutbox(tmp_path / "o.sqlite") as outbox:
        queue = await filled(outbox)
        await drain_outbox(
            queue, send, concurrency=4, lane=lambda e: e.item["lane"], backoff=ExponentialBackoff()
        )

        assert tried == [3]
        left = queue.get()
        assert {e.item["lane"] for e in left} == {3}
        assert queue.not_before("n3") > 0


async def test_an_item_of_another_process_is_found_and_its_removal_seen(tmp_path: Path) -> None:
    path = tmp_path / "o.sqlite"
    async with SqliteOutbox(path) as one, SqliteOutbox(path) as two:
        ours = await filled(one)
        theirs = OutboxQueue(two)
        await theirs.hydrate("k")
        await theirs.enqueue("theirs", 1)
        assert not await ours.enqueue("theirs", 2)
        await theirs.remove("n0")
        assert await ours.enqueue("n0", "anew")
        await ours.remove("theirs")

        assert [e.id for e in ours.get()] == [*(f"n{n}" for n in range(1, COUNT)), "n0"]


async def test_numbers_are_never_given_twice(tmp_path: Path) -> None:
    path = tmp_path / "o.sqlite"
    async with SqliteOutbox(path) as one, SqliteOutbox(path) as two:
        first, second = OutboxQueue(one), OutboxQueue(two)
        await first.hydrate("k")
        await second.hydrate("k")
        for number in range(20):
            # the second one has seen the row that the first one takes out
            await first.enqueue(f"a{number}", number)
            await second.enqueue(f"b{number}", number)
            await second.remove(f"b{number}")
            await first.remove(f"a{number}")
            assert await second.enqueue("again", number)
            assert not await first.enqueue("again", number)
            await first.remove("again")

        await first.refresh()
        await second.refresh()
        assert first.get() == second.get() == []


@pytest.mark.slow
async def test_a_row_of_another_key_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "o.sqlite"
    async with SqliteOutbox(path) as one, SqliteOutbox(path) as two:
        queue = await filled(one, 20_000)
        await queue.refresh()
        other = OutboxQueue(two)
        await other.hydrate("other")
        took = []
        for number in range(5):
            await other.enqueue(str(number), number)
            begin = time.perf_counter()
            await queue.refresh()
            took.append(time.perf_counter() - begin)

        assert min(took) < 0.02


async def test_two_queues_of_one_outbox_see_each_other(tmp_path: Path) -> None:
    async with SqliteOutbox(tmp_path / "o.sqlite") as outbox:
        one, two = OutboxQueue(outbox), OutboxQueue(outbox)
        await one.hydrate("k")
        await two.hydrate("k")
        await one.enqueue("a", 1)
        assert not await two.enqueue("a", 2)
        await one.enqueue("b", 1)
        await two.refresh()

        assert [e.id for e in two.get()] == ["a", "b"]
        assert await two.claim("b")
        assert not await one.claim("b")
