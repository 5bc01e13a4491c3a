"""What a runner promises, on every sink."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_disk.testing import ForkContract, FullDiskContract, SqliteFileContract
from starfish_protocol.events import SourceEvent
from starfish_watcher import (
    AsyncRunner,
    EventStore,
    MemorySink,
    Projection,
    Retry,
    Runner,
    RunnerError,
    SourcePositionLost,
    SqliteSink,
    StoreClosed,
    StoreMovedError,
    View,
    ViewFailed,
    ViewMismatchError,
    WatcherError,
)
from starfish_watcher.testing.samples import CREDIT, NOTE, at, credit, in_threads

MakeSink = Callable[[], Any]


class Ledger(View[Any]):
    """A row for each event that had its effects, on any sink; refuses what it is told to."""

    name = "ledger"
    relevant_kinds = (CREDIT,)

    def __init__(self, refused: Sequence[int] = ()) -> None:
        self.refused = list(refused)
        self.calls = 0

    def prepare(self, tables: Any) -> None:
        if not hasattr(tables, "execute"):
            return
        tables.execute("CREATE TABLE ledger (sequence BIGINT, entity TEXT, amount BIGINT)")

    def apply(self, tables: Any, event: Any) -> None:
        self.calls += 1
        row = (event.sequence, event.entity, event.payload["amount"])
        if not hasattr(tables, "execute"):
            key = len(tables["ledger"])
            tables["ledger"][key] = row
        else:
            mark = "?" if isinstance(tables, sqlite3.Connection) else "%s"
            tables.execute(f"INSERT INTO ledger VALUES ({mark}, {mark}, {mark})", row)
        if event.sequence in self.refused:
            msg = f"not {event.sequence}"
            raise RuntimeError(msg)

    def clear(self, tables: Any) -> None:
        if hasattr(tables, "execute"):
            tables.execute("DROP TABLE ledger")
        else:
            tables["ledger"].clear()


class Broken(Ledger):
    """Its own SQL is wrong, which is its fault and no outage."""

    name = "broken"

    def prepare(self, tables: Any) -> None:
        pass

    def apply(self, tables: Any, event: Any) -> None:
        if not hasattr(tables, "execute"):
            raise LookupError
        tables.execute("INSERT INTO there_is_no_such_table VALUES (1)")


class Total(Projection[int]):
    name = "total"
    relevant_kinds = (CREDIT,)

    def initial(self) -> int:
        return 0

    def apply(self, state: int, event: Any) -> int:
        return state + event.payload["amount"]


def ledger_of(sink: Any) -> list[tuple[int, str, int]]:
    if isinstance(sink, MemorySink):
        return sorted(tuple(row) for row in sink.tables["ledger"].values())
    with sink.reading() as connection:
        return [tuple(r) for r in connection.execute("SELECT * FROM ledger ORDER BY 1").fetchall()]


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def make_sink(
    request: pytest.FixtureRequest, tmp_path: Path, unique_name: str
) -> Iterator[MakeSink]:
    made: list[Any] = []

    def make() -> Any:
        if request.param == "memory":
            sink: Any = made[0] if made else MemorySink()
        elif request.param == "sqlite":
            sink = SqliteSink(tmp_path / "views.db")
        else:
            from starfish_watcher.postgres import PostgresSink

            dsn = request.getfixturevalue("postgres_server").dsn
            sink = PostgresSink(dsn, schema=unique_name)
        made.append(sink)
        return sink

    yield make
    for sink in made:
        sink.close()


@pytest.fixture
def sink(make_sink: MakeSink) -> Any:
    return make_sink()


@pytest.fixture
def store() -> Iterator[EventStore]:
    with EventStore.memory() as store:
        yield store


def test_each_event_has_its_effects_once_however_often_it_runs(
    store: EventStore, make_sink: MakeSink
) -> None:
    for number in range(10):
        credit(store, f"a:{number % 3}", number)
        store.append(at("a:0"), NOTE)
    for _ in range(3):
        runner = Runner(store, [Ledger(), Total], name="r", sink=make_sink(), batch=3)
        runner.run(until_end=True)

    sink = make_sink()
    assert [row[2] for row in ledger_of(sink)] == list(range(10))
    runner = Runner(store, [Ledger(), Total], name="r", sink=sink)
    assert [runner.state(Total, f"a:{n}") for n in range(4)] == [18, 12, 15, None]
    assert runner.stats().lag == 0
    assert runner.stats().sequence == 20


def test_what_comes_while_it_runs_has_its_effects_soon(store: EventStore, sink: Any) -> None:
    runner = Runner(store, [Ledger()], name="r", sink=sink)
    thread = threading.Thread(target=runner.run)
    thread.start()
    for number in range(5):
        credit(store, "a", number)
        deadline = time.monotonic() + 10
        while runner.stats().lag and time.monotonic() < deadline:
            time.sleep(0.01)
        assert runner.stats().lag == 0
    with pytest.raises(RunnerError, match="runs already"):
        runner.run()
    runner.stop()
    thread.join(10)
    assert len(ledger_of(sink)) == 5
    assert runner.stats().partitions[0].owner is None


def test_a_poison_event_stops_it_and_names_itself(store: EventStore, sink: Any) -> None:
    receipts = [store.append(at("a"), CREDIT, {"amount": n}) for n in range(5)]
    view = Ledger(refused=[3])
    runner = Runner(store, [view], name="r", sink=sink)

    for _ in range(2):
        with pytest.raises(ViewFailed, match=r"view 'ledger' failed at event 3 .*not 3") as raised:
            runner.run(until_end=True)
        failed = raised.value
        assert (failed.view, failed.sequence, failed.entity) == ("ledger", 3, "a")
        assert (failed.event_id, failed.kind) == (receipts[2].event_id, CREDIT)
        assert isinstance(failed.__cause__, RuntimeError)
        assert [row[0] for row in ledger_of(sink)] == [1, 2]
    view.refused.clear()
    assert runner.run(until_end=True) == 3
    assert [row[0] for row in ledger_of(sink)] == [1, 2, 3, 4, 5]


def test_a_poison_event_is_parked_and_tried_again_when_told(store: EventStore, sink: Any) -> None:
    for number in range(6):
        credit(store, "a", number)
    view = Ledger(refused=[2, 5])
    runner = Runner(store, [view, Total], name="r", sink=sink, poison="park")

    assert runner.run(until_end=True) == 6

    assert [row[0] for row in ledger_of(sink)] == [1, 3, 4, 6]
    assert runner.state(Total, "a") == 15
    parked = runner.parked()
    assert [(each.view, each.sequence, each.attempts) for each in parked] == [
        ("ledger", 2, 1),
        ("ledger", 5, 1),
    ]
    assert (parked[0].reason, parked[0].entity, parked[0].kind) == (
        "RuntimeError: not 2",
        "a",
        str(CREDIT),
    )
    view.refused = [5]
    assert runner.retry_parked() == 1
    assert [(each.sequence, each.attempts) for each in runner.parked()] == [(5, 2)]
    assert [row[0] for row in ledger_of(sink)] == [1, 2, 3, 4, 6]
    view.refused = []
    assert (runner.retry_parked(), runner.retry_parked(), runner.parked()) == (1, 0, [])
    assert [row[0] for row in ledger_of(sink)] == [1, 2, 3, 4, 5, 6]


def test_retries_wait_within_the_time_of_the_caller(store: EventStore, sink: Any) -> None:
    for number in range(3):
        credit(store, "a", number)
    view = Ledger(refused=[2])
    runner = Runner(
        store, [view], name="r", sink=sink, poison=Retry(attempts=50, first_pause_s=0.05)
    )
    began = time.monotonic()
    with pytest.raises(ViewFailed):
        runner.run(timeout=0.5, until_end=True)
    assert time.monotonic() - began < 5
    assert view.calls < 40

    def heal() -> None:
        time.sleep(0.3)
        view.refused.clear()

    in_threads(heal, lambda: runner.run(timeout=20, until_end=True))
    assert [row[0] for row in ledger_of(sink)] == [1, 2, 3]


def test_retries_that_are_used_up_lead_to_the_other_policy(store: EventStore, sink: Any) -> None:
    for number in range(3):
        credit(store, "a", number)
    few = Retry(attempts=2, first_pause_s=0.01, then="stop")
    with pytest.raises(ViewFailed):
        Runner(store, [Ledger([2])], name="r", sink=sink, poison=few).run(until_end=True)
    parking = Retry(attempts=2, first_pause_s=0.01, then="park")
    runner = Runner(store, [Ledger([2])], name="r", sink=sink, poison=parking)
    runner.run(until_end=True)
    assert [each.sequence for each in runner.parked()] == [2]
    assert [row[0] for row in ledger_of(sink)] == [1, 3]


def test_an_operator_parks_the_event_that_stops_it(store: EventStore, sink: Any) -> None:
    for number in range(3):
        credit(store, "a", number)
    runner = Runner(store, [Ledger([2])], name="r", sink=sink)
    with pytest.raises(ViewFailed):
        runner.run(until_end=True)
    runner.park(2, "known to be wrong")
    assert runner.run(until_end=True) == 2
    assert [row[0] for row in ledger_of(sink)] == [1, 3]
    assert [each.reason for each in runner.parked()] == ["known to be wrong"]
    with pytest.raises(RunnerError, match="event 1 cannot be parked"):
        runner.park(1, "late")
    with pytest.raises(RunnerError, match="no view 'other'"):
        runner.park(9, "x", view="other")


def test_wrong_statements_of_a_view_are_its_failure(store: EventStore, sink: Any) -> None:
    credit(store, "a")
    with pytest.raises(ViewFailed, match="'broken' failed at event 1"):
        Runner(store, [Ledger(), Broken()], name="r", sink=sink).run(until_end=True)
    runner = Runner(store, [Ledger(), Broken()], name="r", sink=sink, poison="park")
    runner.run(until_end=True)
    assert [row[0] for row in ledger_of(sink)] == [1]
    assert [each.view for each in runner.parked()] == ["broken"]


def test_other_views_under_a_name_are_refused(store: EventStore, sink: Any) -> None:
    credit(store, "a")
    Runner(store, [Ledger()], name="r", sink=sink).run(until_end=True)

    class Newer(Ledger):
        version = 2

    for views, partitions in (([Newer()], 1), ([Ledger(), Total], 1), ([Ledger()], 2)):
        with pytest.raises(ViewMismatchError):
            Runner(store, views, name="r", sink=sink, partitions=partitions).run(until_end=True)
    Runner(store, [Ledger()], name="r", sink=sink).reset()
    assert Runner(store, [Newer()], name="r", sink=sink).run(until_end=True) == 1
    assert len(ledger_of(sink)) == 1


def test_a_failing_preparation_leaves_nothing(store: EventStore, sink: Any) -> None:
    class Unprepared(Ledger):
        def prepare(self, tables: Any) -> None:
            super().prepare(tables)
            raise LookupError("no")

    with pytest.raises(RunnerError, match=r"prepare\(\) of view 'ledger' failed: LookupError"):
        Runner(store, [Unprepared()], name="r", sink=sink).run(until_end=True)
    credit(store, "a")
    assert Runner(store, [Ledger()], name="r", sink=sink).run(until_end=True) == 1


def test_processes_share_partitions_and_take_over(store: EventStore, make_sink: MakeSink) -> None:
    for number in range(200):
        credit(store, f"a:{number % 17}", number)
    runners = [
        Runner(
            store,
            [Ledger()],
            name="r",
            sink=make_sink(),
            partitions=4,
            lease_s=0.4,
            batch=10,
            owner=f"process {n}",
        )
        for n in range(3)
    ]
    in_threads(*(lambda r=r: r.run(timeout=30, until_end=True) for r in runners))

    rows = ledger_of(make_sink())
    assert sorted(row[0] for row in rows) == list(range(1, 201))
    assert sum(each.events for each in runners[0].stats().partitions) == 200


def test_a_dead_process_loses_its_partitions_and_writes_nothing_more(
    store: EventStore, make_sink: MakeSink
) -> None:
    credit(store, "a")
    sink = make_sink()
    first = Runner(store, [Ledger()], name="r", sink=sink, lease_s=0.3)
    first._group.enter()
    first._group.refresh()
    assert list(first._group.places) == [0]
    time.sleep(0.5)  # it is silent for longer than its lease

    second = Runner(store, [Ledger()], name="r", sink=make_sink(), lease_s=30)
    assert second.run(timeout=20, until_end=True) == 1
    credit(store, "a")
    second._group.refresh()
    place = next(iter(first._group.places.values()))
    assert place.sequence == 0
    from starfish_watcher._runner.group import LeaseLostError
    from starfish_watcher._runner.records import Place, Work

    with pytest.raises(LeaseLostError):
        first._group.commit(Work(store.read(), Place(2, "x")), parking=False)
    assert second.run(timeout=20, until_end=True) == 1
    assert [row[0] for row in ledger_of(sink)] == [1, 2]


@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=30),
    st.integers(1, 7),
    st.integers(1, 3),
    st.sets(st.integers(1, 30), max_size=5),
)
def test_views_are_what_the_log_says_whatever_the_batches(
    appended: list[tuple[int, bool]], batch: int, partitions: int, refused: set[int]
) -> None:
    with EventStore.memory() as store, MemorySink() as sink:
        runner = Runner(
            store, [Ledger(sorted(refused)), Total], name="r", sink=sink, batch=batch,
            partitions=partitions, poison="park",
        )  # fmt: skip
        for number, (entity, relevant) in enumerate(appended, 1):
            store.append(at(f"a:{entity}"), CREDIT if relevant else NOTE, {"amount": number})
            if number % 4 == 0:
                runner.run(until_end=True)
        runner.run(until_end=True)

        wanted = [
            (event.sequence, event.entity, event.payload["amount"])
            for event in store.read()
            if event.kind == CREDIT
        ]
        applied = [row for row in wanted if row[0] not in refused]
        assert sorted(ledger_of(sink)) == applied
        assert {each.sequence for each in runner.parked()} == {row[0] for row in wanted} & refused
        for entity in range(5):
            assert runner.state(Total, f"a:{entity}") == store.project(Total, f"a:{entity}")


def test_a_source_that_was_put_back_is_an_error(tmp_path: Path, sink: Any) -> None:
    path, backup = tmp_path / "events.db", tmp_path / "backup.db"
    with EventStore.open(path) as store:
        for _ in range(5):
            credit(store, "a")
    shutil.copy(path, backup)
    with EventStore.open(path) as store:
        for _ in range(5):
            credit(store, "a")
        Runner(store, [Ledger()], name="r", sink=sink).run(until_end=True)
    path.unlink()
    shutil.copy(backup, path)
    with EventStore.open(path) as store:
        with pytest.raises(SourcePositionLost, match="older copy"):
            Runner(store, [Ledger()], name="r", sink=sink).run(until_end=True)
        for _ in range(7):
            credit(store, "b")
        with pytest.raises(SourcePositionLost, match="another event stands at 10"):
            Runner(store, [Ledger()], name="r", sink=sink).run(until_end=True)
    assert len(ledger_of(sink)) == 10
    with EventStore.memory() as other, pytest.raises(SourcePositionLost, match="another store"):
        Runner(other, [Ledger()], name="r", sink=sink).run(until_end=True)


def test_a_sink_that_was_put_back_goes_on_from_its_own_position(tmp_path: Path) -> None:
    with EventStore.memory() as store:
        for number in range(5):
            credit(store, "a", number)
        with SqliteSink(tmp_path / "views.db") as sink:
            Runner(store, [Ledger()], name="r", sink=sink).run(until_end=True)
        shutil.copy(tmp_path / "views.db", tmp_path / "backup.db")
        credit(store, "a", 5)
        with SqliteSink(tmp_path / "views.db") as sink:
            Runner(store, [Ledger()], name="r", sink=sink).run(until_end=True)
        (tmp_path / "views.db").unlink()
        shutil.copy(tmp_path / "backup.db", tmp_path / "views.db")
        credit(store, "a", 6)
        with SqliteSink(tmp_path / "views.db") as sink:
            assert Runner(store, [Ledger()], name="r", sink=sink).run(until_end=True) == 2
            assert [row[2] for row in ledger_of(sink)] == list(range(7))


def test_a_sink_whose_file_was_moved_acknowledges_nothing(tmp_path: Path) -> None:
    with EventStore.memory() as store, SqliteSink(tmp_path / "views.db") as sink:
        runner = Runner(store, [Ledger()], name="r", sink=sink)
        runner.run(until_end=True)
        (tmp_path / "views.db").rename(tmp_path / "moved.db")
        credit(store, "a")
        with pytest.raises(StoreMovedError):
            runner.run(until_end=True)


class Plain:
    """A source without positions, with short pages, that can be put back."""

    def __init__(self) -> None:
        self.events: list[SourceEvent] = []

    def add(self, entity: str, payload: Any) -> None:
        self.events.append(SourceEvent(len(self.events) * 3 + 1, entity, CREDIT, payload))

    def read(self, after: int, limit: int, *, entity: str | None = None) -> list[SourceEvent]:
        found = [each for each in self.events if each.sequence > after]
        return [e for e in found if entity in (None, e.entity)][: min(limit, 2)]

    def generation(self, entity: str) -> int:
        return sum(each.entity == entity for each in self.events)

    def last_sequence(self) -> int:
        return self.events[-1].sequence if self.events else 0

    def subscribe(self, *, entity: str | None = None, capacity: int = 8192) -> Any:
        class Nothing:
            def pull_batch(self, max_events: int, timeout: float | None) -> list[SourceEvent]:
                time.sleep(0.01)
                return []

            def close(self) -> None:
                pass

        return Nothing()


def test_any_source_of_the_contract_is_followed(sink: Any) -> None:
    source = Plain()
    for number in range(7):
        source.add(f"a:{number % 2}", {"amount": number})
    runner = Runner(source, [Ledger(), Total], name="r", sink=sink)
    assert runner.run(until_end=True) == 7
    source.add("a:0", {"amount": 7})
    assert runner.run(until_end=True) == 1
    assert [row[2] for row in ledger_of(sink)] == list(range(8))

    source.events[-1] = SourceEvent(source.events[-1].sequence, "a:0", CREDIT, {"amount": 8})
    with pytest.raises(SourcePositionLost, match="another event stands"):
        runner.run(until_end=True)
    del source.events[-1]
    with pytest.raises(SourcePositionLost, match="has no event"):
        runner.run(until_end=True)


@pytest.fixture
def memory_sink() -> Iterator[MemorySink]:
    with MemorySink() as sink:
        yield sink


async def test_the_same_over_an_asynchronous_source(memory_sink: MemorySink) -> None:
    async with EventStore.memory().aio as store:
        view = Ledger(refused=[2])
        runner = AsyncRunner(store, [view, Total], name="r", sink=memory_sink, poison="park")
        for number in range(5):
            await store.append(at("a"), CREDIT, {"amount": number})
        assert await runner.run(until_end=True) == 5
        running = asyncio.create_task(runner.run())
        await store.append(at("a"), CREDIT, {"amount": 5})
        async with asyncio.timeout(10):
            while (await runner.stats()).lag:  # noqa: ASYNC110 - it is asked, as by an operator
                await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await runner.state(Total, "a") == 15
        assert [each.sequence for each in await runner.parked()] == [2]
        view.refused.clear()
        assert await runner.retry_parked() == 1
        assert sorted(row[0] for row in ledger_of(memory_sink)) == [1, 2, 3, 4, 5, 6]
        await runner.park(9, "later")
        await runner.reset()
        assert await runner.run(until_end=True) == 6


def test_a_runner_ends_with_its_source(store: EventStore, sink: Any) -> None:
    runner = Runner(store, [Ledger()], name="r", sink=sink)
    threading.Timer(0.3, store.close).start()
    with pytest.raises(StoreClosed):
        runner.run(timeout=20)


def test_arguments_that_are_refused(store: EventStore) -> None:
    sink = MemorySink()

    class Nameless(View[Any]):
        pass

    wrong: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"name": ""}, ValueError),
        ({"partitions": 0}, ValueError),
        ({"batch": 0}, ValueError),
        ({"lease_s": 0}, ValueError),
        ({"poison": "skip"}, ValueError),
        ({"views": []}, ValueError),
        ({"views": [Nameless()]}, ValueError),
        ({"views": [Ledger(), Ledger()]}, ValueError),
        ({"views": [Ledger]}, TypeError),
        ({"views": [object()]}, TypeError),
    ]
    for options, error in wrong:
        arguments: dict[str, Any] = {"views": [Ledger()], "name": "r", "sink": sink} | options
        with pytest.raises(error):
            Runner(store, **arguments)
    with pytest.raises(ValueError, match="attempts"):
        Retry(attempts=0)
    sink.close()


class Names:
    """A sink as the contracts of files know a store: it keeps names."""

    def __init__(self, path: Path) -> None:
        self.sink = SqliteSink(path)
        with self.sink.transaction() as t:
            t.tables.execute("CREATE TABLE IF NOT EXISTS names (name TEXT)")

    def write(self, name: str) -> None:
        with self.sink.transaction() as t:
            t.tables.execute("INSERT INTO names VALUES (?)", (name,))

    def names(self) -> list[str]:
        with self.sink.reading() as connection:
            return [name for (name,) in connection.execute("SELECT name FROM names")]

    def close(self) -> None:
        self.sink.close()


class OnSink:
    error = WatcherError

    @pytest.fixture
    def open_store(self) -> type[Names]:
        return Names


class TestSqliteFile(OnSink, SqliteFileContract): ...


class TestFork(OnSink, ForkContract): ...


class TestFullDisk(OnSink, FullDiskContract): ...
