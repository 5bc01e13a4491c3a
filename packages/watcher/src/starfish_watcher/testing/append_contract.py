"""What every log promises of appending, reading, verifying and compacting."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from starfish_watcher._model.event import Event
from starfish_watcher._model.new_event import NEW, NewEvent
from starfish_watcher._model.region import Region
from starfish_watcher._store import EventStore
from starfish_watcher.errors import (
    IdempotencyConflictError,
    SequenceConflictError,
    StoreClosed,
    WatcherError,
)
from starfish_watcher.testing.samples import (
    CREDIT,
    NOTE,
    Balance,
    History,
    at,
    credit,
    in_process,
    in_threads,
)

__all__ = ("AppendContract",)

Opener = Callable[..., EventStore]


class AppendContract:
    """Inherit and supply ``opener``, ``expression`` and ``repetition``."""

    @pytest.fixture
    def store(self, opener: Opener) -> Iterator[EventStore]:
        """A store, closed at the end."""
        with opener() as store:
            yield store

    def test_an_event_is_read_as_it_was_appended(self, store: EventStore) -> None:
        """Every field, through every reader."""
        cause, conversation = uuid.uuid4(), uuid.uuid4()
        payload: Any = {"amount": 5, "list": [1, None, True, 1.5, "ü", b"\x00"], "map": {"a": {}}}

        receipt = store.append(
            at("account:1"), CREDIT, payload, correlation_id=conversation, causation_id=cause
        )

        (event,) = store.read()
        assert event == store.get(receipt.event_id) == store.query(Region())[0]
        assert (event.sequence, event.clock, event.generation) == (1, 0, 1)
        assert (receipt.sequence, receipt.clock, receipt.generation) == (1, 0, 1)
        assert (event.coordinate, event.kind, event.payload) == (at("account:1"), CREDIT, payload)
        assert (event.correlation_id, event.causation_id) == (conversation, cause)
        assert event.event_id == receipt.event_id
        assert event.event_id.version == 7
        assert event.event_hash == receipt.event_hash == event.computed_hash()

    def test_sequences_are_dense_and_clocks_count_each_entity(self, store: EventStore) -> None:
        """Sequences from 1 over all, clocks from 0 for each."""
        for entity in ("a", "b", "a", "a", "b"):
            credit(store, entity)

        events = store.read()

        assert [event.sequence for event in events] == [1, 2, 3, 4, 5]
        assert [(event.entity, event.clock) for event in events] == [
            ("a", 0),
            ("b", 0),
            ("a", 1),
            ("a", 2),
            ("b", 1),
        ]
        assert (store.generation("a"), store.generation("b"), store.generation("c")) == (3, 2, 0)
        assert store.last_sequence() == 5

    def test_expected_tells_a_new_entity_from_one_at_clock_0(self, store: EventStore) -> None:
        """`NEW`, 0 and 1 each fit one situation."""
        with pytest.raises(SequenceConflictError, match=r"no event.*expected clock 0"):
            credit(store, "a", expected=0)
        credit(store, "a", expected=NEW)
        with pytest.raises(SequenceConflictError, match=r"clock 0.*expected no event"):
            credit(store, "a", expected=NEW)
        with pytest.raises(SequenceConflictError, match=r"clock 0.*expected clock 1"):
            credit(store, "a", expected=1)
        credit(store, "a", expected=0)

        assert store.generation("a") == store.last_sequence() == 2

    def test_an_idempotency_key_appends_once(self, store: EventStore) -> None:
        """The same receipt for the same content, even with ``expected``; else a conflict."""
        first = store.append(at("a"), CREDIT, {"x": 1, "y": 2}, idempotency_key="k", expected=NEW)

        again = store.append(at("a"), CREDIT, {"y": 2, "x": 1}, idempotency_key="k", expected=NEW)

        assert again == first
        for other in (
            (at("b"), CREDIT, {"x": 1, "y": 2}),
            (at("a", "us"), CREDIT, {"x": 1, "y": 2}),
            (at("a"), NOTE, {"x": 1, "y": 2}),
            (at("a"), CREDIT, {"x": 1, "y": 3}),
        ):
            with pytest.raises(IdempotencyConflictError, match="belongs to event 1"):
                store.append(*other, idempotency_key="k")
        assert store.last_sequence() == 1

    def test_a_batch_is_whole_or_not_at_all(self, store: EventStore) -> None:
        """An item that is refused takes the others with it."""
        credit(store, "b")

        with pytest.raises(SequenceConflictError):
            store.append_batch([(at("a"), CREDIT, {}), NewEvent(at("b"), CREDIT, {}, expected=NEW)])
        with pytest.raises(TypeError, match=r"payload\.when is a set"):
            store.append_batch([(at("a"), CREDIT, {}), (at("a"), CREDIT, {"when": {1}})])

        assert store.last_sequence() == 1
        assert store.append_batch([]) == ()

    def test_items_of_a_batch_build_on_each_other(self, store: EventStore) -> None:
        """Expectations, keys and causes see the items before."""
        receipts = store.append_batch(
            [
                NewEvent(at("a"), CREDIT, 1, expected=NEW, idempotency_key="k"),
                NewEvent(at("a"), CREDIT, 2, expected=0, caused_by=0),
                NewEvent(at("a"), CREDIT, 1, idempotency_key="k"),
                NewEvent(at("b"), NOTE, 3, caused_by=1),
            ]
        )

        events = store.read()
        assert [receipt.sequence for receipt in receipts] == [1, 2, 1, 3]
        assert events[1].causation_id == receipts[0].event_id
        assert events[2].causation_id == receipts[1].event_id
        assert events[1].previous_hash == events[0].event_hash

    def test_every_durability_is_visible_at_once(self, store: EventStore) -> None:
        """What differs is only what a power failure may take."""
        for durability in ("commit", "batched", "none"):
            credit(store, "a", durability=durability)
            assert store.read()[-1].sequence == store.last_sequence()

        with pytest.raises(ValueError, match="must be one of commit, batched, none"):
            credit(store, "a", durability="sometimes")

    def test_a_query_finds_what_its_region_matches(self, store: EventStore) -> None:
        """Prefix by namespace, scope exactly, kind or category."""
        for entity, scope, kind in (
            ("alice", "eu", CREDIT),
            ("alice:child", "us", NOTE),
            ("alice2", "eu", CREDIT),
            ("bob", "eu", NOTE),
        ):
            store.append(at(entity, scope), kind)

        def found(region: Region, **options: int) -> list[int]:
            return [event.sequence for event in store.query(region, **options)]

        assert found(Region()) == [1, 2, 3, 4]
        assert found(Region(entity_prefix="alice")) == [1, 2]
        assert found(Region(scope="eu")) == [1, 3, 4]
        assert found(Region(kind=NOTE)) == found(Region(kind=0xE)) == [2, 4]
        assert found(Region(entity_prefix="alice", scope="eu", kind=CREDIT)) == [1]
        assert found(Region(scope="eu"), after=1, limit=1) == [3]
        assert all(
            region.matches(event) == (event.sequence in found(region))
            for region in (Region(entity_prefix="alice"), Region(scope="us"), Region(kind=0xF))
            for event in store.read()
        )

    def test_what_is_of_another_type_is_refused_with_its_name(self, store: EventStore) -> None:
        """Not with what it broke inside."""
        name: Any = "alice"
        for call in (store.query, store.subscribe, store.cursor):
            with pytest.raises(TypeError, match="region must be a Region, not a str"):
                call(name)
        with pytest.raises(TypeError, match="event_id must be a UUID, not a str"):
            store.get(name)

    def test_pages_join_without_gap_or_overlap(self, store: EventStore) -> None:
        """Whatever the limit is."""
        store.append_batch([(at(f"e:{n % 3}"), CREDIT, n) for n in range(10)])
        for limit in (1, 3, 10, 11):
            paged: list[Event] = []
            while page := store.read(paged[-1].sequence if paged else 0, limit):
                paged += page
            assert paged == store.read()

        with pytest.raises(ValueError, match="limit is 0"):
            store.read(0, 0)
        with pytest.raises(ValueError, match="after is -1"):
            store.read(-1)

    def test_the_chain_verifies_and_counts(self, store: EventStore) -> None:
        """All, one, and none."""
        store.append_batch([(at(f"e:{n % 2}"), CREDIT, n) for n in range(5)])

        everything, one, nothing = (store.verify_chain(name) for name in (None, "e:0", "no"))

        assert (everything.entities, everything.events, everything.removed) == (2, 5, 0)
        assert (one.events, nothing.events) == (3, 0)

    def test_compaction_removes_events_and_nothing_else(self, store: EventStore) -> None:
        """Generations, sequences, keys and hashes go on."""
        first = store.append(at("a"), NOTE, idempotency_key="k")
        for _ in range(4):
            credit(store, "a")
        store.append(at("a"), NOTE)

        removed = store.compact(lambda event: event.kind != NOTE)

        assert removed == 2
        assert [event.sequence for event in store.read()] == [2, 3, 4, 5]
        assert store.get(first.event_id) is None
        assert (store.generation("a"), store.last_sequence()) == (6, 6)
        assert store.append(at("a"), NOTE, idempotency_key="k") == first
        assert credit(store, "a", expected=5) == 7
        report = store.verify_chain()
        assert (report.events, report.removed) == (5, 2)
        assert store.compact(lambda _: True) == 0

    def test_a_compaction_that_fails_removes_nothing(self, store: EventStore) -> None:
        """``keep`` raised."""
        credit(store, "a")
        credit(store, "a")

        def keep(event: Event) -> bool:
            return event.sequence == 1 and 1 / 0 > 0

        with pytest.raises(ZeroDivisionError):
            store.compact(keep)
        assert store.last_sequence() == len(store.read()) == 2

    def test_states_follow_compaction(self, store: EventStore) -> None:
        """A warm reader and a cold one agree."""
        credit(store, "a", 1)
        credit(store, "a", 10)
        assert store.project(Balance, "a") == 11

        store.compact(lambda event: event.payload["amount"] > 5)

        assert store.project(Balance, "a") == 10
        assert store.project(Balance(), "a") == 10

    def test_a_closed_store_refuses_everything(self, opener: Opener) -> None:
        """With one error, also the second time."""
        store = opener()
        store.close()
        store.close()

        for call in (
            lambda: credit(store, "a"),
            store.read,
            lambda: store.generation("a"),
            lambda: store.project(Balance, "a"),
            lambda: store.watch_projection(Balance, "a"),
            store.subscribe,
            store.cursor,
        ):
            with pytest.raises(StoreClosed):
                call()

    @pytest.mark.usefixtures("repetition")
    def test_writers_in_threads_leave_a_dense_log(self, store: EventStore) -> None:
        """Each append got its own sequence and clock, and one of each race won."""
        won: list[str] = []

        def write(name: str) -> None:
            for _ in range(10):
                credit(store, "shared")
                credit(store, f"own:{name}")
            try:
                credit(store, "prize", expected=NEW)
                won.append(name)
            except SequenceConflictError:
                pass

        in_threads(*(partial(write, str(n)) for n in range(6)))

        events = store.read()
        assert [event.sequence for event in events] == list(range(1, 122))
        assert store.generation("shared") == 60
        assert len(won) == store.generation("prize") == 1
        assert store.verify_chain().events == 121

    @pytest.mark.usefixtures("repetition")
    def test_writers_in_processes_leave_a_dense_log(
        self, opener: Opener, expression: str | None
    ) -> None:
        """The storage decides races, not a lock in memory."""
        if expression is None:
            pytest.skip("this storage is of one process")
        with opener() as store:
            body = (
                "won = 0\n"
                "for n in range(20):\n"
                "    credit(store, 'shared')\n"
                "    try:\n"
                "        credit(store, f'prize:{n}', expected=NEW)\n"
                "        won += 1\n"
                "    except SequenceConflictError: pass\n"
                "store.close(); print(won)\n"
            )
            children = [in_process(expression, body) for _ in range(3)]
            for _ in range(20):
                credit(store, "shared")
            answers = [child.communicate(timeout=50) for child in children]

            assert [child.returncode for child in children] == [0, 0, 0], answers
            assert sum(int(out) for out, _ in answers) == 20
            assert [event.sequence for event in store.read()] == list(range(1, 101))
            assert store.generation("shared") == 80
            assert store.verify_chain().events == 100

    def test_what_was_appended_is_there_after_reopening(
        self, opener: Opener, expression: str | None
    ) -> None:
        """Events, generations, keys, and the id of the store."""
        if expression is None:
            pytest.skip("this storage ends with its handle")
        with opener() as store:
            receipt = store.append(at("a"), CREDIT, {"amount": 3}, idempotency_key="k")
            before, store_id = store.read(), store.store_id
        with opener() as store:
            assert store.read() == before
            assert store.store_id == store_id
            assert store.append(at("a"), CREDIT, {"amount": 3}, idempotency_key="k") == receipt
            assert store.project(History, "a") == {"sequences": [1], "amounts": 3}

    def test_errors_are_of_one_family(self) -> None:
        """So that one ``except`` is enough."""
        families: list[Any] = [IdempotencyConflictError, SequenceConflictError, StoreClosed]

        assert all(issubclass(error, WatcherError) for error in families)
