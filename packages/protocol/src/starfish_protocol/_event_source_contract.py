"""The promises of a source of events, once: for asynchronous sources, and for those of threads.

A case is written for asyncio. Over a synchronous source the same case runs with each call in a
thread, so that the two kits cannot drift apart.
"""

# ruff: noqa: S101 - a kit of tests

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from starfish_protocol.events import (
    AsyncEventSource,
    AsyncEventSubscription,
    Event,
    EventSource,
    EventSubscription,
    PositionedSource,
    PositionLost,
    SubscriptionClosed,
    SubscriptionPruned,
)

__all__ = (
    "AsyncEventSourceContract",
    "EventSourceContract",
    "ThreadSafeEventSourceContract",
)

_SOON_S = 5.0
"""What "at once" may take on a busy machine."""


class AsyncEventSourceContract(ABC):
    """The promises of `AsyncEventSource`, one test each, as a test class to inherit from.

    Supply the fixture ``source`` (an empty source) and `append`; pytest, with asyncio tests
    switched on, runs the rest.
    """

    @abstractmethod
    async def append(self, source: Any, entity: str) -> None:
        """Make one more event of ``entity`` visible in ``source``."""

    async def test_an_empty_source_has_nothing_and_says_zero(
        self, source: AsyncEventSource
    ) -> None:
        """Nothing was appended: no events, generation 0, last sequence 0."""
        assert list(await source.read(0, 10)) == []
        assert await source.generation("a") == 0
        assert await source.last_sequence() == 0

    async def test_events_come_in_order_and_carry_the_envelope(
        self, source: AsyncEventSource
    ) -> None:
        """Sequences ascend strictly, and each event has the four members."""
        for entity in ("a", "b", "a"):
            await self.append(source, entity)

        events = await _read_all(source)

        assert all(isinstance(event, Event) for event in events)
        assert [event.entity for event in events] == ["a", "b", "a"]
        sequences = [event.sequence for event in events]
        assert sequences == sorted(set(sequences))
        assert sequences[0] >= 1
        assert await source.last_sequence() == sequences[-1]

    async def test_a_page_starts_after_its_position_and_keeps_its_limit(
        self, source: AsyncEventSource
    ) -> None:
        """Reading until an empty page gives each event once, whatever the limit."""
        for _ in range(5):
            await self.append(source, "a")
        everything = [event.sequence for event in await _read_all(source)]

        paged: list[int] = []
        while page := await source.read(paged[-1] if paged else 0, 2):
            assert len(page) <= 2
            paged += [event.sequence for event in page]

        assert paged == everything
        assert len(everything) == 5

    async def test_an_entity_is_read_without_its_children_and_neighbours(
        self, source: AsyncEventSource
    ) -> None:
        """The filter is exact."""
        for entity in ("a", "a:child", "ab", "a"):
            await self.append(source, entity)

        assert [event.entity for event in await _read_all(source, entity="a")] == ["a", "a"]

    async def test_a_generation_counts_the_events_of_its_entity(
        self, source: AsyncEventSource
    ) -> None:
        """It grows by one with each event of that entity and of no other."""
        seen = [await source.generation("a")]
        for entity in ("a", "b", "a"):
            await self.append(source, entity)
            seen.append(await source.generation("a"))

        assert seen == [0, 1, 1, 2]

    async def test_a_position_leads_back_to_its_event(self, source: AsyncEventSource) -> None:
        """Of a source that names its positions; another text, or a place not reached, is refused."""
        positioned: Any = source
        if not hasattr(positioned, "position_at"):
            return
        for _ in range(3):
            await self.append(source, "a")
        sequences = [event.sequence for event in await _read_all(source)]

        positions = [await positioned.position_at(sequence) for sequence in sequences]

        assert all(position.isascii() for position in positions)
        assert [await positioned.sequence_of(position) for position in positions] == sequences
        for refused in (
            positioned.sequence_of("nonsense"),
            positioned.position_at(sequences[-1] + 1),
        ):
            try:
                given = await refused
            except PositionLost:
                continue
            raise AssertionError(f"a place that is not there gave {given!r}")

    async def test_a_subscription_gets_what_comes_after_it(self, source: AsyncEventSource) -> None:
        """Not those that were there before."""
        await self.append(source, "a")
        subscription = await source.subscribe(entity="a")
        await self.append(source, "a")

        batch = await subscription.pull_batch(10, _SOON_S)
        subscription.close()

        assert [event.sequence for event in batch] == [await source.last_sequence()]

    async def test_a_subscription_with_nothing_to_give_ends_empty(
        self, source: AsyncEventSource
    ) -> None:
        """When the time is up, the batch is empty."""
        subscription = await source.subscribe()

        assert list(await subscription.pull_batch(10, 0.01)) == []
        subscription.close()

    async def test_a_full_subscription_is_drained_and_then_stays_pruned(
        self, source: AsyncEventSource
    ) -> None:
        """First what it held, then the error, each time; or nothing is ever missed."""
        subscription = await source.subscribe(entity="a", capacity=1)
        for _ in range(3):
            await self.append(source, "a")

        given: list[str] = []
        refusals = 0
        for timeout in (_SOON_S, 0.01, 0.01, 0.01):
            try:
                batch = await subscription.pull_batch(10, timeout)
            except SubscriptionPruned:
                refusals += 1
            else:
                assert not refusals, "a pruned subscription gave events again"
                given += [event.entity for event in batch]
        subscription.close()

        bounded = given == ["a"] and refusals == 3
        lossless = given == ["a", "a", "a"] and refusals == 0
        assert bounded or lossless, (
            f"of 3 events with a capacity of 1 it gave {given} and refused {refusals} of 4 calls"
        )

    async def test_a_closed_subscription_says_so_each_time(self, source: AsyncEventSource) -> None:
        """Not an empty batch, which a reader would take for "nothing yet"."""
        subscription = await source.subscribe(entity="a")
        subscription.close()
        subscription.close()

        for timeout in (None, 0, 0.01):
            async with asyncio.timeout(_SOON_S):
                await _assert_closed(subscription.pull_batch(10, timeout))

    async def test_closing_wakes_a_call_that_waits(self, source: AsyncEventSource) -> None:
        """With the error, not with an empty batch."""
        subscription = await source.subscribe(entity="a")
        waiting = asyncio.ensure_future(subscription.pull_batch(10, None))
        await asyncio.sleep(0.05)
        subscription.close()

        async with asyncio.timeout(_SOON_S):
            await _assert_closed(waiting)

    async def test_a_cancelled_call_has_taken_nothing(self, source: AsyncEventSource) -> None:
        """The event goes to the next call."""
        subscription = await source.subscribe(entity="a")
        waiting = asyncio.ensure_future(subscription.pull_batch(10, None))
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.wait([waiting])
        await self.append(source, "a")

        batch = await subscription.pull_batch(10, _SOON_S)
        subscription.close()

        assert [event.entity for event in batch] == ["a"]


async def _read_all(source: AsyncEventSource, *, entity: str | None = None) -> list[Event]:
    events: list[Event] = []
    while page := await source.read(events[-1].sequence if events else 0, 10, entity=entity):
        events += page
    return events


async def _assert_closed(pulled: Awaitable[Sequence[Event]]) -> None:
    try:
        batch = await pulled
    except SubscriptionClosed:
        return
    raise AssertionError(f"a closed subscription gave {list(batch)!r}")


class _ThreadedSubscription:
    def __init__(self, subscription: EventSubscription) -> None:
        self._subscription = subscription

    async def pull_batch(self, max_events: int, timeout: float | None) -> Sequence[Event]:
        return await asyncio.to_thread(self._subscription.pull_batch, max_events, timeout)

    def close(self) -> None:
        closing = threading.Thread(target=self._subscription.close)
        closing.start()
        closing.join()


class _ThreadedSource:
    def __init__(self, source: EventSource) -> None:
        self._source = source

    async def read(self, after: int, limit: int, *, entity: str | None = None) -> Sequence[Event]:
        return await asyncio.to_thread(self._source.read, after, limit, entity=entity)

    async def generation(self, entity: str) -> int:
        return await asyncio.to_thread(self._source.generation, entity)

    async def last_sequence(self) -> int:
        return await asyncio.to_thread(self._source.last_sequence)

    async def subscribe(
        self, *, entity: str | None = None, capacity: int = 8192
    ) -> AsyncEventSubscription:
        made = await asyncio.to_thread(self._source.subscribe, entity=entity, capacity=capacity)
        return _ThreadedSubscription(made)


class _ThreadedPositionedSource(_ThreadedSource):
    def __init__(self, source: PositionedSource) -> None:
        super().__init__(source)
        self._positioned = source

    async def position_at(self, sequence: int) -> str:
        return await asyncio.to_thread(self._positioned.position_at, sequence)

    async def sequence_of(self, position: str) -> int:
        return await asyncio.to_thread(self._positioned.sequence_of, position)


def _threaded(source: Any) -> AsyncEventSource:
    if hasattr(source, "position_at"):
        return _ThreadedPositionedSource(source)
    return _ThreadedSource(source)


_Case: TypeAlias = Callable[[Any, AsyncEventSource], Awaitable[None]]
_Test: TypeAlias = Callable[["EventSourceContract", EventSource], None]


class _ThreadedAppends:
    """The ``self`` of a case over a synchronous source."""

    def __init__(self, contract: EventSourceContract, source: EventSource) -> None:
        self._contract = contract
        self._source = source

    async def append(self, _source: object, entity: str) -> None:
        await asyncio.to_thread(self._contract.append, self._source, entity)


def _in_threads(case: _Case) -> _Test:
    def test(self: EventSourceContract, source: EventSource) -> None:
        async def run() -> None:
            await case(_ThreadedAppends(self, source), _threaded(source))

        asyncio.run(run())

    test.__doc__ = case.__doc__
    return test


class EventSourceContract(ABC):
    """The promises of `EventSource`, one test each, as a test class to inherit from.

    Supply the fixture ``source`` (an empty source) and `append`; pytest runs the rest: the cases
    of `AsyncEventSourceContract`, with each call in a thread. What only a cancelled task can ask
    for is left out.
    """

    @abstractmethod
    def append(self, source: Any, entity: str) -> None:
        """Make one more event of ``entity`` visible in ``source``; called in any thread."""

    test_an_empty_source_has_nothing_and_says_zero = _in_threads(
        AsyncEventSourceContract.test_an_empty_source_has_nothing_and_says_zero
    )
    test_events_come_in_order_and_carry_the_envelope = _in_threads(
        AsyncEventSourceContract.test_events_come_in_order_and_carry_the_envelope
    )
    test_a_page_starts_after_its_position_and_keeps_its_limit = _in_threads(
        AsyncEventSourceContract.test_a_page_starts_after_its_position_and_keeps_its_limit
    )
    test_an_entity_is_read_without_its_children_and_neighbours = _in_threads(
        AsyncEventSourceContract.test_an_entity_is_read_without_its_children_and_neighbours
    )
    test_a_generation_counts_the_events_of_its_entity = _in_threads(
        AsyncEventSourceContract.test_a_generation_counts_the_events_of_its_entity
    )
    test_a_position_leads_back_to_its_event = _in_threads(
        AsyncEventSourceContract.test_a_position_leads_back_to_its_event
    )
    test_a_subscription_gets_what_comes_after_it = _in_threads(
        AsyncEventSourceContract.test_a_subscription_gets_what_comes_after_it
    )
    test_a_subscription_with_nothing_to_give_ends_empty = _in_threads(
        AsyncEventSourceContract.test_a_subscription_with_nothing_to_give_ends_empty
    )
    test_a_full_subscription_is_drained_and_then_stays_pruned = _in_threads(
        AsyncEventSourceContract.test_a_full_subscription_is_drained_and_then_stays_pruned
    )
    test_a_closed_subscription_says_so_each_time = _in_threads(
        AsyncEventSourceContract.test_a_closed_subscription_says_so_each_time
    )


class ThreadSafeEventSourceContract(EventSourceContract):
    """And that a subscription may be closed in one thread while another waits in it."""

    test_closing_wakes_a_call_that_waits = _in_threads(
        AsyncEventSourceContract.test_closing_wakes_a_call_that_waits
    )
