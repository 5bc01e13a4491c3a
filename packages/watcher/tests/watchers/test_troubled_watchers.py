"""Watchers under trouble: poison events, slow looks, forks, sources that give little, readers nobody holds."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from starfish_protocol.events import SourceEvent
from starfish_watcher import (
    Change,
    CheckpointError,
    EventStore,
    Generation,
    Projection,
    ProjectionFailed,
    ReaderClosed,
    Region,
    StoreClosed,
    UnknownGenerationError,
    watch,
    watch_async,
)
from starfish_watcher.testing.samples import CREDIT, Balance, at, credit


class Picky(Projection[int]):
    def initial(self) -> int:
        return 0

    def apply(self, state: int, event: Any) -> int:
        if event.payload["amount"] < 0:
            msg = "cannot be folded"
            raise ValueError(msg)
        return state + 1


def failures(receive: Callable[..., Any]) -> list[ProjectionFailed]:
    errors: list[ProjectionFailed] = []
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        try:
            receive(timeout=1.0)
        except ProjectionFailed as error:
            errors.append(error)
        except TimeoutError:
            pass
    return errors


def test_a_poison_event_is_named_and_costs_no_hot_loop() -> None:
    with EventStore.memory() as store:
        receipts = store.append_batch([(at("ns:a"), CREDIT, {"amount": n}) for n in (1, 2, -1, 4)])
        plain = store.watch_projection(Picky, "ns:a", since_generation=0)
        prefix = store.watch_prefix(Picky, "ns", include_initial=True)
        credit(store, "ns:b")
        with pytest.raises(ProjectionFailed):
            prefix.recv(1)
        assert prefix.recv(1) == ("ns:b", Change(1, 1))  # the poison holds nobody up
        for receive in (
            plain.recv,
            prefix.recv,
            watch(store, Picky, "ns:a", since_generation=0).recv,
        ):
            errors = failures(receive)
            assert 1 <= len(errors) <= 8
            error = errors[0]
            assert (error.sequence, error.event_id) == (receipts[2].sequence, receipts[2].event_id)
            assert error.kind == CREDIT

        store.compact(lambda event: event.payload["amount"] >= 0)
        assert plain.recv(5) == Change(4, 3)


async def test_a_poison_event_costs_no_hot_loop_under_asyncio() -> None:
    store = EventStore.memory()
    store.append(at("ns:a"), CREDIT, {"amount": -1})
    plain = await store.aio.watch_projection(Picky, "ns:a", since_generation=0)
    prefix = await store.aio.watch_prefix(Picky, "ns", include_initial=True)
    source = await watch_async(store.aio, Picky, "ns:a", include_initial=True)
    for receive in (plain.recv, prefix.recv, source.recv):
        count, end = 0, time.monotonic() + 0.7
        while time.monotonic() < end:
            with pytest.raises((ProjectionFailed, TimeoutError)):
                await receive(timeout=0.5)
            count += 1
        assert count <= 8
    await store.aio.close()


class Sleepy(Balance):
    def apply(self, state: int, event: Any) -> int:
        time.sleep(1.0)
        return super().apply(state, event)


@pytest.mark.parametrize("kind", ["plain", "prefix"])
async def test_no_quick_look_waits_for_many_slow_ones(kind: str) -> None:
    store = EventStore.memory()
    aio = store.aio
    if kind == "plain":
        slow: list[Any] = [await aio.watch_projection(Sleepy, f"slow:{n}") for n in range(40)]
        quick: Any = await aio.watch_projection(Balance, "quick")
    else:
        slow = [await aio.watch_prefix(Sleepy, f"slow:{n}") for n in range(40)]
        quick = await aio.watch_prefix(Balance, "quick")
    looks = [asyncio.create_task(one.recv()) for one in slow]
    look = asyncio.create_task(quick.recv())
    await asyncio.sleep(0.1)
    await aio.append_batch([(at(f"slow:{n}"), CREDIT, {"amount": 1}) for n in range(40)])
    begun = time.monotonic()
    await aio.append(at("quick"), CREDIT, {"amount": 1})
    await look
    assert time.monotonic() - begun < 0.9
    await asyncio.gather(*looks)
    await aio.close()


class Stingy:
    """A source that gives at most three events at once."""

    def __init__(self, count: int) -> None:
        self.events = [SourceEvent(n, "a", "k", None) for n in range(1, count + 1)]

    def read(self, after: int, limit: int, *, entity: str | None = None) -> list[SourceEvent]:
        return self.events[after : after + min(limit, 3)]

    def generation(self, entity: str) -> int:
        return len(self.events)

    def last_sequence(self) -> int:
        return len(self.events)

    def subscribe(self, *, entity: str | None = None, capacity: int = 8192) -> Any:
        return SimpleNamespace(pull_batch=lambda *_: [], close=lambda: None)


class Count(Projection[int]):
    def initial(self) -> int:
        return 0

    def apply(self, state: int, event: Any) -> int:
        return state + 1


def test_a_short_page_is_not_the_end_of_a_source() -> None:
    assert watch(Stingy(10), Count, "a", include_initial=True).recv(1) == Change(10, 10)


async def test_resubscribing_beside_a_waiting_task_ends_neither() -> None:
    store = EventStore.memory()
    watcher = await watch_async(store.aio, Count, "a")
    waiting = asyncio.create_task(watcher.recv())
    await asyncio.sleep(0.05)
    await watcher.resubscribe()
    await store.aio.append(at("a"), CREDIT, {"amount": 1})

    assert await asyncio.wait_for(waiting, 5) == Change(1, 1)
    watcher.close()
    with pytest.raises(ReaderClosed, match="watcher was closed"):
        await watcher.recv()
    await store.aio.close()


def test_everything_that_a_child_inherits_raises_at_once(tmp_path: Path) -> None:
    with EventStore.open(tmp_path / "e.db") as store:
        credit(store, "a")
        cursor = store.cursor(checkpoint=tmp_path / "c")
        subscription = store.subscribe()
        actions: list[Callable[[], object]] = [
            store.watch_projection(Balance, "a").recv,
            store.watch_prefix(Balance, None).recv,
            lambda: subscription.pull_batch(1, None),
            lambda: cursor.pull_batch(1, None),
            store.watch_projection_cursor(Balance, "a").recv,
            lambda: store.project(Balance, "a"),
            lambda: store.watch_projection(Balance, "a"),
        ]
        for action in actions:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                child = os.fork()
            if child == 0:
                signal.alarm(5)
                try:
                    action()
                except StoreClosed as error:
                    os._exit(0 if "after a fork" in str(error) else 1)
                except BaseException:  # noqa: BLE001 - a child must not go on with the tests
                    os._exit(2)
                os._exit(3)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert credit(store, "a") == 2


def test_closing_in_a_child_returns_at_once_although_a_lock_was_held(tmp_path: Path) -> None:
    with EventStore.open(tmp_path / "e.db") as store:
        watcher = store.watch_projection(Balance, "a")
        with store._hub._lock, store._writer._condition, store._closing:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                child = os.fork()
            if child == 0:
                signal.alarm(5)
                watcher.close()
                store.close()
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_readers_that_nobody_holds_are_gone() -> None:
    with EventStore.memory() as store:
        for make in (
            lambda: store.watch_projection(Balance, "a"),
            lambda: store.watch_prefix(Balance, None),
            store.subscribe,
            store.cursor,
        ):
            for _ in range(100):
                make()
        gc.collect()
        credit(store, "a")

        assert store._hub._count == 0


async def test_a_task_that_only_its_loop_holds_goes_on() -> None:
    store = EventStore.memory()
    got: list[object] = []

    async def follow() -> None:
        async for change in await store.aio.watch_projection(Balance, "a"):
            got.append(change)
            return

    asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(follow()))
    await asyncio.sleep(0.2)
    gc.collect()
    await store.aio.append(at("a"), CREDIT, {"amount": 1})
    await asyncio.sleep(0.3)

    assert got == [Change(1, 1)]
    await store.aio.close()


def test_a_store_that_nobody_holds_lets_go_and_warns(tmp_path: Path) -> None:
    before = threading.active_count()
    held = [EventStore.open(tmp_path / "e.db")]
    credit(held[0], "a")
    with pytest.warns(ResourceWarning, match="was never closed"):
        held.clear()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)

    assert threading.active_count() <= before
    assert not (tmp_path / "e.db-wal").exists()


def test_a_token_that_the_entity_never_had_is_refused() -> None:
    with EventStore.memory() as store, EventStore.memory() as other:
        for _ in range(3):
            credit(store, "a")
            credit(other, "a")
        change = other.project_if_changed(Balance, "a", 0)
        assert change is not None
        for token in (50, Generation.from_token(change.token)):
            with pytest.raises(UnknownGenerationError):
                store.project_if_changed(Balance, "a", token)
            with pytest.raises(UnknownGenerationError):
                store.watch_projection(Balance, "a", since_generation=token)
        with pytest.raises(UnknownGenerationError):
            store.project_if_changed(Balance, "nobody", 1)


def test_a_checkpoint_has_one_projection_and_only_grows(tmp_path: Path) -> None:
    with EventStore.memory() as store:
        for _ in range(5):
            credit(store, "a")
        durable = store.watch_projection_cursor(Balance, "a", checkpoint=tmp_path / "w")
        durable.recv(1)
        durable.ack()
        with pytest.raises(CheckpointError, match="projection"):
            store.watch_projection_cursor(Count, "a", checkpoint=tmp_path / "w")

        ahead, behind = (store.cursor(checkpoint=tmp_path / "c") for _ in range(2))
        ahead.poll(5)
        ahead.ack()
        behind.poll(2)
        behind.ack()
        assert store.cursor(checkpoint=tmp_path / "c").acked == 5


def test_a_reader_of_a_quiet_region_does_not_look_through_the_log_again(tmp_path: Path) -> None:
    with EventStore.memory() as store:
        store.append_batch([(at("busy"), CREDIT, None)] * 600)
        cursor = store.cursor(Region(entity_prefix="quiet"), checkpoint=tmp_path / "c")
        while batch := cursor.poll(100):
            assert batch
        assert store.cursor(Region(entity_prefix="quiet"), checkpoint=tmp_path / "c").acked == 600


@pytest.mark.parametrize(
    "mistake",
    [
        lambda store: store.generation("a/b"),
        lambda store: store.generation(5),
        lambda store: store.project(Balance, "a", freshness="stale"),
        lambda store: store.project_if_changed(Balance, "a", "3"),
        lambda store: store.watch_projection(Balance, "a", since_generation="3"),
        lambda store: store.watch_projection(Balance, "a", since_generation=-1),
        lambda store: store.read(entity="a|b"),
        lambda _: Region(entity_prefix="account:"),
    ],
    ids=range(8),
)
def test_a_mistake_is_refused(mistake: Callable[[Any], object]) -> None:
    with EventStore.memory() as store, pytest.raises((TypeError, ValueError)):
        mistake(store)
