"""The contract runs against the shortest source that can keep it; the watcher's stores run it too."""

from __future__ import annotations

import threading
from collections import deque

import pytest

from starfish_protocol.events import Event, SourceEvent, SubscriptionPruned
from starfish_protocol.testing import EventSourceContract


class ListSubscription:
    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.held: deque[SourceEvent] = deque()
        self.pruned = False

    def offer(self, event: SourceEvent) -> None:
        self.pruned = self.pruned or len(self.held) == self.capacity
        if not self.pruned:
            self.held.append(event)

    def pull_batch(self, max_events: int, timeout: float | None) -> list[SourceEvent]:
        if not self.held and self.pruned:
            raise SubscriptionPruned(self.capacity)
        return [self.held.popleft() for _ in range(min(max_events, len(self.held)))]

    def close(self) -> None:
        self.held.clear()


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


class TestListSource(EventSourceContract):
    @pytest.fixture
    def source(self) -> ListSource:
        return ListSource()

    def append(self, source: ListSource, entity: str) -> None:
        source.add(entity)


def test_a_source_event_is_an_event_and_a_lock_is_not() -> None:
    assert isinstance(SourceEvent(1, "a", "happened", {}), Event)
    assert not isinstance(threading.Lock(), Event)


def test_a_pruned_subscription_says_what_to_do() -> None:
    error = SubscriptionPruned(4)

    assert error.capacity == 4
    assert "4 events" in str(error)
    assert "subscribe anew" in str(error)
