"""The contract runs against the shortest source that can keep it; the watcher's stores run it too."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque

import pytest

from starfish_protocol.events import (
    Event,
    SourceEvent,
    SubscriptionClosed,
    SubscriptionPruned,
)
from starfish_protocol.testing import AsyncEventSourceContract, ThreadSafeEventSourceContract


class ListSubscription:
    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.held: deque[SourceEvent] = deque()
        self.changed = threading.Condition()
        self.pruned = self.closed = False

    def offer(self, event: SourceEvent) -> None:
        with self.changed:
            self.pruned = self.pruned or len(self.held) == self.capacity
            if not self.pruned:
                self.held.append(event)
            self.changed.notify_all()

    def pull_batch(self, max_events: int, timeout: float | None) -> list[SourceEvent]:
        with self.changed:
            self.changed.wait_for(lambda: self.held or self.pruned or self.closed, timeout)
            if self.closed:
                raise SubscriptionClosed
            if not self.held and self.pruned:
                raise SubscriptionPruned(self.capacity)
            return [self.held.popleft() for _ in range(min(max_events, len(self.held)))]

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self.changed.notify_all()


class LogSubscription:
    """Holds nothing: it reads the list, and so misses nothing."""

    def __init__(self, source: ListSource) -> None:
        self.source = source
        self.position = len(source.events)
        self.closed = asyncio.Event()

    async def pull_batch(self, max_events: int, timeout: float | None) -> list[SourceEvent]:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.closed.is_set():
            if page := self.source.read(self.position, max_events):
                self.position = page[-1].sequence
                return page
            if deadline is not None and time.monotonic() >= deadline:
                return []
            await asyncio.sleep(0.005)
        raise SubscriptionClosed

    def close(self) -> None:
        self.closed.set()


class ListSource:
    def __init__(self) -> None:
        self.events: list[SourceEvent] = []
        self.subscriptions: list[ListSubscription] = []

    def add(self, entity: str) -> None:
        event = SourceEvent(len(self.events) + 1, entity, "happened", {})
        self.events.append(event)
        for subscription in self.subscriptions:
            subscription.offer(event)

    def read(self, after: int, limit: int, *, entity: str | None = None) -> list[SourceEvent]:
        return [e for e in self.events[after:] if entity in (None, e.entity)][:limit]

    def generation(self, entity: str) -> int:
        return sum(event.entity == entity for event in self.events)

    def last_sequence(self) -> int:
        return len(self.events)

    def subscribe(self, *, entity: str | None = None, capacity: int = 8192) -> ListSubscription:
        self.subscriptions.append(ListSubscription(capacity))
        return self.subscriptions[-1]


class TestListSource(ThreadSafeEventSourceContract):
    @pytest.fixture
    def source(self) -> ListSource:
        return ListSource()

    def append(self, source: ListSource, entity: str) -> None:
        source.add(entity)


class AsyncListSource:
    """Gives at most three events a page, and subscriptions that hold none."""

    def __init__(self) -> None:
        self.inner = ListSource()

    async def read(self, after: int, limit: int, *, entity: str | None = None) -> list[SourceEvent]:
        return self.inner.read(after, min(limit, 3), entity=entity)

    async def generation(self, entity: str) -> int:
        return self.inner.generation(entity)

    async def last_sequence(self) -> int:
        return self.inner.last_sequence()

    async def subscribe(
        self, *, entity: str | None = None, capacity: int = 8192
    ) -> LogSubscription:
        return LogSubscription(self.inner)


class TestAsyncListSource(AsyncEventSourceContract):
    @pytest.fixture
    def source(self) -> AsyncListSource:
        return AsyncListSource()

    async def append(self, source: AsyncListSource, entity: str) -> None:
        source.inner.add(entity)


class SilentWhenClosed(LogSubscription):
    """As the registry's and the server's subscriptions were: closed looks like "nothing yet"."""

    async def pull_batch(self, max_events: int, timeout: float | None) -> list[SourceEvent]:
        return [] if self.closed.is_set() else await super().pull_batch(max_events, timeout)


async def test_the_kit_refuses_a_subscription_that_hides_that_it_is_closed() -> None:
    class Hiding(AsyncListSource):
        async def subscribe(
            self, *, entity: str | None = None, capacity: int = 8192
        ) -> LogSubscription:
            return SilentWhenClosed(self.inner)

    with pytest.raises(AssertionError, match="gave"):
        await TestAsyncListSource().test_a_closed_subscription_says_so_each_time(Hiding())


def test_a_source_event_is_an_event_and_a_lock_is_not() -> None:
    assert isinstance(SourceEvent(1, "a", "happened", {}), Event)
    assert not isinstance(threading.Lock(), Event)


def test_a_pruned_subscription_says_what_to_do() -> None:
    error = SubscriptionPruned(4)

    assert error.capacity == 4
    assert "4 events" in str(error)
    assert "subscribe anew" in str(error)
