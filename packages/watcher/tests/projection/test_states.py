from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from starfish_watcher import (
    CONSISTENT,
    Change,
    EventStore,
    MaybeStale,
    Projection,
    ProjectionFailed,
    StoreDamagedError,
    UnknownGenerationError,
)
from starfish_watcher._projection.states import ProjectionStates
from starfish_watcher.log.memory import MemoryEventLog
from starfish_watcher.testing.samples import CREDIT, NOTE, Balance, History, at, credit


class Hands:
    def __init__(self) -> None:
        self.ms = 1_000

    def now_ms(self) -> int:
        return self.ms


@pytest.fixture
def store():
    with EventStore.memory() as store:
        yield store


def test_freshness_says_how_old_a_state_may_be() -> None:
    hands = Hands()
    with EventStore.memory(clock=hands) as store:  # type: ignore[arg-type]
        credit(store, "a")
        assert store.project(Balance, "a") == 1
        credit(store, "a")
        hands.ms += 100

        assert store.project(Balance, "a", freshness=MaybeStale(100)) == 1
        assert store.project(Balance, "a", freshness=MaybeStale(99)) == 2
        credit(store, "a")
        hands.ms -= 5_000
        assert store.project(Balance, "a", freshness=MaybeStale(100)) == 3
        credit(store, "a")
        assert store.project(Balance, "a", freshness=CONSISTENT) == 4


def test_only_new_events_are_applied(store: EventStore) -> None:
    seen: list[int] = []

    class Counting(Balance):
        def apply(self, state: int, event: Any) -> int:
            seen.append(event.sequence)
            return super().apply(state, event)

    for expected in (1, 2, 3):
        credit(store, "a")
        assert store.project(Counting, "a") == expected

    assert seen == [1, 2, 3]


def test_from_events_folds_what_apply_would(store: EventStore) -> None:
    class AtOnce(Balance):
        def from_events(self, events: list[Any]) -> int:
            return sum(event.payload["amount"] for event in events) + 1_000

    for _ in range(3):
        credit(store, "a")

    assert store.project(AtOnce, "a") == 1_003
    credit(store, "a")
    assert store.project(AtOnce, "a") == 1_004
    assert store.project(AtOnce, "b") is None


@dataclass
class Account:
    total: int = 0
    notes: list[str] = field(default_factory=list)


class Ledger(msgspec.Struct):
    total: int = 0


def test_states_may_be_dataclasses_or_structs(store: EventStore) -> None:
    class Accounts(Projection[Account]):
        def initial(self) -> Account:
            return Account()

        def apply(self, state: Account, event: Any) -> Account:
            state.total += event.payload["amount"]
            state.notes.append(str(event.sequence))
            return state

    class Ledgers(Projection[Ledger]):
        def initial(self) -> Ledger:
            return Ledger()

        def apply(self, state: Ledger, event: Any) -> Ledger:
            return Ledger(state.total + event.payload["amount"])

    for number in (1, 2):
        credit(store, "a")
        first = store.project(Accounts, "a")
        assert first == Account(number, [str(n + 1) for n in range(number)])
        assert first is not None
        first.notes.clear()
        assert store.project(Ledgers, "a") == Ledger(number)


def test_two_instances_of_a_class_do_not_share_states(store: EventStore) -> None:
    @dataclass
    class Scaled(Projection[int]):
        factor: int

        def initial(self) -> int:
            return 0

        def apply(self, state: int, event: Any) -> int:
            return state + self.factor * event.payload["amount"]

    credit(store, "a", 2)
    ten, hundred = Scaled(10), Scaled(100)

    assert [store.project(one, "a") for one in (ten, hundred, ten)] == [20, 200, 20]


def test_states_in_memory_are_bounded(store: EventStore) -> None:
    states = ProjectionStates(store._log, Hands(), max_states=2)  # type: ignore[arg-type]
    for entity in ("a", "b", "c"):
        credit(store, entity)
        states.change(History, entity)

    assert len(states._kept) == 2
    assert states.change(History, "a") == Change(1, {"sequences": [1], "amounts": 1})


@pytest.mark.parametrize("part", ["initial", "apply", "from_events"])
def test_whatever_a_projection_raises_is_kept_as_the_cause(store: EventStore, part: str) -> None:
    def fail(*_: Any) -> Any:
        raise KeyError("amount")

    broken = type("Broken", (Balance,), {"name": "Broken", part: fail})
    credit(store, "a")

    with pytest.raises(ProjectionFailed, match="KeyError: 'amount'") as caught:
        store.project(broken, "a")
    assert isinstance(caught.value.__cause__, KeyError)
    assert (caught.value.entity, caught.value.projection.endswith("Broken")) == ("a", True)


def test_what_is_not_a_projection_is_a_type_error(store: EventStore) -> None:
    with pytest.raises(TypeError, match="has no initial"):
        store.project(object(), "a")  # type: ignore[arg-type]


def test_a_history_that_is_too_short_is_refused() -> None:
    log = MemoryEventLog()
    with EventStore(log) as store:
        credit(store, "a")
        credit(store, "a")
        del log._by_entity["a"][0]

        with pytest.raises(StoreDamagedError, match="2 events of which 0 were removed, but 1"):
            store.project(History, "a")


def test_kinds_and_entities_of_others_do_not_count(store: EventStore) -> None:
    for entity in ("a", "a:child", "ab"):
        store.append(at(entity), CREDIT, {"amount": 1})
        store.append(at(entity), NOTE, {"amount": 1_000})

    assert store.project_if_changed(Balance, "a", 0) == Change(2, 1)
    assert store.project_if_changed(Balance, "a", 2) is None
    with pytest.raises(UnknownGenerationError, match="never had generation 99, it is at 2"):
        store.project_if_changed(Balance, "a", 99)
