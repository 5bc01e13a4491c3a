"""What tests of code that uses these packages need."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta
from typing import Any

from starfish_protocol.events import Event, EventSource, SubscriptionPruned

__all__ = ("EventSourceContract", "ManualClock")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ManualClock:
    """A `Clock` that stands still until it is moved.

    Examples:
        >>> clock = ManualClock(1_700_000_000_000)
        >>> clock.advance(1_500)
        >>> clock.now_ms(), clock.now().isoformat(timespec="milliseconds")
        (1700000001500, '2023-11-14T22:13:21.500+00:00')
    """

    def __init__(self, now_ms: int = 0) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """Milliseconds since the epoch, UTC."""
        return self._now_ms

    def now(self) -> datetime:
        """The same moment as an aware UTC ``datetime``."""
        return _EPOCH + timedelta(milliseconds=self._now_ms)

    def advance(self, ms: int) -> None:
        """Move by some milliseconds; backwards if negative, as a corrected machine clock does."""
        self._now_ms += ms


class EventSourceContract(ABC):
    """The promises of `EventSource`, one test each, as a test class to inherit from.

    Supply the fixture ``source`` (an empty source) and `append`; pytest runs the rest.
    """

    @abstractmethod
    def append(self, source: Any, entity: str) -> None:
        """Make one more event of ``entity`` visible in ``source``."""

    def test_an_empty_source_has_nothing_and_says_zero(self, source: EventSource) -> None:
        """Nothing was appended: no events, generation 0, last sequence 0."""
        assert list(source.read(0, 10)) == []
        assert source.generation("a") == 0
        assert source.last_sequence() == 0

    def test_events_come_in_order_and_carry_the_envelope(self, source: EventSource) -> None:
        """Sequences ascend strictly, and each event has the four members."""
        for entity in ("a", "b", "a"):
            self.append(source, entity)

        events = source.read(0, 10)

        assert all(isinstance(event, Event) for event in events)
        assert [event.entity for event in events] == ["a", "b", "a"]
        sequences = [event.sequence for event in events]
        assert sequences == sorted(set(sequences))
        assert sequences[0] >= 1
        assert source.last_sequence() == sequences[-1]

    def test_a_page_starts_after_its_position_and_keeps_its_limit(
        self, source: EventSource
    ) -> None:
        """Reading page by page gives what one read gives."""
        for _ in range(5):
            self.append(source, "a")
        everything = [event.sequence for event in source.read(0, 10)]

        paged: list[int] = []
        while page := source.read(paged[-1] if paged else 0, 2):
            assert len(page) <= 2
            paged += [event.sequence for event in page]

        assert paged == everything

    def test_an_entity_is_read_without_its_children_and_neighbours(
        self, source: EventSource
    ) -> None:
        """The filter is exact."""
        for entity in ("a", "a:child", "ab", "a"):
            self.append(source, entity)

        assert [event.entity for event in source.read(0, 10, entity="a")] == ["a", "a"]

    def test_a_generation_counts_the_events_of_its_entity(self, source: EventSource) -> None:
        """It grows by one with each event of that entity and of no other."""
        seen = [source.generation("a")]
        for entity in ("a", "b", "a"):
            self.append(source, entity)
            seen.append(source.generation("a"))

        assert seen == [0, 1, 1, 2]

    def test_a_subscription_gets_what_comes_after_it(self, source: EventSource) -> None:
        """Not what was there before."""
        self.append(source, "a")
        subscription = source.subscribe(entity="a")
        self.append(source, "a")

        batch = subscription.pull_batch(10, 5.0)
        subscription.close()

        assert [event.sequence for event in batch] == [source.last_sequence()]

    def test_a_subscription_with_nothing_to_give_ends_empty(self, source: EventSource) -> None:
        """When the time is up, the batch is empty."""
        subscription = source.subscribe()

        assert list(subscription.pull_batch(10, 0.01)) == []
        subscription.close()

    def test_a_full_subscription_is_drained_and_then_stays_pruned(
        self, source: EventSource
    ) -> None:
        """First what it held, then the error, each time."""
        subscription = source.subscribe(entity="a", capacity=1)
        for _ in range(3):
            self.append(source, "a")

        batch = subscription.pull_batch(10, 5.0)
        refusals = 0
        for _ in range(2):
            try:
                subscription.pull_batch(10, 0.01)
            except SubscriptionPruned:
                refusals += 1
        subscription.close()

        assert [event.entity for event in batch] == ["a"]
        assert refusals == 2
