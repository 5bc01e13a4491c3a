"""The one suite, on a real PostgreSQL server; and the particulars of that store."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from starfish_protocol.testing import ThreadSafeEventSourceContract
from starfish_watcher import EventStore, StoreDamagedError, StoreUnavailableError
from starfish_watcher.fault_points import FaultPoints
from starfish_watcher.testing import (
    AppendContract,
    DeliveryContract,
    WatchContract,
    WritingContract,
)
from starfish_watcher.testing.samples import CREDIT, Balance, History, at, credit, in_threads

psycopg = pytest.importorskip("psycopg", reason="the extra postgres is not installed")
from starfish_watcher.log.postgres import _log as postgres_log  # noqa: E402 - only with the extra
from starfish_watcher.postgres import PostgresEventStore  # noqa: E402 - only with the extra

pytestmark = pytest.mark.network
Opener = Callable[..., EventStore]


class OnPostgres:
    @pytest.fixture
    def opener(self, postgres_server: Any, unique_name: str) -> Opener:
        return lambda **options: PostgresEventStore.open(
            postgres_server.dsn, schema=unique_name, **options
        )

    @pytest.fixture
    def expression(self, postgres_server: Any, unique_name: str) -> str | None:
        opened = f"PostgresEventStore.open({postgres_server.dsn!r}, schema={unique_name!r})"
        return f"__import__('starfish_watcher.postgres').postgres.{opened}"


class TestAppendOnPostgres(OnPostgres, AppendContract): ...


class TestWritingOnPostgres(OnPostgres, WritingContract): ...


class TestDeliveryOnPostgres(OnPostgres, DeliveryContract): ...


class TestWatchOnPostgres(OnPostgres, WatchContract): ...


class TestSourceOnPostgres(OnPostgres, ThreadSafeEventSourceContract):
    @pytest.fixture
    def source(self, opener: Opener) -> Iterator[EventStore]:
        with opener() as store:
            yield store

    def append(self, source: EventStore, entity: str) -> None:
        credit(source, entity)


@pytest.fixture
def opener(postgres_server: Any, unique_name: str) -> Opener:
    return lambda **options: PostgresEventStore.open(
        postgres_server.dsn, schema=unique_name, **options
    )


@pytest.fixture
def sql(postgres_server: Any) -> Iterator[Callable[..., Any]]:
    """Runs a statement as the administrator of the database would."""
    with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:
        yield connection.execute


@pytest.mark.parametrize(
    ("durability", "level"), [("commit", "on"), ("batched", "off"), ("none", "off")]
)
def test_durability_is_the_level_of_the_commit(opener: Opener, durability: str, level: str) -> None:
    points = FaultPoints()
    with opener(fault_points=points) as store:
        levels: list[object] = []

        def look() -> None:
            row = store._log._writer.connection.execute("SHOW synchronous_commit").fetchone()
            levels.extend(row)

        points.arm("after_write", look)
        credit(store, "a", durability=durability)

        assert levels == [level]


def test_a_server_without_fsync_is_warned_of(
    opener: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        opener().close()

    assert "fsync off" in caplog.text


@pytest.mark.parametrize(
    "schema", ["", "1a", "a-b", 'a"b', "a;b", "a.b", "ü", "pg_catalog", "x" * 64]
)
def test_a_schema_that_is_no_plain_name_is_refused(schema: str) -> None:
    with pytest.raises(ValueError, match="ASCII letters, digits"):
        PostgresEventStore.open("postgresql://127.0.0.1:1/x", schema=schema)


def test_capitals_and_keywords_are_names_too(postgres_server: Any, unique_name: str) -> None:
    for schema in (f"{unique_name}_Select", f"{unique_name}_select"):
        with PostgresEventStore.open(postgres_server.dsn, schema=schema) as store:
            assert credit(store, "a") == 1


@pytest.mark.parametrize(
    "dsn", ["user:pa55@host", "postgresql://u:pa55@h:1/d?nonsense=1", "host='pa55"]
)
def test_what_is_no_connection_string_is_refused_and_not_quoted(dsn: str) -> None:
    with pytest.raises(ValueError, match="not a legal connection string") as caught:
        PostgresEventStore.open(dsn)

    assert "pa55" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_no_password_is_in_a_message(postgres_server: Any, unique_name: str) -> None:
    dsn = postgres_server.dsn.replace("starfish@", "starfish:pa55@")
    with PostgresEventStore.open(dsn, schema=unique_name) as store:
        place = f"postgresql://127.0.0.1:{postgres_server.port}/postgres#{unique_name}"
        assert store.location == place
    with pytest.raises(StoreUnavailableError) as caught:
        PostgresEventStore.open(dsn.replace("/postgres", "/nowhere"), schema=unique_name)
    assert "pa55" not in str(caught.value)
    assert "nowhere" in str(caught.value)


def test_many_handles_may_open_a_new_store_at_once(opener: Opener) -> None:
    ids: list[str] = []

    def use() -> None:
        with opener() as store:
            credit(store, "a")
            ids.append(store.store_id)

    in_threads(*[use] * 6)

    assert len(ids) == 6
    assert len(set(ids)) == 1
    with opener() as store:
        assert store.generation("a") == 6


def test_a_schema_that_is_something_else_is_refused(
    opener: Opener, unique_name: str, sql: Callable[..., Any]
) -> None:
    sql(f"CREATE SCHEMA {unique_name}; CREATE TABLE {unique_name}.events (x int)")
    with pytest.raises(StoreDamagedError, match="only events"):
        opener()
    assert sql(f"SELECT count(*) FROM {unique_name}.events").fetchone() == (0,)


def test_another_version_and_a_missing_head_are_refused(
    opener: Opener, unique_name: str, sql: Callable[..., Any]
) -> None:
    opener().close()
    sql(f"UPDATE {unique_name}.log SET format_version = 99")
    with pytest.raises(StoreDamagedError, match="has the format 99; this version reads formats 1"):
        opener()
    sql(f"UPDATE {unique_name}.log SET format_version = 2")
    sql(f"DELETE FROM {unique_name}.log")
    with pytest.raises(StoreDamagedError, match="head row"):
        opener()


def test_tables_that_vanish_are_an_error_of_the_call(
    opener: Opener, unique_name: str, sql: Callable[..., Any]
) -> None:
    with opener() as store:
        credit(store, "a")
        sql(f"DROP SCHEMA {unique_name} CASCADE")

        with pytest.raises(StoreDamagedError, match="does not exist"):
            store.read()
        with pytest.raises(StoreDamagedError, match="does not exist"):
            credit(store, "a")


def test_a_connection_that_the_server_ends_is_replaced(
    opener: Opener, sql: Callable[..., Any], unique_name: str
) -> None:
    with opener() as store:
        watcher = store.watch_projection(Balance, "a")
        for number in range(1, 4):
            sql(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE application_name = 'starfish-watcher' AND query LIKE %s",
                (f"%{unique_name}%",),
            )
            assert credit(store, "a") == number
            assert watcher.recv(5) == (number, number)


def test_a_history_is_of_one_moment_however_many_pages_it_has(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_log, "PAGE_EVENTS", 10)
    with opener() as store, opener() as other:
        store.append_batch([(at("a"), CREDIT, {"amount": 1})] * 35)
        with store._log.history("a", after=0, kinds=(), raw=False) as history:
            first = next(history.events)
            credit(other, "a")
            other.compact(lambda event: event.sequence < 30)
            rest = list(history.events)

        assert (first.sequence, history.head.generation) == (1, 35)
        assert [event.sequence for event in rest] == list(range(2, 36))
        state = store.project(History, "a")
        assert state is not None
        assert state["sequences"] == list(range(1, 30))


def test_a_writer_that_hangs_does_not_hang_the_others_for_ever(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    from starfish_watcher.log.postgres import _connections

    hangs, goes_on = threading.Event(), threading.Event()
    points = FaultPoints()
    with opener(fault_points=points) as stuck:
        monkeypatch.setattr(_connections, "BUSY_TIMEOUT_S", 1)
        with opener() as store:
            points.arm("after_write", lambda: (hangs.set(), goes_on.wait(20)))
            thread = threading.Thread(target=credit, args=(stuck, "a"))
            thread.start()
            assert hangs.wait(10)
            try:
                with pytest.raises(StoreUnavailableError, match="lock timeout"):
                    credit(store, "a")
                assert store.generation("a") == 0
            finally:
                goes_on.set()
                thread.join(20)
            assert credit(store, "a") == 2


def test_a_key_may_hold_any_character(opener: Opener) -> None:
    with opener() as store:
        for key in ("\x00", "%s", "ü\n", "'"):
            first = store.append(at("a"), CREDIT, key, idempotency_key=key)
            assert store.append(at("a"), CREDIT, key, idempotency_key=key) == first
        assert store.last_sequence() == 4
