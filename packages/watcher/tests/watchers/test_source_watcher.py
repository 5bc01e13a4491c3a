"""A store is one source among others; these tests use a source that knows nothing of stores."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

import pytest

from starfish_protocol import events
from starfish_protocol.events import SourceEvent
from starfish_watcher import (
    AsyncSourceWatcher,
    Change,
    Projection,
    ProjectionFailed,
    StoreClosed,
    SubscriptionPruned,
    watch,
    watch_async,
)
from starfish_watcher.testing.samples import RawBalance


class Titles(Projection[list[str]]):
    relevant_kinds = ("renamed",)  # type: ignore[assignment]

    def initial(self) -> list[str]:
        return []

    def apply(self, state: list[str], event: Any) -> list[str]:
        state.append(event.payload)
        if event.payload == "refuse":
            raise RuntimeError("refused")
        return state


class Feed:
    """A list of events with bounded queues, as a server's change log might be."""

    def __init__(self) -> None:
        self.events: list[SourceEvent] = []
        self.changed = threading.Condition()
        self.queues: list[Queue] = []
        self.reads = 0

    def add(self, entity: str, kind: str = "renamed", payload: Any = "x") -> None:
        with self.changed:
            event = SourceEvent(len(self.events) + 1, entity, kind, payload)
            self.events.append(event)
            for queue in self.queues:
                queue.offer(event)
            self.changed.notify_all()

    def read(self, after: int, limit: int, *, entity: str | None = None) -> Sequence[SourceEvent]:
        self.reads += 1
        return [e for e in self.events[after:] if entity in (None, e.entity)][:limit]

    def generation(self, entity: str) -> int:
        return sum(event.entity == entity for event in self.events)

    def last_sequence(self) -> int:
        return len(self.events)

    def subscribe(self, *, entity: str | None = None, capacity: int = 8192) -> Queue:
        queue = Queue(self, capacity)
        self.queues.append(queue)
        return queue


class Queue:
    def __init__(self, feed: Feed, capacity: int) -> None:
        self.feed, self.capacity = feed, capacity
        self.held: deque[SourceEvent] = deque()
        self.pruned = self.closed = False

    def offer(self, event: SourceEvent) -> None:
        self.pruned = self.pruned or len(self.held) == self.capacity
        if not self.pruned:
            self.held.append(event)

    def pull_batch(self, max_events: int, timeout: float | None) -> list[SourceEvent]:
        with self.feed.changed:
            self.feed.changed.wait_for(lambda: self.held or self.pruned or self.closed, timeout)
            if not self.held and self.pruned:
                raise events.SubscriptionPruned(self.capacity)
            return [self.held.popleft() for _ in range(min(max_events, len(self.held)))]

    def close(self) -> None:
        with self.feed.changed:
            self.closed = True
            self.feed.changed.notify_all()


class AsyncFeed:
    """The same, asynchronous."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed

    async def read(
        self, after: int, limit: int, *, entity: str | None = None
    ) -> Sequence[SourceEvent]:
        await asyncio.sleep(0)
        return self.feed.read(after, limit, entity=entity)

    async def generation(self, entity: str) -> int:
        await asyncio.sleep(0)
        return self.feed.generation(entity)

    async def last_sequence(self) -> int:
        return self.feed.last_sequence()

    async def subscribe(self, *, entity: str | None = None, capacity: int = 8192) -> AsyncQueue:
        return AsyncQueue(self.feed.subscribe(entity=entity, capacity=capacity))


class AsyncQueue:
    def __init__(self, queue: Queue) -> None:
        self.queue = queue

    async def pull_batch(self, max_events: int, timeout: float | None) -> list[SourceEvent]:
        loop = asyncio.get_running_loop()
        end = None if timeout is None else loop.time() + timeout
        while not (batch := self.queue.pull_batch(max_events, 0)) and not self.queue.closed:
            if end is not None and loop.time() >= end:
                break
            await asyncio.sleep(0.001)
        return batch

    def close(self) -> None:
        self.queue.close()


def test_states_of_another_source_are_followed() -> None:
    feed = Feed()
    watcher = watch(feed, Titles, "note")
    feed.add("note", payload="a")
    feed.add("other")
    feed.add("note", payload="b")
    assert watcher.recv(5) == Change(2, ["a", "b"])
    feed.add("note", "tagged")

    assert watcher.recv(5) == Change(3, ["a", "b"])
    feed.add("other")
    with pytest.raises(TimeoutError):
        watcher.recv(0.01)


def test_only_the_new_events_are_read_again() -> None:
    feed = Feed()
    for _ in range(3000):
        feed.add("note")
    watcher = watch(feed, Titles, "note", include_initial=True)
    assert len(watcher.recv(0).state or []) == 3000
    feed.reads = 0
    feed.add("note")

    assert len(watcher.recv(5).state or []) == 3001
    assert feed.reads == 1


def test_a_pruned_watcher_returns_the_newest_state_then_says_so_until_it_subscribes_anew() -> None:
    feed = Feed()
    watcher = watch(feed, Titles, "note", capacity=1)
    for _ in range(3):
        feed.add("note")

    assert watcher.recv(5).generation == 3
    for _ in range(2):
        with pytest.raises(SubscriptionPruned):
            watcher.recv(5)
    feed.add("note")
    watcher.resubscribe()
    assert watcher.recv(0).generation == 4


def test_a_failing_projection_of_a_pruned_watcher_is_tried_again_before_that_is_said() -> None:
    feed = Feed()
    watcher = watch(feed, Titles, "note", capacity=1)
    feed.add("note", payload="refuse")
    feed.add("note")
    with pytest.raises(ProjectionFailed, match="refused"):
        watcher.recv(5)
    feed.events[0] = SourceEvent(1, "note", "renamed", "fine")

    assert watcher.recv(0) == Change(2, ["fine", "x"])
    with pytest.raises(SubscriptionPruned):
        watcher.recv(5)


def test_a_blocked_watcher_wakes_when_it_is_closed() -> None:
    watcher = watch(Feed(), Titles, "note")
    timer = threading.Timer(0.02, watcher.close)
    timer.start()

    with pytest.raises(StoreClosed):
        watcher.recv()
    timer.join()


def test_the_raw_lane_is_refused() -> None:
    with pytest.raises(TypeError, match="raw lane"):
        watch(Feed(), RawBalance, "note")


def test_the_generation_is_never_newer_than_the_state() -> None:
    feed = Feed()
    feed.add("note", payload="a")
    generation = feed.generation

    def late(entity: str) -> int:
        seen = generation(entity)
        feed.add("note", payload="late")
        return seen

    watcher = watch(feed, Titles, "note", include_initial=True)
    feed.generation = late  # type: ignore[method-assign]

    assert watcher.recv(0) == Change(1, ["a", "late"])


async def test_an_asynchronous_source_is_followed() -> None:
    feed = Feed()
    watcher = await watch_async(AsyncFeed(feed), Titles, "note")
    feed.add("note", payload="a")
    assert await watcher.recv(5) == Change(1, ["a"])
    with pytest.raises(TimeoutError):
        await watcher.recv(0.01)
    receiving = asyncio.create_task(watcher.recv(5))
    await asyncio.sleep(0.005)
    receiving.cancel()
    await asyncio.gather(receiving, return_exceptions=True)
    feed.add("note", payload="b")

    assert await watcher.recv(5) == Change(2, ["a", "b"])
    watcher.close()
    with pytest.raises(StoreClosed):
        await watcher.recv()


async def test_an_append_while_an_asynchronous_watch_begins_is_not_lost() -> None:
    feed = Feed()
    source = AsyncFeed(feed)
    subscribe = source.subscribe

    async def late(**options: Any) -> AsyncQueue:
        feed.add("note")
        return await subscribe(**options)

    source.subscribe = late  # type: ignore[method-assign]
    watcher: AsyncSourceWatcher[list[str]] = await watch_async(source, Titles, "note")

    assert await watcher.recv(0) == Change(1, ["x"])


async def test_a_pruned_asynchronous_watcher_behaves_like_the_other() -> None:
    feed = Feed()
    watcher = await watch_async(AsyncFeed(feed), Titles, "note", capacity=1)
    for _ in range(3):
        feed.add("note")

    assert (await watcher.recv(5)).generation == 3
    for _ in range(2):
        with pytest.raises(SubscriptionPruned):
            await watcher.recv(5)
    feed.add("note")
    await watcher.resubscribe()
    assert (await watcher.recv(0)).generation == 4


async def test_a_wake_up_is_not_lost_to_the_older_look_of_another_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    feed = Feed()
    watcher = await watch_async(AsyncFeed(feed), Titles, "note")
    pull_batch = watcher._subscription.pull_batch

    async def overtaken(max_events: int, timeout: float | None) -> Sequence[events.Event]:
        batch = await pull_batch(max_events, timeout)
        watcher._progress.accept(Change(0, None))
        return batch

    monkeypatch.setattr(watcher._subscription, "pull_batch", overtaken)
    feed.add("note", payload="a")

    assert await watcher.recv(1) == Change(1, ["a"])
