"""Group commit, refusals inside a group, cancellation at every await."""

from __future__ import annotations

import asyncio
import json

import pytest

from starfish_outbox import OutboxPersistenceError, OutboxQueue, SqliteOutbox
from starfish_outbox.testing import MemoryCache


class SlowCache(MemoryCache):
    """Takes a few turns of the loop for a write, before and after it is stored."""

    def __init__(self, turns: int = 3) -> None:
        super().__init__()
        self.turns = turns
        self.writes = 0

    async def set_item(self, key: str, value: str) -> None:
        self.writes += 1
        for _ in range(self.turns):
            await asyncio.sleep(0)
        await super().set_item(key, value)
        for _ in range(self.turns):
            await asyncio.sleep(0)


def stored_ids(cache: MemoryCache) -> list[str]:
    return [entry["id"] for entry in json.loads(cache.values.get("k", "[]"))]


async def test_changes_that_wait_share_one_write() -> None:
    cache = SlowCache()
    queue = OutboxQueue(cache)
    await queue.hydrate("k")
    await asyncio.gather(*(queue.enqueue(str(n), n) for n in range(64)))

    assert cache.writes <= 2
    assert stored_ids(cache) == [str(n) for n in range(64)]


async def test_a_change_that_is_refused_spares_its_neighbours() -> None:
    class Picky(SlowCache):
        async def set_item(self, key: str, value: str) -> None:
            if "poison" in value:
                raise OSError("too big")
            await super().set_item(key, value)

    cache = Picky()
    queue = OutboxQueue(cache)
    await queue.hydrate("k")
    results = await asyncio.gather(
        *(queue.enqueue(f"n{n}", "poison" if n == 2 else n) for n in range(5)),
        return_exceptions=True,
    )

    assert [type(r) for r in results] == [
        bool,
        bool,
        OutboxPersistenceError,
        bool,
        bool,
    ]
    assert stored_ids(cache) == [e.id for e in queue.get()] == ["n0", "n1", "n3", "n4"]


@pytest.mark.parametrize("turns", range(12))
@pytest.mark.parametrize("call", ["enqueue", "claim", "remove", "record_failure"])
async def test_a_change_cancelled_after_any_turn_is_all_or_nothing(call: str, turns: int) -> None:
    cache = SlowCache()
    queue = OutboxQueue(cache)
    await queue.hydrate("k")
    await queue.enqueue("there", 0)
    arguments = {"enqueue": ("new", 1), "record_failure": ("there", 3)}.get(call, ("there",))
    task = asyncio.create_task(getattr(queue, call)(*arguments))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])

    # at once, and for good
    for _ in range(2):
        in_memory = [(e.id, e.status, e.attempts) for e in queue.get()]
        stored = [(e["id"], e["status"], e["attempts"]) for e in json.loads(cache.values["k"])]
        assert in_memory == stored
        for _ in range(20):
            await asyncio.sleep(0)
    if not task.cancelled():
        assert task.exception() is None


@pytest.mark.parametrize("turns", range(8))
async def test_a_sqlite_change_cancelled_after_any_turn_is_all_or_nothing(
    open_outbox, turns: int
) -> None:
    queue, other = OutboxQueue(open_outbox()), OutboxQueue(open_outbox())
    await queue.hydrate("k")
    task = asyncio.create_task(queue.enqueue("a", 1))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])

    in_memory = queue.get()
    await other.hydrate("k")
    assert other.get() == in_memory
    await queue.refresh()
    assert queue.get() == in_memory


async def test_a_second_cancellation_does_not_wait() -> None:
    class Stuck(MemoryCache):
        def __init__(self) -> None:
            super().__init__()
            self.go_on = asyncio.Event()

        async def set_item(self, key: str, value: str) -> None:
            await self.go_on.wait()
            await super().set_item(key, value)

    cache = Stuck()
    queue = OutboxQueue(cache)
    await queue.hydrate("k")
    task = asyncio.create_task(queue.enqueue("a", 1))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.sleep(0.01)
    assert not task.done()
    task.cancel()
    await asyncio.wait([task], timeout=5)

    assert task.cancelled()
    cache.go_on.set()
    await queue.enqueue("b", 2)
    assert [e.id for e in queue.get()] == stored_ids(cache) == ["a", "b"]


async def test_an_enqueue_of_an_id_on_its_way_waits_for_it() -> None:
    cache = SlowCache()
    queue = OutboxQueue(cache)
    await queue.hydrate("k")
    first = asyncio.create_task(queue.enqueue("a", 1))
    await asyncio.sleep(0)
    await queue.enqueue("a", 2)

    assert stored_ids(cache) == ["a"]
    await first
    assert queue.get()[0].item == 1


async def queue_of_a_lone_caller(outbox: SqliteOutbox) -> OutboxQueue:
    """Whose last commits had one change each, so that the next is made at once."""
    queue = OutboxQueue(outbox)
    await queue.hydrate("k")
    for number in range(12):
        await queue.enqueue(f"before-{number}", number)
    return queue


async def test_a_lone_caller_gives_way_to_the_others_after_each_change(tmp_path) -> None:
    async with SqliteOutbox(tmp_path / "o.sqlite", inline_commit_ms=1e9) as outbox:
        queue = await queue_of_a_lone_caller(outbox)
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(count())
        for number in range(50):
            await queue.enqueue(str(number), number)
        other.cancel()

        assert turns >= 50


@pytest.mark.parametrize("callers", [2, 3, 64])
async def test_callers_that_come_after_a_lone_one_share_commits(tmp_path, callers: int) -> None:
    async with SqliteOutbox(tmp_path / "o.sqlite", inline_commit_ms=1e9) as outbox:
        queue = await queue_of_a_lone_caller(outbox)
        connection = outbox._thread.engine.connection
        before = connection.total_changes
        statements: list[str] = []
        connection.set_trace_callback(statements.append)
        ids = iter([str(n) for n in range(callers * 20)])

        async def enqueue() -> None:
            for entry_id in ids:
                await queue.enqueue(entry_id, 1)

        await asyncio.gather(*(enqueue() for _ in range(callers)))
        connection.set_trace_callback(None)

        assert connection.total_changes - before == callers * 20
        assert statements.count("COMMIT") <= 22


async def test_a_lone_change_cancelled_in_its_turn_is_stored(tmp_path) -> None:
    async with SqliteOutbox(tmp_path / "o.sqlite", inline_commit_ms=1e9) as outbox:
        queue = await queue_of_a_lone_caller(outbox)
        task = asyncio.create_task(queue.enqueue("a", 1))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await queue.enqueue("b", 2)

        assert [entry.id for entry in queue.get()][-2:] == ["a", "b"]
        other = OutboxQueue(outbox)
        await other.hydrate("k")
        assert [entry.id for entry in other.get()][-2:] == ["a", "b"]
