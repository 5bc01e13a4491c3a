"""Draining whenever there is a network."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from starfish_outbox import ExponentialBackoff, OutboxEntry, OutboxQueue, run_outbox

Reopen = Callable[[], Awaitable[OutboxQueue]]


class World:
    """A queue that is being run, and the entries that it sent."""

    def __init__(self, queue: OutboxQueue) -> None:
        self.queue = queue
        self.online = asyncio.Event()
        self.stop = asyncio.Event()
        self.sent: list[str] = []
        self.tried = 0
        self.failures = 0

    async def send(self, entry: OutboxEntry) -> None:
        self.tried += 1
        if self.failures:
            self.failures -= 1
            raise OSError("down")
        self.sent.append(entry.id)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not holds():  # noqa: ASYNC110 - any condition, not one event
                await asyncio.sleep(0.001)


async def test_it_sends_when_online_and_what_comes_later(reopen: Reopen) -> None:
    world = World(await reopen())
    await world.queue.enqueue("a", 1)
    run = asyncio.create_task(run_outbox(world.queue, world.send, world.online, stop=world.stop))
    await asyncio.sleep(0.02)
    assert world.tried == 0

    world.online.set()
    await world.until(lambda: world.sent == ["a"])
    await world.queue.enqueue("b", 1)
    await world.until(lambda: world.sent == ["a", "b"])
    world.online.clear()
    await asyncio.sleep(0.01)
    world.queue.subscribe(lambda: None)
    world.stop.set()
    await asyncio.wait_for(run, 5)


async def test_it_waits_for_the_backoff_and_tries_again(reopen: Reopen) -> None:
    world = World(await reopen())
    world.failures = 3
    world.online.set()
    await world.queue.enqueue("a", 1)
    # the clock of the queue stands still, so the run needs the machine's
    run = asyncio.create_task(
        run_outbox(
            world.queue,
            world.send,
            world.online,
            stop=world.stop,
            backoff=ExponentialBackoff(base_ms=5, max_ms=20, jitter=0),
        )
    )
    await world.until(lambda: world.sent == ["a"])

    assert world.tried == 4
    world.stop.set()
    await asyncio.wait_for(run, 5)


async def test_a_failing_send_is_not_tried_in_a_hot_loop(reopen: Reopen) -> None:
    world = World(await reopen())
    world.failures = 10**9
    world.online.set()
    for name in ("a1", "a2", "b1"):
        await world.queue.enqueue(name, 1)
    run = asyncio.create_task(
        run_outbox(world.queue, world.send, world.online, lane=lambda entry: entry.id[0])
    )
    await asyncio.sleep(0.2)

    assert world.tried == 2
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run


async def test_going_offline_begins_nothing_more(reopen: Reopen) -> None:
    world = World(await reopen())
    for number in range(5):
        await world.queue.enqueue(str(number), number)
    world.online.set()

    async def send(entry: OutboxEntry) -> None:
        world.sent.append(entry.id)
        if entry.id == "1":
            world.online.clear()

    run = asyncio.create_task(run_outbox(world.queue, send, world.online, stop=world.stop))
    await world.until(lambda: len(world.queue.get()) == 3)
    await asyncio.sleep(0.02)
    assert world.sent == ["0", "1"]
    world.online.set()
    await world.until(lambda: not world.queue.get())
    world.stop.set()
    await asyncio.wait_for(run, 5)


async def test_a_cancellation_puts_back_what_is_being_sent(reopen: Reopen) -> None:
    world = World(await reopen())
    world.online.set()
    await world.queue.enqueue("a", 1)
    sending = asyncio.Event()

    async def send(entry: OutboxEntry) -> None:
        sending.set()
        await asyncio.Event().wait()

    run = asyncio.create_task(run_outbox(world.queue, send, world.online))
    await sending.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run

    assert [(e.status, e.attempts) for e in world.queue.get()] == [("queued", 0)]
    assert world.queue._listeners == {}


async def test_entries_of_another_process_are_found_by_the_recheck(open_outbox) -> None:
    ours, theirs = OutboxQueue(open_outbox()), OutboxQueue(open_outbox())
    await ours.hydrate("k")
    await theirs.hydrate("k")
    world = World(ours)
    world.online.set()
    run = asyncio.create_task(
        run_outbox(ours, world.send, world.online, stop=world.stop, recheck_ms=10)
    )
    await asyncio.sleep(0.02)
    await theirs.enqueue("a", 1)
    await world.until(lambda: world.sent == ["a"])
    world.stop.set()
    await asyncio.wait_for(run, 5)
