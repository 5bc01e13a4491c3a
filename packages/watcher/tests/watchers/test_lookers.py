"""Looks share one thread, and one that takes long holds up nobody for long."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from starfish_watcher import Change, EventStore, StoreClosed
from starfish_watcher._watchers.lookers import Lookers, PendingLook
from starfish_watcher.testing.samples import Balance, credit


@pytest.fixture
async def lookers() -> AsyncIterator[Lookers]:
    made = Lookers()
    yield made
    made.close()


def begin(lookers: Lookers, look: Callable[[], Any]) -> PendingLook[Any]:
    pending = lookers.prepare(look, lambda: None)
    pending.start()
    return pending


async def test_looks_that_come_together_share_a_thread(
    lookers: Lookers, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that a machine that is busy does not look like a look that takes long.
    monkeypatch.setattr("starfish_watcher._watchers.lookers.PATIENCE_S", 1.0)
    go_on = threading.Event()
    first = begin(lookers, lambda: go_on.wait(0.005) or threading.get_ident())
    others = [begin(lookers, threading.get_ident) for _ in range(100)]

    assert len({await one.answer for one in (first, *others)}) == 1


async def test_each_waiter_gets_the_answer_of_its_own_look(lookers: Lookers) -> None:
    def fail() -> None:
        msg = "no"
        raise LookupError(msg)

    looks = [begin(lookers, lambda n=n: n) for n in range(10)]
    failing = begin(lookers, fail)

    assert [await look.answer for look in looks] == list(range(10))
    with pytest.raises(LookupError):
        await failing.answer


async def test_looks_that_take_long_hold_up_no_other(lookers: Lookers) -> None:
    go_on = threading.Event()
    stuck = [begin(lookers, lambda: go_on.wait(30)) for _ in range(3)]
    quick = begin(lookers, lambda: "quick")

    assert await asyncio.wait_for(quick.answer, 20) == "quick"
    assert not any(look.answer.done() for look in stuck)
    go_on.set()
    assert [await look.answer for look in stuck] == [True] * 3


async def test_after_close_everything_is_still_answered(lookers: Lookers) -> None:
    go_on = threading.Event()
    stuck = begin(lookers, lambda: go_on.wait(30))
    waiting = begin(lookers, threading.current_thread)
    lookers.close()
    late = begin(lookers, lambda: "late")

    thread = await asyncio.wait_for(waiting.answer, 20)
    assert await asyncio.wait_for(late.answer, 20) == "late"
    go_on.set()
    assert await asyncio.wait_for(stuck.answer, 20)
    await asyncio.to_thread(thread.join, 20)
    assert not thread.is_alive()
    assert await asyncio.wait_for(begin(lookers, lambda: "later").answer, 20) == "later"


async def test_who_gave_up_is_told_of_an_answer_that_came_too_late(lookers: Lookers) -> None:
    unclaimed = asyncio.Event()
    looking, go_on = threading.Event(), threading.Event()
    pending = lookers.prepare(lambda: looking.set() or go_on.wait(30), unclaimed.set)
    pending.start()
    await asyncio.to_thread(looking.wait, 20)
    pending.give_up()
    go_on.set()

    assert await pending.answer is None
    await asyncio.wait_for(unclaimed.wait(), 20)


async def test_a_projection_that_takes_long_stops_its_own_watcher_only() -> None:
    go_on = threading.Event()

    class Slow(Balance):
        def apply(self, state: int, event: Any) -> int:
            assert go_on.wait(30)
            return super().apply(state, event)

    store = EventStore.memory()
    slow = [await store.aio.watch_projection(Slow(), "a") for _ in range(3)]
    quick = await store.aio.watch_projection(Balance, "a")
    waiting = [asyncio.create_task(watcher.recv(30)) for watcher in slow]
    await asyncio.sleep(0)
    await asyncio.to_thread(credit, store, "a")

    assert await quick.recv(20) == Change(1, 1)
    other = asyncio.create_task(quick.recv(30))
    await asyncio.sleep(0)
    await store.aio.close()
    with pytest.raises(StoreClosed):
        await asyncio.wait_for(other, 20)
    go_on.set()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_recv_that_timed_out_while_it_looked_has_taken_nothing() -> None:
    looking, go_on = threading.Event(), threading.Event()

    class Slow(Balance):
        def apply(self, state: int, event: Any) -> int:
            looking.set()
            assert go_on.wait(30)
            return super().apply(state, event)

    with EventStore.memory() as store:
        watcher = await store.aio.watch_projection(Slow, "a")
        receiving = asyncio.create_task(watcher.recv(0.3))
        await asyncio.sleep(0)
        await asyncio.to_thread(credit, store, "a")
        assert await asyncio.to_thread(looking.wait, 20)
        with pytest.raises(TimeoutError):
            await receiving
        go_on.set()

        assert await watcher.recv(20) == Change(1, 1)
        assert await watcher.try_recv() is None
