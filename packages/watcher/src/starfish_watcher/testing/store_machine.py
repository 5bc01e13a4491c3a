"""Store, watchers, cursors and subscriptions of any log against a list of events; needs Hypothesis.

Subclass `StoreMachine` with ``open_handle``, and run it::

    class MyMachine(StoreMachine):
        def open_handle(self):  # each call opens another handle of the storage of this run
            return EventStore(MyLog(...))

    TestMyLog = MyMachine.TestCase
"""

from __future__ import annotations

from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
)

from starfish_watcher._model.new_event import NEW, NewEvent
from starfish_watcher._model.region import Region
from starfish_watcher._projection.definition import Change, Projection
from starfish_watcher._store import EventStore
from starfish_watcher.errors import (
    IdempotencyConflictError,
    SequenceConflictError,
    SubscriptionPruned,
)
from starfish_watcher.testing.samples import CREDIT, NOTE, Balance, History, RawBalance, at

ENTITIES = ["a", "a:b", "a:b:c", "ab", "c"]
KINDS = [CREDIT, NOTE]
entities = st.sampled_from(ENTITIES)
kinds = st.sampled_from(KINDS)
amounts = st.integers(0, 9)
regions = st.builds(
    Region,
    entity_prefix=st.none() | entities,
    scope=st.none() | st.sampled_from(["eu", "us"]),
    kind=st.none() | kinds | st.just(0xE),
)
projections: list[type[Projection[Any]]] = [Balance, RawBalance, History]

__all__ = ("Model", "StoreMachine")


class Model:
    """What the store must be: every event that was appended, and which of them were removed."""

    def __init__(self) -> None:
        self.events: list[tuple[int, str, str, Any, int]] = []
        self.removed: set[int] = set()
        self.keys: dict[str, tuple[int, tuple[Any, ...]]] = {}

    def generation(self, entity: str) -> int:
        """As the store must say."""
        return sum(event[1] == entity for event in self.events)

    def alive(self) -> list[tuple[int, str, str, Any, int]]:
        """Events that compaction left."""
        return [event for event in self.events if event[0] not in self.removed]

    def state(self, projection: type[Projection[Any]], entity: str) -> Any:
        """What the projection must give, without its code."""
        own = [event for event in self.alive() if event[1] == entity]
        if projection is History:
            if not own:
                return None
            return {"sequences": [e[0] for e in own], "amounts": sum(e[4] for e in own)}
        relevant = [event[4] for event in own if event[3] == CREDIT]
        return sum(relevant) if relevant else None


class StoreMachine(RuleBasedStateMachine):
    """Does what any user may do, and compares."""

    watchers = Bundle("watchers")
    cursors = Bundle("cursors")
    subscriptions = Bundle("subscriptions")

    shared: ClassVar[bool] = True
    """Whether a second handle sees what the first one appends."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.store = self.open_handle()
        self.other: EventStore | None = None

    def open_handle(self) -> EventStore:
        """Open the storage of this run."""
        raise NotImplementedError

    def teardown(self) -> None:
        """Close all that was opened."""
        self.store.close()
        if self.other is not None:
            self.other.close()

    @rule(entity=entities, scope=st.sampled_from(["eu", "us"]), kind=kinds, amount=amounts,
          expected=st.none() | st.just(NEW) | st.integers(0, 3),
          key=st.none() | st.sampled_from(["k", "l"]))  # fmt: skip
    def append(
        self, *, entity: str, scope: str, kind: Any, amount: int, expected: Any, key: Any
    ) -> None:
        """Appended, answered as before, or refused."""
        content = (entity, scope, kind, amount)
        generation = self.model.generation(entity)
        fits = expected is None or generation == (0 if expected is NEW else expected + 1)
        arguments = (at(entity, scope), kind, {"amount": amount})
        options: dict[str, Any] = {"expected": expected, "idempotency_key": key}
        if key in self.model.keys:
            sequence, known = self.model.keys[key]
            if known == content:
                assert self.store.append(*arguments, **options).sequence == sequence
                return
            self.refused(IdempotencyConflictError, *arguments, **options)
        elif not fits:
            self.refused(SequenceConflictError, *arguments, **options)
        else:
            receipt = self.store.append(*arguments, **options)
            sequence = len(self.model.events) + 1
            assert (receipt.sequence, receipt.generation) == (sequence, generation + 1)
            self.model.events.append((sequence, *content))
            if key is not None:
                self.model.keys[key] = (sequence, content)

    def refused(self, kind: type[Exception], *arguments: Any, **options: Any) -> None:
        """The append must raise ``kind``."""
        try:
            self.store.append(*arguments, **options)
        except kind:
            return
        raise AssertionError(f"{kind.__name__} was not raised")

    @rule(items=st.lists(st.tuples(entities, kinds, amounts), max_size=5), fails=st.booleans())
    def append_batch(self, items: list[tuple[str, Any, int]], *, fails: bool) -> None:
        """Whole or not at all."""
        batch: list[Any] = [(at(entity), kind, {"amount": n}) for entity, kind, n in items]
        if fails:
            batch.append(NewEvent(at("c"), NOTE, None, expected=1_000))
            try:
                self.store.append_batch(batch)
            except SequenceConflictError:
                return
            raise AssertionError("the batch was not refused")
        receipts = self.store.append_batch(batch)
        for (entity, kind, n), receipt in zip(items, receipts, strict=True):
            self.model.events.append((len(self.model.events) + 1, entity, "eu", kind, n))
            assert receipt.sequence == len(self.model.events)

    @rule(rest=st.integers(0, 3))
    def compact(self, rest: int) -> None:
        """Remove every fourth event."""
        gone = {event[0] for event in self.model.alive() if event[0] % 4 == rest}

        assert self.store.compact(lambda event: event.sequence % 4 != rest) == len(gone)
        self.model.removed |= gone

    @rule(region=regions, after=st.integers(0, 10), limit=st.integers(1, 10))
    def query(self, region: Region, after: int, limit: int) -> None:
        """A page of a region."""
        found = self.store.query(region, after, limit)

        wanted = [e for e in self.model.alive() if e[0] > after and self.matches(region, e)]
        assert [event.sequence for event in found] == [event[0] for event in wanted[:limit]]

    @staticmethod
    def matches(region: Region, event: tuple[int, str, str, Any, int]) -> bool:
        """Whether the region has the event."""
        prefix, kind = region.entity_prefix, region.kind
        return (
            (prefix is None or event[1] == prefix or event[1].startswith(f"{prefix}:"))
            and region.scope in (None, event[2])
            and (kind is None or kind in (event[3], event[3].category))
        )

    @rule(target=watchers, projection=st.sampled_from(projections), entity=entities,
          initial=st.booleans(), capacity=st.none() | st.integers(1, 3))  # fmt: skip
    def watch(self, projection: Any, entity: str, *, initial: bool, capacity: int | None) -> Any:
        """Begin to watch."""
        watcher = self.store.watch_projection(
            projection, entity, include_initial=initial, capacity=capacity
        )
        return [watcher, projection, entity, None if initial else self.model.generation(entity)]

    @rule(entry=watchers)
    def receive(self, entry: list[Any]) -> None:
        """The newest state, once."""
        watcher, projection, entity, seen = entry
        now = self.model.generation(entity)
        try:
            change = watcher.try_recv()
        except SubscriptionPruned:
            watcher.resubscribe()
            change = watcher.try_recv()
        if seen is None or now > seen:
            assert change == Change(now, self.model.state(projection, entity))
        else:
            assert change is None
        entry[3] = now

    @rule(entry=consumes(watchers))
    def stop_watching(self, entry: list[Any]) -> None:
        """Close a watcher."""
        entry[0].close()

    @rule(target=cursors, region=regions)
    def make_cursor(self, region: Region) -> Any:
        """Begin to read."""
        return [self.store.cursor(region), region, 0, 0]

    @rule(entry=cursors, limit=st.integers(1, 5), act=st.sampled_from(["", "ack", "rewind"]))
    def poll(self, entry: list[Any], limit: int, act: str) -> None:
        """Read on, from where the cursor stands."""
        cursor, region, position, acked = entry
        batch = [event.sequence for event in cursor.poll(limit)]

        wanted = [e[0] for e in self.model.alive() if e[0] > position and self.matches(region, e)]
        assert batch == wanted[:limit]
        entry[2] = batch[-1] if batch else position
        if act == "ack":
            cursor.ack()
            entry[3] = entry[2]
        elif act == "rewind":
            cursor.rewind()
            entry[2] = acked

    @rule(target=subscriptions, region=regions, capacity=st.integers(1, 4))
    def subscribe(self, region: Region, capacity: int) -> Any:
        """Begin to receive."""
        return [self.store.subscribe(region, capacity), region, capacity, len(self.model.events)]

    @rule(entry=consumes(subscriptions))
    def drain(self, entry: list[Any]) -> None:
        """What came since, as far as there was room."""
        subscription, region, capacity, start = entry
        came = [e[0] for e in self.model.events[start:] if self.matches(region, e)]

        held = [event.sequence for event in subscription.pull_batch(10, 0)]
        assert held == came[:capacity]
        assert subscription.pruned == (len(came) > capacity)
        subscription.close()

    @rule(projection=st.sampled_from(projections), entity=entities)
    def incremental_equals_full(self, projection: Any, entity: str) -> None:
        """A kept state and a new one."""
        warm = self.store.project_if_changed(projection, entity, 0)
        cold = self.store.project_if_changed(projection(), entity, 0)

        assert warm == cold
        generation = self.model.generation(entity)
        wanted = Change(generation, self.model.state(projection, entity)) if generation else None
        assert warm == wanted

    @invariant()
    def generations_and_length_are_those_of_the_model(self) -> None:
        """After every step."""
        assert self.store.last_sequence() == len(self.model.events)
        for entity in ENTITIES:
            assert self.store.generation(entity) == self.model.generation(entity)

    @rule()
    def verify(self) -> None:
        """The chain holds."""
        report = self.store.verify_chain()

        assert report.events == len(self.model.alive())
        assert report.removed == len(self.model.removed)

    @precondition(lambda self: self.shared)
    @rule(entity=entities, amount=amounts)
    def append_through_another_handle(self, entity: str, amount: int) -> None:
        """As another process would."""
        if self.other is None:
            self.other = self.open_handle()
        self.other.append(at(entity), CREDIT, {"amount": amount})
        self.model.events.append((len(self.model.events) + 1, entity, "eu", CREDIT, amount))
        # A handle that begins to listen makes the others hear all that was before: nothing depends on time.
        self.store.subscribe().close()

    @precondition(lambda self: self.other is not None)
    @rule(projection=st.sampled_from(projections))
    def a_second_reader_agrees(self, projection: Any) -> None:
        """Whatever either of them has kept."""
        assert self.other is not None
        for entity in ENTITIES:
            state = self.other.project(projection, entity)
            assert state == self.model.state(projection, entity)
