"""Whatever is in the cache file, the answer is that of a replay."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from starfish_watcher import EventStore, Projection, SnapshotCache
from starfish_watcher.testing.samples import Balance, History, at, credit


@dataclass
class Total:
    amount: int = 0


class Totals(Projection[Total]):
    state_type = Total

    def initial(self) -> Total:
        return Total()

    def apply(self, state: Total, event: Any) -> Total:
        return Total(state.amount + event.payload["amount"])


def open_store(folder: Path) -> EventStore:
    return EventStore.open(
        folder / "events.db", snapshots=SnapshotCache(folder / "cache.db", min_events=1)
    )


def rows(folder: Path) -> int:
    with sqlite3.connect(folder / "cache.db") as connection:
        (count,) = connection.execute("SELECT count(*) FROM snapshots_2").fetchone()
    connection.close()
    return int(count)


class Sparing(Balance):
    """Fails on the events that the cache should have spared it."""

    spared_through = 0

    def apply(self, state: int, event: Any) -> int:
        assert event.sequence > self.spared_through
        return super().apply(state, event)


def fill(folder: Path, *projections: Any) -> None:
    with open_store(folder) as store:
        for _ in range(3):
            credit(store, "a")
        for projection in projections:
            store.project(projection, "a")


def test_a_new_process_folds_only_what_is_newer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, Sparing)

    with open_store(tmp_path) as store:
        monkeypatch.setattr(Sparing, "spared_through", 3)
        assert store.project(Sparing, "a") == 3
        credit(store, "a", 10)
        assert store.project(Sparing, "a") == 13


def test_typed_and_plain_states_come_back(tmp_path: Path) -> None:
    fill(tmp_path, Totals, History)
    assert rows(tmp_path) == 2

    with open_store(tmp_path) as store:
        assert store.project(Totals, "a") == Total(3)
        assert store.project(History, "a") == {"sequences": [1, 2, 3], "amounts": 3}


@pytest.mark.parametrize(
    "state", [{1, 2}, (1, 2), Total(3), {"a": (1,)}, {(1, 2): 3}, float("nan"), 2**70]
)
def test_a_state_that_would_come_back_changed_is_not_cached(tmp_path: Path, state: Any) -> None:
    class Odd(Projection[Any]):
        def initial(self) -> Any:
            return None

        def apply(self, _: Any, event: Any) -> Any:
            return state

    fill(tmp_path, Odd)

    with open_store(tmp_path) as store:
        assert repr(store.project(Odd, "a")) == repr(state)


def test_another_version_or_other_kinds_do_not_find_it(tmp_path: Path) -> None:
    fill(tmp_path, Balance)

    class NewVersion(Balance):
        schema_version = 1

        def apply(self, state: int, event: Any) -> int:
            return state + 100

    class OtherKinds(Balance):
        relevant_kinds = ()

        def apply(self, state: int, event: Any) -> int:
            return state + 7

    with open_store(tmp_path) as store:
        assert store.project(NewVersion, "a") == 300
        assert store.project(OtherKinds, "a") == 21


def test_an_instance_without_a_name_is_not_cached(tmp_path: Path) -> None:
    class Scaled(Projection[int]):
        def __init__(self, factor: int) -> None:
            self.factor = factor

        def initial(self) -> int:
            return 0

        def apply(self, state: int, event: Any) -> int:
            return state + self.factor

    fill(tmp_path, Scaled(10))

    with open_store(tmp_path) as store:
        assert store.project(Scaled(100), "a") == 300


def test_compaction_makes_it_stale(tmp_path: Path) -> None:
    fill(tmp_path, Balance)

    with open_store(tmp_path) as store:
        store.compact(lambda event: event.sequence != 2)
    with open_store(tmp_path) as store:
        assert store.project(Balance, "a") == 2


def test_the_cache_of_another_history_is_not_believed(tmp_path: Path) -> None:
    fill(tmp_path, Balance)
    with sqlite3.connect(tmp_path / "events.db") as connection:
        (store_id,) = connection.execute("SELECT store_id FROM log").fetchone()
    connection.close()
    (tmp_path / "events.db").unlink()
    with EventStore.open(tmp_path / "events.db") as store:
        for amount in (5, 6, 7, 8):
            store.append(at("a"), next(iter(Balance.relevant_kinds)), {"amount": amount})
    with sqlite3.connect(tmp_path / "events.db") as connection:
        connection.execute("UPDATE log SET store_id = ?", (store_id,))
    connection.close()

    with open_store(tmp_path) as store:
        assert store.project(Balance, "a") == 26


@pytest.mark.parametrize(
    "content", [b"", b"not a database" * 100, b"SQLite format 3\x00" + b"x" * 4096]
)
def test_a_damaged_file_never_changes_an_answer(tmp_path: Path, content: bytes) -> None:
    fill(tmp_path, Balance)
    for name in tmp_path.glob("cache.db*"):
        name.unlink()
    (tmp_path / "cache.db").write_bytes(content)

    with open_store(tmp_path) as store:
        assert store.project(Balance, "a") == 3
        credit(store, "a")
        assert store.project(Balance, "a") == 4


def test_rows_of_a_wrong_form_never_change_an_answer(tmp_path: Path) -> None:
    fill(tmp_path, Balance)
    for body, checksum in (("text", b""), (1, 2), (b"", b""), (b"\xc1", b"\xc1")):
        with sqlite3.connect(tmp_path / "cache.db") as connection:
            connection.execute("UPDATE snapshots_2 SET body = ?, checksum = ?", (body, checksum))
        connection.close()
        with open_store(tmp_path) as store:
            assert store.project(Balance, "a") == 3


RATES = {"usual": 1}


def rate() -> int:
    return RATES["usual"]


def rated(by: Any) -> type[Projection[int]]:
    class Rated(Projection[int]):
        name = "rated"

        def initial(self) -> int:
            return 0

        def apply(self, state: int, event: Any) -> int:
            return state + (by() if callable(by) else by)

    return Rated


def defaulted(by: int) -> type[Projection[int]]:
    class Defaulted(Projection[int]):
        name = "rated"

        def initial(self) -> int:
            return 0

        def apply(self, state: int, event: Any, step: int = by) -> int:
            return state + step

    return Defaulted


def inherited(by: int) -> type[Projection[int]]:
    class Base(Projection[int]):
        def initial(self) -> int:
            return 0

        def step(self) -> int:
            return by

    class Inheriting(Base):
        name = "rated"

        def apply(self, state: int, event: Any) -> int:
            return state + self.step()

    return Inheriting


@pytest.mark.parametrize("make", [rated, defaulted, inherited])
def test_other_code_of_the_same_name_never_gets_the_state(tmp_path: Path, make: Any) -> None:
    """What the code closes over, defaults to or inherits tells two classes apart."""
    fill(tmp_path, make(1))

    with open_store(tmp_path) as store:
        assert store.project(make(10), "a") == 30
        assert store.project(make(1), "a") == 3


def test_a_function_that_the_code_calls_counts_with_the_values_that_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, rated(rate))
    monkeypatch.setitem(RATES, "usual", 10)

    with open_store(tmp_path) as store:
        assert store.project(rated(rate), "a") == 30


def test_code_whose_values_cannot_be_told_is_not_cached(tmp_path: Path) -> None:
    lock = threading.Lock()

    def locked() -> int:
        with lock:
            return 1

    fill(tmp_path, rated(locked), Balance)

    assert rows(tmp_path) == 1


def test_compaction_leaves_no_state_of_its_entities_in_the_file(tmp_path: Path) -> None:
    fill(tmp_path, Balance)
    with open_store(tmp_path) as store:
        credit(store, "b")
        store.project(Balance, "b")
        assert rows(tmp_path) == 2
        store.compact(lambda event: event.entity != "a")

        assert rows(tmp_path) == 1
