"""What comes between two steps of a reader is neither skipped nor given twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from starfish_watcher import Coordinate, Event, EventKind, EventStore, Region
from starfish_watcher.log.memory import MemoryEventLog
from starfish_watcher.testing.samples import credit

KIND = EventKind.custom(0xF, 1)


class Interrupted(MemoryEventLog):
    """Calls ``between`` once after a read has found its events and before it returns them."""

    def __init__(self) -> None:
        super().__init__()
        self.between: Callable[[], object] = lambda: None

    def read(self, *args: Any, **options: Any) -> Sequence[Event]:
        found = list(super().read(*args, **options))
        action, self.between = self.between, lambda: None
        action()
        return found

    def last_sequence(self) -> int:
        found = super().last_sequence()
        action, self.between = self.between, lambda: None
        action()
        return found


def test_an_append_during_a_poll_comes_with_the_next() -> None:
    log = Interrupted()
    with EventStore(log) as store:
        cursor = store.cursor(Region(entity_prefix="a"))
        received: list[int] = []
        for _ in range(4):
            log.between = lambda: [credit(store, "b"), credit(store, "a")]
            received += [event.sequence for event in cursor.poll()]
        received += [event.sequence for event in cursor.poll()]

        assert received == [2, 4, 6, 8]


def test_an_append_during_the_read_of_a_poll_comes_with_the_next() -> None:
    log = Interrupted()
    read = log.read
    with EventStore(log) as store:
        cursor = store.cursor()

        def read_then_append(*args: Any, **options: Any) -> Sequence[Event]:
            found = read(*args, **options)
            store.append(Coordinate("a", "eu"), KIND, {"amount": 1})
            return found

        log.read = read_then_append  # type: ignore[method-assign]
        received = [event.sequence for _ in range(5) for event in cursor.poll()]

        assert received == [1, 2, 3, 4]


def test_a_cursor_far_from_its_region_does_not_read_the_same_again() -> None:
    with EventStore.memory() as store:
        store.append_batch([(Coordinate("b", "eu"), KIND, n) for n in range(100)])
        cursor = store.cursor(Region(entity_prefix="a"))

        assert cursor.poll() == []
        assert cursor.position == 100
