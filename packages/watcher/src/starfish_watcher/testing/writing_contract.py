"""What every log promises of typed events, of load, decide and append, and of erasure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from starfish_watcher._model.event_kind import EventKind
from starfish_watcher._model.event_types import event
from starfish_watcher._model.new_event import NewEvent
from starfish_watcher._projection.definition import Projection
from starfish_watcher._projection.snapshots import SnapshotCache
from starfish_watcher._store import EventStore
from starfish_watcher.errors import PayloadErasedError, SequenceConflictError
from starfish_watcher.key_ring import KeyRing
from starfish_watcher.testing.samples import CREDIT, NOTE, Balance, at, credit, in_threads

__all__ = ("Paid", "PaidTotal", "WritingContract")

Opener = Callable[..., EventStore]


@event("starfish.testing.paid", version=2, kind=EventKind.custom(0xF, 0x7E1))
class Paid(msgspec.Struct, frozen=True):
    """A typed event."""

    amount: int
    note: bytes = b""


class PaidTotal(Projection[int]):
    """Sums the amounts of `Paid`."""

    name = "paid"
    relevant_kinds = (Paid,)

    def initial(self) -> int:
        """Nothing."""
        return 0

    def apply(self, state: int, event: Any) -> int:
        """Add the amount."""
        assert isinstance(event.payload, Paid)
        return state + event.payload.amount


class WritingContract:
    """Inherit and supply ``opener``, ``expression`` and ``repetition``."""

    @pytest.fixture
    def store(self, opener: Opener) -> Iterator[EventStore]:
        """A store, closed at the end."""
        with opener() as store:
            yield store

    def test_a_typed_event_comes_back_as_its_class(self, store: EventStore) -> None:
        """Through reads, projections and batches, with its name and the user's metadata."""
        receipt = store.append(at("a"), Paid(5, b"\x00"), metadata={"request": "r1"})
        store.append_batch([(at("a"), Paid(7)), NewEvent(at("a"), Paid(1)), (at("a"), NOTE, {})])

        found = store.get(receipt.event_id)
        assert found is not None
        assert found.payload == Paid(5, b"\x00")
        assert (found.type_name, found.type_version) == ("starfish.testing.paid", 2)
        assert found.metadata == {"request": "r1"}
        assert store.project(PaidTotal, "a") == 13
        assert store.verify_chain().events == 4

    def test_metadata_is_part_of_the_event(self, store: EventStore) -> None:
        """And of its hash."""
        store.append(at("a"), CREDIT, {"amount": 1}, metadata={"agent": "tests", "n": [1]})

        (found,) = store.read()
        assert found.metadata == {"agent": "tests", "n": [1]}
        assert found.computed_hash() == found.event_hash

    def test_an_update_decides_on_the_newest_state(self, store: EventStore) -> None:
        """The first event, the next one, and none."""

        def spend(balance: int | None) -> list[Any]:
            return [(at("a"), CREDIT, {"amount": 4})] if (balance or 0) < 8 else []

        assert [len(store.update(Balance, "a", spend)) for _ in range(3)] == [1, 1, 0]
        assert store.project(Balance, "a") == 8

    def test_an_update_is_done_again_when_somebody_was_first(self, store: EventStore) -> None:
        """With the newer state, and as one batch with events of other entities."""
        seen: list[int | None] = []

        def decide(balance: int | None) -> list[Any]:
            seen.append(balance)
            if len(seen) < 3:
                credit(store, "a", 10)
            return [(at("a"), CREDIT, {"amount": 1}), (at("b"), NOTE, balance)]

        receipts = store.update(Balance, "a", decide)

        assert seen == [None, 10, 20]
        assert len(receipts) == 2
        assert store.project(Balance, "a") == 21
        assert [each.payload for each in store.read(entity="b")] == [20]

    def test_an_update_gives_up_after_its_attempts(self, store: EventStore) -> None:
        """With the conflict, and nothing written."""

        def decide(_: int | None) -> list[Any]:
            credit(store, "a")
            return [(at("a"), NOTE, {})]

        with pytest.raises(SequenceConflictError):
            store.update(Balance, "a", decide, attempts=2)
        assert len(store.read()) == 2

    def test_an_update_refuses_what_it_cannot_guard(self, store: EventStore) -> None:
        """A first event of another entity, or with an expectation of its own."""
        with pytest.raises(ValueError, match="first event"):
            store.update(Balance, "a", lambda _: [(at("b"), NOTE, {})])
        with pytest.raises(ValueError, match="first event"):
            store.update(Balance, "a", lambda _: [NewEvent(at("a"), NOTE, {}, expected=0)])
        assert store.last_sequence() == 0

    @pytest.mark.usefixtures("repetition")
    def test_updates_in_threads_never_overspend(self, store: EventStore) -> None:
        """A limit that each decision looks at is kept, however many decide at once."""

        def spend() -> None:
            for _ in range(6):
                store.update(
                    Balance,
                    "card",
                    lambda spent: (
                        [(at("card"), CREDIT, {"amount": 1})] if (spent or 0) < 20 else []
                    ),
                )

        in_threads(*[spend] * 5)

        assert store.project(Balance, "card") == store.generation("card") == 20

    def test_erasure_leaves_generations_and_nothing_to_read(self, store: EventStore) -> None:
        """Neighbours and later events are as they would be anyway."""
        for entity in ("a", "a:child", "ab", "a"):
            credit(store, entity, 5)
        change = store.project_if_changed(Balance, "a", 0)
        assert change is not None
        assert change.state == 10

        assert store.erase("a") == 2

        assert list(store.read(entity="a")) == []
        assert (store.generation("a"), store.last_sequence()) == (2, 4)
        assert [store.project(Balance, entity) for entity in ("a", "a:child", "ab")] == [None, 5, 5]
        erased = store.project_if_changed(Balance, "a", change.generation)
        assert erased is not None
        assert erased.state is None
        assert credit(store, "a", 3, expected=1) == 3
        assert store.project(Balance, "a") == 3
        assert store.verify_chain().removed == 2
        assert store.erase("nobody") == 0

    def test_erasure_wakes_those_who_hold_a_state(self, store: EventStore) -> None:
        """Of this entity and of no other."""
        for entity in ("a", "b"):
            credit(store, entity, 5)
        watcher = store.watch_projection(Balance, "a")
        other = store.watch_projection(Balance, "b")

        store.erase("a")

        assert watcher.recv(timeout=5).state is None
        with pytest.raises(TimeoutError):
            other.recv(timeout=0.2)

    def test_sealed_payloads_are_read_with_their_ring_only(
        self, opener: Opener, tmp_path: Path
    ) -> None:
        """Hashes are of the sealed bytes, so that they verify without the ring too."""
        with KeyRing(tmp_path / "keys.db") as keys, opener(keys=keys) as store:
            store.append(at("a"), Paid(5), idempotency_key="k")
            first = store.append(at("a"), Paid(5), idempotency_key="k")
            store.append(at("a"), CREDIT, {"secret": "mallory"})

            events = store.read()
            assert len(events) == 2
            assert events[0].payload == Paid(5)
            assert events[1].payload == {"secret": "mallory"}
            assert b"mallory" not in events[1].payload_bytes
            assert (store.project(PaidTotal, "a"), first.generation) == (5, 1)
            assert store.verify_chain().events == 2
            keys.close()
            with pytest.raises(PayloadErasedError):
                _ = events[0].payload
            assert store.verify_chain().events == 2

    def test_a_destroyed_key_erases_copies_too(self, opener: Opener, tmp_path: Path) -> None:
        """A kept copy of the bytes cannot be read; the entity goes on with another key."""
        cache = SnapshotCache(tmp_path / "cache.db", min_events=1)
        with KeyRing(tmp_path / "keys.db") as keys, opener(keys=keys, snapshots=cache) as store:
            store.append(at("a"), CREDIT, {"amount": 5})
            store.append(at("b"), CREDIT, {"amount": 6})
            assert store.project(Balance, "a") == 5
            copies = store.read()

            assert store.erase("a") == 1

            with pytest.raises(PayloadErasedError):
                _ = copies[0].payload
            assert copies[1].payload == {"amount": 6}
            assert store.project(Balance, "a") is None
            credit(store, "a", 3)
            assert (store.project(Balance, "a"), store.project(Balance, "b")) == (3, 6)

    @pytest.mark.usefixtures("repetition")
    def test_appends_beside_an_erasure_are_whole_or_gone(
        self, opener: Opener, tmp_path: Path
    ) -> None:
        """After a last erasure nothing unreadable is left, and the counts fit."""
        with KeyRing(tmp_path / "keys.db") as keys, opener(keys=keys) as store:

            def write(amount: int) -> None:
                for _ in range(10):
                    credit(store, "a", amount)

            in_threads(partial(write, 1), partial(write, 2), lambda: store.erase("a"))
            store.erase("a")
            credit(store, "a", 7)

            assert store.project(Balance, "a") == 7
            assert store.generation("a") == 21
            assert store.verify_chain().removed == 20
