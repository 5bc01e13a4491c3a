"""What every log promises of subscriptions and cursors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from starfish_watcher._model.region import Region
from starfish_watcher._store import EventStore
from starfish_watcher.errors import (
    CheckpointDamagedError,
    CheckpointError,
    CheckpointMismatchError,
    StoreClosed,
    SubscriptionPruned,
)
from starfish_watcher.testing.samples import CREDIT, NOTE, at, credit, in_process, in_threads

__all__ = ("DeliveryContract",)

Opener = Callable[..., EventStore]


class DeliveryContract:
    """Inherit and supply ``opener``, ``expression`` and ``repetition``."""

    @pytest.fixture
    def store(self, opener: Opener) -> Iterator[EventStore]:
        """A store, closed at the end."""
        with opener() as store:
            yield store

    def test_a_subscription_gets_its_region_from_now_on(self, store: EventStore) -> None:
        """Neither older events nor those of other regions."""
        credit(store, "alice")
        everything = store.subscribe()
        alice = store.subscribe(Region(entity_prefix="alice", kind=CREDIT))
        exactly = store.subscribe(entity="alice")

        for entity in ("alice", "alice:child", "alice2"):
            credit(store, entity)
        store.append(at("alice"), NOTE)

        assert [event.sequence for event in everything.pull_batch(10, 5)] == [2, 3, 4, 5]
        assert [event.sequence for event in alice.pull_batch(10, 5)] == [2, 3]
        assert [event.sequence for event in exactly.pull_batch(10, 5)] == [2, 5]
        assert everything.pull_batch(10, 0) == []
        with pytest.raises(TimeoutError):
            everything.recv(0.01)

    def test_a_full_subscription_is_dropped_drained_and_then_says_so(
        self, store: EventStore
    ) -> None:
        """Others are not harmed."""
        small, large = store.subscribe(capacity=2), store.subscribe()
        for _ in range(4):
            credit(store, "a")

        assert small.pruned
        assert [event.sequence for event in small.pull_batch(10, 5)] == [1, 2]
        for _ in range(2):
            with pytest.raises(SubscriptionPruned, match="2 events"):
                small.pull_batch(10, 5)
        assert len(large.pull_batch(10, 5)) == 4
        with pytest.raises(ValueError, match="capacity is 0"):
            store.subscribe(capacity=0)

    def test_what_one_reader_of_a_subscription_leaves_wakes_another(
        self, store: EventStore
    ) -> None:
        """Several threads may read one."""
        subscription = store.subscribe()
        credit(store, "a")
        credit(store, "a")

        assert subscription.recv(5).sequence == 1
        assert subscription.wait(0)
        assert subscription.recv(5).sequence == 2

    def test_a_subscription_ends_with_its_store(self, store: EventStore) -> None:
        """What it holds first, then the error."""
        subscription = store.subscribe()
        credit(store, "a")
        store.close()

        assert len(subscription.pull_batch(10, 5)) == 1
        with pytest.raises(StoreClosed):
            subscription.pull_batch(10, 5)

    @pytest.mark.usefixtures("repetition")
    def test_subscriptions_get_each_event_once_and_in_order_from_all_writers(
        self, opener: Opener, expression: str | None
    ) -> None:
        """Threads, and another process where there can be one."""
        with opener() as store:
            subscription = store.subscribe()
            child = None
            total = 60
            if expression is not None:
                body = "for _ in range(20): credit(store, 'far')\nstore.close()"
                child = in_process(expression, body)
                total += 20
            in_threads(*[lambda: [credit(store, "near") for _ in range(20)]] * 3)
            received: list[int] = []
            deadline = time.monotonic() + 40
            while len(received) < total and time.monotonic() < deadline:
                received += [event.sequence for event in subscription.pull_batch(7, 1.0)]
            if child is not None:
                _, stderr = child.communicate(timeout=50)
                assert child.returncode == 0, stderr

            assert received == list(range(1, total + 1))

    def test_a_cursor_reads_everything_at_its_own_pace(self, store: EventStore) -> None:
        """Events that match, in order, and then those that come."""
        store.append_batch([(at(f"e:{n % 2}"), CREDIT, n) for n in range(10)])
        cursor = store.cursor(Region(entity_prefix="e:0"))

        polled = [[event.sequence for event in cursor.poll(2)] for _ in range(4)]
        credit(store, "e:0")
        credit(store, "e:1")

        assert polled == [[1, 3], [5, 7], [9], []]
        assert [event.sequence for event in cursor.pull_batch(10, 5)] == [11]
        assert cursor.pull_batch(10, 0.01) == []
        cursor.close()
        with pytest.raises(StoreClosed):
            cursor.poll()

    def test_a_cursor_without_ack_gives_again_what_it_gave(
        self, store: EventStore, tmp_path: Path
    ) -> None:
        """At least once."""
        store.append_batch([(at("a"), CREDIT, n) for n in range(4)])
        checkpoint = tmp_path / "reader.checkpoint"
        cursor = store.cursor(checkpoint=checkpoint)
        cursor.poll(2)
        cursor.ack()
        cursor.poll(1)

        cursor.rewind()
        again = cursor.poll(10)
        other = store.cursor(checkpoint=checkpoint).poll(10)

        assert [event.sequence for event in again] == [event.sequence for event in other] == [3, 4]

    def test_a_checkpoint_is_bound_to_its_region_and_store(
        self, store: EventStore, tmp_path: Path
    ) -> None:
        """A mismatch or damage is an error, never a rewind."""
        credit(store, "a")
        path = tmp_path / "reader.checkpoint"
        region = Region(entity_prefix="a")
        cursor = store.cursor(region, path)
        cursor.poll()
        cursor.ack()

        with pytest.raises(CheckpointMismatchError, match="entity=b"):
            store.cursor(Region(entity_prefix="b"), path)
        with EventStore.memory() as other, pytest.raises(CheckpointMismatchError):
            other.cursor(region, path)
        whole = path.read_bytes()
        for damaged in (b"", whole[:-3], whole.replace(b'"position": 1', b'"position": 0')):
            path.write_bytes(damaged)
            with pytest.raises(CheckpointDamagedError):
                store.cursor(region, path)
        path.write_bytes(whole)
        assert store.cursor(region, path).poll() == []

    def test_a_checkpoint_that_cannot_be_saved_says_so(
        self, store: EventStore, tmp_path: Path
    ) -> None:
        """And the older one holds."""
        credit(store, "a")
        cursor = store.cursor(checkpoint=tmp_path / "missing" / "reader.checkpoint")
        cursor.poll()

        with pytest.raises(CheckpointError, match="cannot be written"):
            cursor.ack()
        assert (cursor.acked, cursor.position) == (0, 1)

    @pytest.mark.usefixtures("repetition")
    def test_cursors_lose_nothing_while_others_write(self, store: EventStore) -> None:
        """Each event once for one cursor, however reads and appends interleave."""
        received: list[int] = []

        def read() -> None:
            cursor = store.cursor()
            while len(received) < 60:
                batch = cursor.pull_batch(5, 20)
                assert batch
                received.extend(event.sequence for event in batch)

        in_threads(read, *[lambda: [credit(store, "a") for _ in range(20)]] * 3)

        assert received == list(range(1, 61))
