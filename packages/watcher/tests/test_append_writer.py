"""The writer's promises: groups, answers for everybody, and who fails with whom."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from starfish_watcher import (
    EventStore,
    StoreClosed,
    StoreFullError,
    StoreUnavailableError,
    WatcherError,
)
from starfish_watcher._limits import MAX_BATCH_EVENTS, MAX_GROUP_EVENTS
from starfish_watcher.log.base import AppendResult
from starfish_watcher.log.memory import MemoryEventLog
from starfish_watcher.testing.samples import CREDIT, at, credit, in_threads


class Slow(MemoryEventLog):
    """Holds the first group back until it is let go, so that others collect behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.go = threading.Event(), threading.Event()
        self.groups: list[tuple[int, str]] = []
        self.refuse: Callable[[Sequence[Any]], Exception | None] = lambda _: None
        self.flushes = 0

    def append(self, requests: Sequence[Any], **options: Any) -> AppendResult:
        self.began.set()
        assert self.go.wait(30)
        self.groups.append((len(requests), options["durability"]))
        if error := self.refuse(requests):
            raise error
        return super().append(requests, **options)

    def flush(self) -> None:
        self.flushes += 1


def behind_the_first(
    log: Slow, store: EventStore, *works: Callable[[], object]
) -> list[BaseException]:
    """Run ``works`` while the first append is held back, then let all go."""
    errors: list[BaseException] = []

    def catching(work: Callable[[], object]) -> None:
        try:
            work()
        except WatcherError as error:
            errors.append(error)

    def release() -> None:
        assert log.began.wait(30)
        while len(store._writer._waiting) < len(works):
            threading.Event().wait(0.001)
        log.go.set()

    in_threads(
        release,
        lambda: credit(store, "first"),
        *(lambda work=work: (log.began.wait(30), catching(work)) for work in works),
    )
    return errors


def test_what_waits_becomes_one_group_with_the_strongest_durability() -> None:
    log = Slow()
    with EventStore(log) as store:
        works = [
            lambda level=level: credit(store, "a", durability=level)
            for level in ("none", "batched", "none", "commit")
        ]
        assert behind_the_first(log, store, *works) == []
        credit(store, "a", durability="none")

        assert log.groups == [(1, "commit"), (4, "commit"), (1, "none")]
        assert store.generation("a") == 5


def test_a_group_has_a_cap() -> None:
    log = Slow()
    with EventStore(log) as store:
        batch = [(at("a"), CREDIT, {"amount": 1})] * (MAX_GROUP_EVENTS // 2)
        behind_the_first(log, store, *[lambda: store.append_batch(batch)] * 5)

        assert [size for size, _ in log.groups] == [1, 2, 2, 1]


def test_an_unavailable_log_fails_the_group_and_not_the_store() -> None:
    log = Slow()
    with EventStore(log) as store:
        log.refuse = lambda requests: (
            StoreUnavailableError("x", "gone") if len(requests) > 1 else None
        )
        errors = behind_the_first(log, store, *[lambda: credit(store, "a")] * 3)

        assert [type(error) for error in errors] == [StoreUnavailableError] * 3
        assert len({id(error) for error in errors}) == 3
        assert credit(store, "a") == 1


def test_a_full_log_is_tried_append_by_append() -> None:
    log = Slow()
    with EventStore(log) as store:
        log.refuse = lambda requests: (
            StoreFullError("x", "full")
            if any(item.entity == "large" for request in requests for item in request)
            else None
        )
        works = [lambda name=name: credit(store, name) for name in ("a", "large", "b")]
        errors = behind_the_first(log, store, *works)

        assert [type(error) for error in errors] == [StoreFullError]
        assert (store.generation("a"), store.generation("b")) == (1, 1)
        assert store.generation("large") == 0


def test_everything_that_was_taken_is_written_before_close_returns() -> None:
    log = Slow()
    store = EventStore(log)
    done = threading.Event()

    def close() -> None:
        store.close()
        done.set()

    errors = behind_the_first(log, store, lambda: credit(store, "a"), lambda: credit(store, "b"))
    in_threads(close)

    assert errors == []
    assert done.is_set()
    assert log.last_sequence() == 3


def test_whoever_waits_for_a_writer_that_died_is_answered() -> None:
    log = Slow()
    store = EventStore(log)
    log.refuse = lambda requests: ZeroDivisionError("boom") if len(requests) > 1 else None
    errors = behind_the_first(log, store, *[lambda: credit(store, "a")] * 4)

    assert [type(error) for error in errors] == [StoreClosed] * 4
    assert all(isinstance(error.__cause__, ZeroDivisionError) for error in errors)
    with pytest.raises(StoreClosed, match="boom"):
        credit(store, "a")
    store.close()


def test_unflushed_appends_are_flushed_at_the_end_and_flushed_ones_are_not() -> None:
    for durability, flushes in (("commit", 0), ("none", 1), ("batched", 1)):
        log = Slow()
        log.go.set()
        with EventStore(log) as store:
            credit(store, "a", durability=durability)
        assert log.flushes == flushes


def test_a_batch_has_a_cap() -> None:
    with (
        EventStore.memory() as store,
        pytest.raises(ValueError, match=f"at most {MAX_BATCH_EVENTS}"),
    ):
        store.append_batch([(at("a"), CREDIT, None)] * (MAX_BATCH_EVENTS + 1))


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (("a", CREDIT, None), "coordinate must be a Coordinate, not a str"),
        ((at("a"), 1, None), "kind must be an EventKind or a typed event, not a int"),
        ((at("a"), CREDIT), "an item is a NewEvent or"),
        (None, "an item is a NewEvent or"),
    ],
)
def test_an_item_of_another_type_is_refused(item: Any, message: str) -> None:
    with EventStore.memory() as store, pytest.raises(TypeError, match=message):
        store.append_batch([item])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"expected": -1}, ValueError, "a clock counts from 0"),
        ({"expected": True}, TypeError, "None, NEW or a clock, not bool"),
        ({"expected": "0"}, TypeError, "None, NEW or a clock, not str"),
        ({"idempotency_key": ""}, ValueError, "1 to 512 UTF-8 bytes"),
        ({"idempotency_key": "x" * 513}, ValueError, "1 to 512 UTF-8 bytes"),
        ({"idempotency_key": "\ud800"}, ValueError, "1 to 512 UTF-8 bytes"),
        ({"idempotency_key": 1}, TypeError, "idempotency_key must be a str"),
        ({"correlation_id": "x"}, TypeError, "correlation_id must be a UUID"),
        ({"causation_id": b"x"}, TypeError, "causation_id must be a UUID"),
    ],
)
def test_an_illegal_option_is_refused(options: Any, error: type[Exception], message: str) -> None:
    with EventStore.memory() as store:
        with pytest.raises(error, match=message):
            credit(store, "a", **options)
        assert store.last_sequence() == 0
