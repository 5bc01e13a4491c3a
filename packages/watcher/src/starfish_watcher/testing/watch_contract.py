"""What every log promises of projections and of those who wait for them.

Each test carries the name of the promise that it is about.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from starfish_watcher._delivery.hub import Hub
from starfish_watcher._model.generation import Generation
from starfish_watcher._projection.definition import Change, MaybeStale, Projection
from starfish_watcher._projection.snapshots import SnapshotCache
from starfish_watcher._store import EventStore
from starfish_watcher.errors import ProjectionFailed, StoreClosed, SubscriptionPruned
from starfish_watcher.fault_points import FaultPoints
from starfish_watcher.testing.beginning_contract import BeginningContract
from starfish_watcher.testing.convergence_contract import ConvergenceContract
from starfish_watcher.testing.samples import (
    NOTE,
    Balance,
    History,
    RawBalance,
    Stubborn,
    at,
    credit,
    in_threads,
)

__all__ = ("WatchContract",)

Opener = Callable[..., EventStore]


class WatchContract(BeginningContract, ConvergenceContract):
    """Inherit and supply ``opener``, ``expression`` and ``repetition``."""

    @pytest.fixture
    def store(self, opener: Opener) -> Iterator[EventStore]:
        """A store, closed at the end."""
        with opener() as store:
            yield store

    def test_burst_is_one_delivery_of_the_newest_state(self, store: EventStore) -> None:
        """However long it is: a flag is never full."""
        watcher = store.watch_projection(Balance, "a")
        for _ in range(50):
            credit(store, "a")

        assert watcher.recv(5) == Change(50, 50)
        assert watcher.try_recv() is None

    def test_burst_with_capacity_1_and_pruned_stays_pruned(self, store: EventStore) -> None:
        """The newest state, then the error until it subscribes anew, from its generation."""
        watcher = store.watch_projection(Balance, "a", capacity=1)
        for _ in range(5):
            credit(store, "a")

        assert watcher.recv(5) == Change(5, 5)
        credit(store, "a")
        for _ in range(3):
            with pytest.raises(SubscriptionPruned):
                watcher.recv(5)
        watcher.resubscribe()
        assert watcher.recv(0) == Change(6, 6)
        credit(store, "a")
        assert watcher.recv(5) == Change(7, 7)

    def test_irrelevant_append_gives_the_same_state_with_a_newer_generation(
        self, store: EventStore
    ) -> None:
        """Deduplication is by generation."""
        watcher = store.watch_projection(Balance, "a")
        credit(store, "a", 5)
        first = watcher.recv(5)
        store.append(at("a"), NOTE)

        assert (first, watcher.recv(5)) == (Change(1, 5), Change(2, 5))

    def test_only_irrelevant_entity(self, store: EventStore) -> None:
        """A fold of nothing is ``(generation, None)``."""
        watcher = store.watch_projection(Balance, "a")
        store.append(at("a"), NOTE)

        assert watcher.recv(5) == Change(1, None)
        assert store.project(Balance, "a") is None

    def test_fold_returning_none(self, store: EventStore) -> None:
        """``None`` is a state like others: folding goes on from it."""

        class Toggle(Projection[int | None]):
            def initial(self) -> int | None:
                return 0

            def apply(self, state: int | None, event: Any) -> int | None:
                return int(event.payload["amount"]) if state is None else None

        watcher = store.watch_projection(Toggle, "a")
        for generation, state in ((1, None), (2, 1), (3, None)):
            credit(store, "a")
            assert watcher.recv(5) == Change(generation, state)

    def test_watch_equals_project_equals_project_if_changed_on_both_lanes(
        self, store: EventStore
    ) -> None:
        """Cold and warm."""
        watchers = [store.watch_projection(lane, "a") for lane in (Balance, RawBalance)]
        for amount in (1, 20, 300):
            credit(store, "a", amount)
            store.append(at("a"), NOTE)
            for lane, watcher in zip((Balance, RawBalance), watchers, strict=True):
                change = watcher.recv(5)
                assert change == store.project_if_changed(lane, "a", change.generation - 1)
                assert change.state == store.project(lane, "a") == store.project(lane(), "a")
                assert store.project_if_changed(lane, "a", change.generation) is None

    def test_a_state_belongs_to_its_receiver(self, store: EventStore) -> None:
        """What one does to it nobody else sees."""
        credit(store, "a")
        watcher = store.watch_projection(History, "a", include_initial=True)
        for change in (watcher.recv(5), store.project_if_changed(History, "a", 0)):
            assert change is not None
            assert change.state is not None
            change.state["sequences"].append("spoilt")

        credit(store, "a")

        assert watcher.recv(5).state == {"sequences": [1, 2], "amounts": 2}

    def test_child_namespace_wakes_but_emits_nothing(self, store: EventStore) -> None:
        """A watcher of ``a`` is about ``a``; a prefix watch is about all below it."""
        watcher = store.watch_projection(Balance, "a")
        prefix = store.watch_prefix(Balance, "a")
        credit(store, "a:child")
        credit(store, "ab")

        assert watcher.is_due()
        with pytest.raises(TimeoutError):
            watcher.recv(0.02)
        assert prefix.recv(5) == ("a:child", Change(1, 1))
        credit(store, "a")
        assert watcher.recv(5) == Change(1, 1)
        assert prefix.recv(5) == ("a", Change(1, 1))
        assert prefix.try_recv() is None

    def test_stale_freshness_never_leaks_into_a_watcher(self, store: EventStore) -> None:
        """An old state is for who asked for it."""
        watcher = store.watch_projection(Balance, "a")
        credit(store, "a")
        assert store.project(Balance, "a") == 1
        credit(store, "a")

        stale = store.project(Balance, "a", freshness=MaybeStale(3_600_000))

        assert stale == 1
        assert watcher.recv(5) == Change(2, 2)
        assert store.project(Balance, "a") == 2

    def test_failing_projection_then_recovery_without_a_new_event(self, store: EventStore) -> None:
        """The cause is kept, and what the attempt spoilt is not."""
        stubborn = Stubborn()
        watcher = store.watch_projection(stubborn, "a")
        prefix = store.watch_prefix(stubborn, None)
        credit(store, "a")
        for _ in range(2):
            for recv in (watcher.recv, prefix.recv):
                with pytest.raises(ProjectionFailed, match="not yet") as caught:
                    recv(5)
                assert isinstance(caught.value.__cause__, RuntimeError)

        stubborn.healed = True

        assert watcher.recv(0) == Change(1, [1])
        assert prefix.recv(0) == ("a", Change(1, [1]))

    @pytest.mark.usefixtures("repetition")
    def test_close_while_blocked(self, opener: Opener) -> None:
        """Every blocked reader wakes, and the store closes although they live."""
        store = opener()
        readers: list[Callable[[], object]] = [
            store.watch_projection(Balance, "a").recv,
            store.watch_projection(Balance, "a", capacity=1).recv,
            store.watch_projection_cursor(Balance, "a").recv,
            store.watch_prefix(Balance, "a").recv,
            store.subscribe().recv,
            store.cursor().pull_batch,
        ]
        self._all_raise_when(readers, store.close, StoreClosed)

    @pytest.mark.usefixtures("repetition")
    def test_writer_death_while_blocked(self, opener: Opener) -> None:
        """The append and every blocked reader get the error that ended the writer."""
        points = FaultPoints()
        store = opener(fault_points=points)
        readers: list[Callable[[], object]] = [
            store.watch_projection(Balance, "a").recv,
            store.watch_prefix(Balance, "a").recv,
            store.cursor().pull_batch,
        ]

        def die() -> None:
            msg = "the writer died"
            raise MemoryError(msg)

        def append() -> None:
            points.arm("after_write", die)
            with pytest.raises(StoreClosed) as caught:
                credit(store, "a")
            assert isinstance(caught.value.__cause__, MemoryError)

        errors = self._all_raise_when(readers, append, StoreClosed)
        assert all(isinstance(error.__cause__, MemoryError) for error in errors)
        with pytest.raises(StoreClosed):
            credit(store, "a")
        store.close()

    def _all_raise_when(
        self,
        readers: list[Callable[[], object]],
        action: Callable[[], object],
        kind: type[Exception],
    ) -> list[BaseException]:
        """Block in all, act, and collect what they raise."""
        blocked = threading.Semaphore(0)
        errors: list[BaseException] = []

        def read(reader: Callable[[], object]) -> None:
            blocked.release()
            with pytest.raises(kind) as caught:
                reader()
            errors.append(caught.value)

        def act() -> None:
            for _ in readers:
                blocked.acquire()
            time.sleep(0.01)
            action()

        in_threads(act, *(partial(read, reader) for reader in readers))
        assert len(errors) == len(readers)
        return errors

    def test_compaction_does_not_mute(self, store: EventStore) -> None:
        """Generations go on where they were, and a state that it changed is told."""
        watcher = store.watch_projection(Balance, "a")
        untouched = store.watch_projection(Balance, "b")
        prefix = store.watch_prefix(Balance, None)
        credit(store, "a")
        credit(store, "a")
        assert watcher.recv(5) == Change(2, 2)
        assert prefix.recv(5) == ("a", Change(2, 2))
        before = store.project_if_changed(Balance, "a", 0)
        assert before is not None

        store.compact(lambda event: event.clock > 0)
        after = watcher.recv(5)
        assert after == Change(2, 1)
        assert after.generation > before.generation
        assert prefix.recv(5) == ("a", Change(2, 1))
        assert store.project_if_changed(Balance, "a", before.generation) == Change(2, 1)
        assert store.project_if_changed(Balance, "a", after.generation) is None
        assert store.watch_projection(
            Balance, "a", since_generation=Generation.from_token(before.token)
        ).recv(0) == Change(2, 1)
        assert untouched.try_recv() is None
        credit(store, "a")

        assert watcher.recv(5) == Change(3, 2)

    def test_compaction_by_another_handle_is_told(
        self, opener: Opener, expression: str | None
    ) -> None:
        """As by this one."""
        if expression is None:
            pytest.skip("this storage ends with its handle")
        with opener() as store, opener() as other:
            for _ in range(3):
                credit(store, "a")
            watcher = store.watch_projection(Balance, "a")
            prefix = store.watch_prefix(Balance, "a")
            other.compact(lambda event: event.clock > 0)

            assert watcher.recv(5) == Change(3, 2)
            assert prefix.recv(5) == ("a", Change(3, 2))

    def test_compaction_of_what_nobody_was_told_of_does_not_mute(
        self, opener: Opener, expression: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another handle appends and compacts before this one hears of it."""
        if expression is None:
            pytest.skip("this storage ends with its handle")
        with opener() as store, opener() as other:
            watcher = store.watch_projection(Balance, "a:b")
            prefix = store.watch_prefix(Balance, "a")
            subscription = store.subscribe()
            with monkeypatch.context() as deaf:
                deaf.setattr(Hub, "_catch_up", Mock(return_value=False))
                credit(other, "a:b")
                credit(other, "c")
                other.compact(lambda event: event.entity == "c")
            store.subscribe().close()  # a handle that begins to listen makes the others hear

            assert watcher.recv(5) == Change(1, None)
            assert prefix.recv(5) == ("a:b", Change(1, None))
            assert [event.entity for event in subscription.pull_batch(10, 5)] == ["c"]

    def test_damaged_cache_never_changes_an_answer(self, opener: Opener, tmp_path: Path) -> None:
        """Whatever bit of a cached state is wrong, the log is folded again."""

        class Named(Balance):
            name = "balance"  # instances of one name share states on disk, not in memory

        path = tmp_path / "cache.db"
        with opener(snapshots=SnapshotCache(path, min_events=1)) as store:
            for amount in (1, 20):
                credit(store, "a", amount)
            assert store.project_if_changed(Named(), "a", 0) == Change(2, 21)
            with closing(sqlite3.connect(path, isolation_level=None)) as file:
                ((row, *parts),) = file.execute("SELECT rowid, * FROM snapshots_2").fetchall()
                key, checksum = len(parts[0]), len(parts[2])
                whole = b"".join(parts)
                for place in range(len(whole)):
                    spoilt = bytearray(whole)
                    spoilt[place] ^= 1
                    file.execute(
                        "UPDATE snapshots_2 SET key = ?, body = ?, checksum = ? WHERE rowid = ?",
                        (spoilt[:key], spoilt[key:-checksum], spoilt[-checksum:], row),
                    )
                    assert store.project_if_changed(Named(), "a", 0) == Change(2, 21)

    @pytest.mark.usefixtures("repetition")
    def test_a_stuck_watcher_does_not_slow_appends(self, store: EventStore) -> None:
        """Appends end while a projection does not."""
        stuck, go_on = threading.Event(), threading.Event()

        class Slow(Balance):
            def apply(self, state: int, event: Any) -> int:
                stuck.set()
                assert go_on.wait(30)
                return super().apply(state, event)

        watcher = store.watch_projection(Slow, "a")
        subscription = store.subscribe(capacity=1)
        credit(store, "a")

        def append() -> None:
            assert stuck.wait(30)
            for _ in range(100):
                credit(store, "a")
            go_on.set()

        in_threads(append, lambda: watcher.recv(30))
        assert watcher.recv(5) == Change(101, 101)
        assert subscription.pruned

    def test_iteration_ends_with_the_watcher(self, store: EventStore) -> None:
        """And raises when the store ends first."""
        watcher = store.watch_projection(Balance, "a", include_initial=True)
        states: list[int | None] = []
        for change in watcher:
            states.append(change.state)
            if change.generation == 2:
                watcher.close()
            else:
                credit(store, "a")
        other = store.watch_projection(Balance, "a")
        store.close()

        assert states == [None, 1, 2]
        with pytest.raises(StoreClosed):
            next(iter(other))
        with pytest.raises(StoreClosed):
            watcher.recv()
