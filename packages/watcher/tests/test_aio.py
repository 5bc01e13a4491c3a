"""The asyncio face: the same answers, no thread that waits, and a cancelled call that took nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from starfish_watcher import (
    NEW,
    Change,
    EventStore,
    Region,
    SequenceConflictError,
    StoreClosed,
    SubscriptionPruned,
    watch_async,
)
from starfish_watcher.aio import AsyncEventStore
from starfish_watcher.testing.samples import CREDIT, NOTE, Balance, Stubborn, at, credit


@pytest.fixture(params=["memory", "sqlite"])
async def aio(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncEventStore]:
    store = (
        EventStore.memory()
        if request.param == "memory"
        else await asyncio.to_thread(EventStore.open, tmp_path / "e.db")
    )
    async with store.aio as aio:
        yield aio


async def pay(aio: AsyncEventStore, entity: str, amount: int = 1, **options: Any) -> int:
    return (await aio.append(at(entity), CREDIT, {"amount": amount}, **options)).generation


async def test_every_reader_gives_what_the_sync_store_gives(aio: AsyncEventStore) -> None:
    receipt = await aio.append(at("a"), CREDIT, {"amount": 2})
    await aio.append_batch([(at("a:b"), CREDIT, {"amount": 3}), (at("a"), NOTE, None)])

    assert [event.sequence for event in await aio.read()] == [1, 2, 3]
    assert [event.sequence for event in await aio.query(Region(kind=NOTE))] == [3]
    assert (await aio.get(receipt.event_id)) == (await aio.read(0, 1))[0]
    assert (await aio.generation("a"), await aio.last_sequence()) == (2, 3)
    assert await aio.project(Balance, "a") == 2
    assert await aio.project_if_changed(Balance, "a", 1) == Change(2, 2)
    assert (await aio.verify_chain()).events == 3
    assert await aio.compact(lambda event: event.kind == CREDIT) == 1


async def test_errors_are_those_of_the_sync_store(aio: AsyncEventStore) -> None:
    await pay(aio, "a", expected=NEW)

    with pytest.raises(SequenceConflictError):
        await pay(aio, "a", expected=NEW)
    with pytest.raises(TypeError, match="payload is a set"):
        await aio.append(at("a"), CREDIT, {1})
    await aio.close()
    with pytest.raises(StoreClosed):
        await pay(aio, "a")


async def test_many_tasks_share_commits(aio: AsyncEventStore) -> None:
    generations = await asyncio.gather(*(pay(aio, "a") for _ in range(200)))

    assert sorted(generations) == list(range(1, 201))


async def test_waiting_needs_no_thread(aio: AsyncEventStore) -> None:
    before = set(threading.enumerate())  # those of other tests of the run do not count
    watchers = [await aio.watch_projection(Balance, f"e:{n}") for n in range(200)]
    waiting = [asyncio.create_task(watcher.recv(20)) for watcher in watchers]
    await asyncio.sleep(0.05)
    assert len(set(threading.enumerate()) - before) < 40

    await aio.append_batch([(at(f"e:{n}"), CREDIT, {"amount": n}) for n in range(200)])

    changes = await asyncio.gather(*waiting)
    assert changes == [Change(1, n) for n in range(200)]


@pytest.mark.usefixtures("repetition")
async def test_a_cancelled_recv_has_taken_nothing(aio: AsyncEventStore) -> None:
    watcher = await aio.watch_projection(Balance, "a")
    prefix = await aio.watch_prefix(Balance, "a")
    subscription = await aio.subscribe()
    cursor = await aio.cursor()
    for generation in range(1, 30):
        calls = [watcher.recv(20), prefix.recv(20), subscription.recv(20), cursor.pull_batch(1, 20)]
        tasks = [asyncio.create_task(call) for call in calls]
        await pay(aio, "a")
        for _ in range(generation % 5):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        again = [watcher.recv, prefix.recv, subscription.recv, lambda t: cursor.pull_batch(1, t)]
        got = [
            await call(20) if isinstance(outcome, asyncio.CancelledError) else outcome
            for outcome, call in zip(outcomes, again, strict=True)
        ]

        assert got[0] == Change(generation, generation)
        assert got[1] == ("a", Change(generation, generation))
        assert got[2].sequence == generation
        assert [event.sequence for event in got[3]] == [generation]


async def test_a_timeout_of_zero_gives_what_is_there(aio: AsyncEventStore) -> None:
    watcher = await aio.watch_projection(Balance, "a")
    subscription = await aio.subscribe()
    cursor = await aio.cursor()
    for call in (watcher.recv, subscription.recv):
        with pytest.raises(TimeoutError):
            await call(0)
    assert await cursor.pull_batch(1, 0) == []
    await pay(aio, "a")

    assert await watcher.recv(0) == Change(1, 1)
    assert (await subscription.recv(0)).sequence == 1
    assert len(await cursor.pull_batch(5, 0)) == 1


async def test_a_slow_subscription_and_watcher_are_told(aio: AsyncEventStore) -> None:
    subscription = await aio.subscribe(capacity=1)
    watcher = await aio.watch_projection(Balance, "a", capacity=1)
    for _ in range(3):
        await pay(aio, "a")

    assert len(await subscription.pull_batch(5, 5)) == 1
    with pytest.raises(SubscriptionPruned):
        await subscription.pull_batch(5, 5)
    assert await watcher.recv(5) == Change(3, 3)
    with pytest.raises(SubscriptionPruned):
        await watcher.recv(5)
    await watcher.resubscribe()
    await pay(aio, "a")
    assert await watcher.recv(5) == Change(4, 4)


async def test_a_failing_projection_is_tried_again(aio: AsyncEventStore) -> None:
    stubborn = Stubborn()
    watcher = await aio.watch_projection(stubborn, "a")
    prefix = await aio.watch_prefix(stubborn, None)
    await pay(aio, "a")
    for call in (watcher.recv, prefix.recv):
        with pytest.raises(Exception, match="not yet"):
            await call(5)
    stubborn.healed = True

    assert await watcher.recv(0) == Change(1, [1])
    assert await prefix.recv(0) == ("a", Change(1, [1]))


async def test_checkpoints_are_acknowledged(aio: AsyncEventStore, tmp_path: Path) -> None:
    for _ in range(4):
        await pay(aio, "a")
    cursor = await aio.cursor(checkpoint=tmp_path / "cursor")
    assert len(await cursor.poll(3)) == 3
    await cursor.ack()
    assert len(await cursor.poll(3)) == 1
    await cursor.rewind()
    assert (cursor.position, cursor.acked) == (3, 3)
    assert len(await (await aio.cursor(checkpoint=tmp_path / "cursor")).poll(3)) == 1

    watcher = await aio.watch_projection_cursor(Balance, "a", checkpoint=tmp_path / "watcher")
    assert await watcher.recv(0) == Change(4, 4)
    await watcher.ack()
    again = await aio.watch_projection_cursor(Balance, "a", checkpoint=tmp_path / "watcher")
    assert (watcher.acked, await again.try_recv()) == (4, None)


@pytest.mark.usefixtures("repetition")
async def test_everybody_who_waits_wakes_when_the_store_closes(aio: AsyncEventStore) -> None:
    calls = [
        (await aio.watch_projection(Balance, "a")).recv(),
        (await aio.watch_projection_cursor(Balance, "a")).recv(),
        (await aio.watch_prefix(Balance, "a")).recv(),
        (await aio.subscribe()).recv(),
        (await aio.cursor()).pull_batch(),
    ]
    tasks = [asyncio.create_task(call) for call in calls]
    await asyncio.sleep(0.01)
    await aio.close()

    outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
    assert [type(outcome) for outcome in outcomes] == [StoreClosed] * 5


async def test_iteration_ends_with_its_watcher(aio: AsyncEventStore) -> None:
    generations = []
    async with await aio.watch_projection(Balance, "a", include_initial=True) as watcher:
        async for change in watcher:
            generations.append(change.generation)
            if change.generation == 2:
                watcher.close()
            else:
                await pay(aio, "a")
    assert generations == [0, 1, 2]
    async with await aio.watch_prefix(Balance, "a", include_initial=True) as prefix:
        async for entity, change in prefix:
            assert (entity, change) == ("a", Change(2, 2))
            prefix.close()


async def test_the_store_is_an_asynchronous_source(aio: AsyncEventStore) -> None:
    watcher = await watch_async(aio, Balance, "a")
    await pay(aio, "a", 7)

    assert await watcher.recv(5) == Change(1, 7)


def test_a_loop_that_ended_does_not_harm_the_writer() -> None:
    with EventStore.memory() as store:

        async def leave() -> None:
            watcher = await store.aio.watch_projection(Balance, "a")
            task = asyncio.create_task(watcher.recv(20))
            append = asyncio.create_task(pay(store.aio, "a"))
            await asyncio.sleep(0)
            del task, append

        asyncio.run(leave())

        assert credit(store, "a") == 2


@pytest.mark.usefixtures("repetition")
async def test_a_watcher_whose_making_was_cancelled_is_not_left_behind(
    aio: AsyncEventStore,
) -> None:
    for _ in range(20):
        making = asyncio.create_task(aio.watch_projection(Balance, "a"))
        await asyncio.sleep(0)
        making.cancel()
        await asyncio.gather(making, return_exceptions=True)
    for _ in range(500):
        if aio._store._hub._count == 0:
            break
        await asyncio.sleep(0.01)
    assert aio._store._hub._count == 0
