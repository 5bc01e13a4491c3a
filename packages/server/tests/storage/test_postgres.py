"""Documents in a real PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import asyncpg
import pytest

from servers.postgres import PostgresServer
from starfish_server.errors import StoreUnavailableError
from starfish_server.storage.changes import Change, ChangeRecord
from starfish_server.storage.errors import (
    OutcomeUnknownError,
    PositionLostError,
    PreconditionFailedError,
)
from starfish_server.storage.object_store import ObjectStore, write_once
from starfish_server.storage.postgres import PostgresObjectStore
from starfish_server.storage.values import ABSENT, Match, Value
from starfish_server.testing import (
    ChangeLogContract,
    ObjectStoreContract,
    OpenStore,
    PersistentStoreContract,
)

pytestmark = pytest.mark.network

Make = Callable[..., PostgresObjectStore]


@pytest.fixture
def open_store(postgres_server: PostgresServer) -> Make:
    """Makes handles of one new and empty schema."""
    schema = f"t_{uuid.uuid4().hex[:16]}"
    return partial(PostgresObjectStore, postgres_server.dsn, schema=schema)


@pytest.fixture
async def store(open_store: Make) -> AsyncIterator[PostgresObjectStore]:
    store = open_store()
    yield store
    await store.close()


@pytest.fixture
async def database(postgres_server: PostgresServer) -> AsyncIterator[Any]:
    """A connection past every store."""
    connection = await asyncpg.connect(postgres_server.dsn)
    yield connection
    await connection.close()


def schema_of(make: Make) -> str:
    return str(make.keywords["schema"])  # type: ignore[attr-defined]


def record(number: int, **more: Any) -> ChangeRecord:
    return ChangeRecord("notes", {"n": str(number)}, f"h{number}", number, **more)


async def changes_of(store: ObjectStore) -> list[Change]:
    assert store.changes is not None
    found: list[Change] = []
    position = None
    while True:
        page = await store.changes.read(position, 100)
        found += page.changes
        position = page.next
        if page.is_end:
            return found


class TestPostgres(ObjectStoreContract, ChangeLogContract):
    @pytest.fixture
    def store(self, store: PostgresObjectStore) -> PostgresObjectStore:
        return store


class TestPostgresPersists(PersistentStoreContract):
    @pytest.fixture
    def store(self, store: PostgresObjectStore) -> PostgresObjectStore:
        return store

    @pytest.fixture
    def open_store(self, open_store: OpenStore) -> OpenStore:
        return open_store


async def test_a_lost_answer_is_an_unknown_outcome_and_the_write_knows_itself(
    postgres_server: PostgresServer, open_store: Make, proxy_class: Any
) -> None:
    async with proxy_class(postgres_server.port) as proxy:
        address = postgres_server.dsn.replace(str(postgres_server.port), str(proxy.port))
        store = PostgresObjectStore(address, schema=schema_of(open_store))
        first = await store.write("a", Value(b"1"), change=record(1))

        proxy.swallows = True
        value = Value(b"2")
        with pytest.raises(OutcomeUnknownError) as caught:
            await store.write("a", value, when=Match(first.etag), change=record(2))
        assert (caught.value.key, caught.value.write_id) == ("a", value.write_id)
        proxy.swallows = False
        second = await write_once(store, "a", value, when=Match(first.etag), change=record(2))
        found = await store.get("a")
        assert found is not None
        assert (found.body, found.metadata.etag) == (b"2", second.etag)
        assert [change.hash for change in await changes_of(store)] == ["h1", "h2"]
        await store.close()


async def test_the_calls_of_a_lost_batch_all_hear_of_it(
    postgres_server: PostgresServer, open_store: Make, proxy_class: Any
) -> None:
    async with proxy_class(postgres_server.port) as proxy:
        address = postgres_server.dsn.replace(str(postgres_server.port), str(proxy.port))
        store = PostgresObjectStore(address, schema=schema_of(open_store))
        await store.write("a", Value(b"1"))
        proxy.swallows = True
        values = [Value(b"%d" % number) for number in range(20)]
        results = await asyncio.gather(
            *(store.write(f"k/{n}", value) for n, value in enumerate(values)),
            return_exceptions=True,
        )
        assert {type(result) for result in results} <= {OutcomeUnknownError, StoreUnavailableError}
        proxy.swallows = False
        await asyncio.gather(
            *(write_once(store, f"k/{n}", value, when=ABSENT) for n, value in enumerate(values))
        )
        assert len(await store.scan("k/")) == 20
        await store.close()


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_database_that_is_killed_and_restarted_loses_nothing_that_was_acknowledged(
    own_postgres_server: PostgresServer,
) -> None:
    servers = [PostgresObjectStore(own_postgres_server.dsn) for _ in range(2)]
    acknowledged: set[str] = set()
    unsure: set[str] = set()
    stop = asyncio.Event()

    async def write(store: PostgresObjectStore, name: str) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            key = f"{name}/{number}"
            try:
                await write_once(store, key, Value(key.encode()), when=ABSENT, change=record(1))
            except OutcomeUnknownError:
                unsure.add(key)
            except StoreUnavailableError:
                # Either nothing was sent, or it could not be asked about a lost answer.
                unsure.add(key)
                await asyncio.sleep(0.02)
            else:
                acknowledged.add(key)

    async def more_writes() -> None:
        before = len(acknowledged)
        while len(acknowledged) < before + 100:  # noqa: ASYNC110  eight tasks add to it
            await asyncio.sleep(0.01)

    writers = [
        asyncio.create_task(write(store, f"{number}-{task}"))
        for number, store in enumerate(servers)
        for task in range(4)
    ]
    epoch = (await changes(servers[0]).read(None, 1)).epoch
    reader = asyncio.create_task(follow(servers[1], stop))
    for how in (signal.SIGKILL, signal.SIGQUIT, signal.SIGINT):
        await more_writes()
        await asyncio.to_thread(own_postgres_server.stop, how)
        await asyncio.sleep(0.1)
        await asyncio.to_thread(own_postgres_server.start)
    await more_writes()
    stop.set()
    await asyncio.gather(*writers)

    there = {entry.key for entry in await servers[0].scan("")}
    assert acknowledged <= there <= acknowledged | unsure
    logged = [change.key for change in await changes_of(servers[0])]
    assert sorted(logged) == sorted(there)
    assert await reader == logged
    assert (await changes(servers[0]).read(None, 1)).epoch == epoch
    for store in servers:
        await store.close()


def changes(store: ObjectStore) -> Any:
    assert store.changes is not None
    return store.changes


async def follow(store: ObjectStore, stop: asyncio.Event) -> list[str]:
    """Every key of the log, in order, up to its end once nobody writes any more."""
    seen: list[str] = []
    position = None
    while True:
        is_over = stop.is_set()
        try:
            page = await changes(store).read(position, 50)
            seen += [change.key for change in page.changes]
            position = page.next
            if page.is_end:
                if is_over and not page.changes:
                    return seen
                await changes(store).wait(position, 0.2)
        except StoreUnavailableError:
            await asyncio.sleep(0.02)


async def test_a_change_of_another_server_is_notified(store: ObjectStore, open_store: Make) -> None:
    other = open_store()
    end = await changes(store).end()
    changes(store)._waiters._look_every_s = 60.0  # so that nothing but a notification wakes it
    waiting = asyncio.create_task(changes(store).wait(end, 50))
    listening = list(changes(store)._listening.values())
    while not listening:  # the wait opens it
        await asyncio.sleep(0.01)
        listening = list(changes(store)._listening.values())
    await listening[0]
    await other.write("a", Value(b"1"), change=record(1))

    async with asyncio.timeout(5):
        assert await waiting
    await other.close()


async def test_a_write_that_waits_too_long_for_another_server_is_refused(
    open_store: Make, database: Any
) -> None:
    store = open_store(busy_timeout_ms=200)
    await store.write("a", Value(b"1"))
    async with database.transaction():
        await database.execute("SELECT pg_advisory_xact_lock($1)", store._address.lock)
        with pytest.raises(StoreUnavailableError, match=r"lock of writers for 0\.2 s"):
            await store.write("a", Value(b"2"))
        found = await store.get("a")
        assert found is not None
        assert found.body == b"1"
    await store.write("a", Value(b"3"))
    await store.close()


async def test_connections_are_bounded(open_store: Make, database: Any) -> None:
    store = open_store(max_connections=4)
    await store.write("a", Value(b"1"))
    before = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'starfish-server'"
    [start] = await database.fetchrow(before)
    reads = [asyncio.create_task(store.get("a")) for _ in range(200)]
    [during] = await database.fetchrow(before)
    await asyncio.gather(*reads)

    assert during - start <= 2
    await store.close()


async def test_names_hold_any_character_and_refused_texts_spoil_no_neighbour(
    store: ObjectStore,
) -> None:
    odd = "a\x00\ud800\U0010ffff"
    change = ChangeRecord("notes", {"n": odd}, "h", 1, namespace=odd, identity=odd)
    results = await asyncio.gather(
        store.write("a", Value(b"1"), change=change),
        store.write("b", Value(b"1", hash="\x00")),
        store.write("c", Value(b"1", content_type="\ud800")),
        store.write("d", Value(b"1", expires_at=2**70)),
        store.write("e", Value(b"1")),
        return_exceptions=True,
    )

    assert [isinstance(result, ValueError) for result in results] == [
        False, True, True, True, False,
    ]  # fmt: skip
    [found] = await changes_of(store)
    assert (found.params, found.namespace, found.identity) == ({"n": odd}, odd, odd)
    assert [entry.key for entry in await store.scan("")] == ["a", "e"]


async def test_positions_of_a_log_that_was_put_back_are_lost(
    open_store: Make, database: Any
) -> None:
    schema = schema_of(open_store)
    store = open_store()
    for number in range(5):
        await store.write(f"k/{number}", Value(b"1"), change=record(number))
    written = await changes_of(store)
    # As a base backup that is older than the last two changes.
    await database.execute(f"DELETE FROM {schema}.change WHERE sequence > 3")
    with pytest.raises(PositionLostError):
        await changes(store).read(written[4].position, 10)
    await store.close()  # a database is restored while no server is connected

    again = open_store()
    for number in range(5, 9):
        await again.write(f"k/{number}", Value(b"1"), change=record(number))
    for change in written[3:]:
        with pytest.raises(PositionLostError):
            await changes(again).read(change.position, 10)
    page = await changes(again).read(written[2].position, 10)
    assert [change.key for change in page.changes] == ["k/5", "k/6", "k/7", "k/8"]
    await again.close()


async def test_servers_that_start_at_once_make_the_tables_once(open_store: Make) -> None:
    stores = [open_store() for _ in range(8)]
    await asyncio.gather(*(store.ping() for store in stores))
    for number, store in enumerate(stores):
        await store.write(f"k/{number}", Value(b"1"), change=record(number))

    assert len(await changes_of(stores[0])) == 8
    for store in stores:
        await store.close()


async def test_a_schema_of_something_else_is_left_alone(open_store: Make, database: Any) -> None:
    schema = schema_of(open_store)
    await database.execute(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.document (n integer)")
    with pytest.raises(StoreUnavailableError, match="'document', which is not of a document store"):
        await open_store().ping()
    await database.execute(f"DROP SCHEMA {schema} CASCADE")

    store = open_store()
    await store.ping()
    await store.close()
    await database.execute(f"UPDATE {schema}.starfish_layout SET version = 99")
    with pytest.raises(StoreUnavailableError, match="has layout 99; this release reads up to"):
        await open_store().ping()
    await database.execute(f"UPDATE {schema}.starfish_layout SET application = 'other'")
    with pytest.raises(StoreUnavailableError, match="of another application"):
        await open_store().ping()


async def test_a_database_that_does_not_answer_is_named_without_its_password(
    postgres_server: PostgresServer,
) -> None:
    for address in (
        "postgresql://ada:secret@127.0.0.1:1/none",
        postgres_server.dsn.replace("starfish@", "nobody:secret@"),
        f"{postgres_server.dsn}-none",
    ):
        store = PostgresObjectStore(address)
        for call in (store.ping(), store.get("a"), store.write("a", Value(b""))):
            with pytest.raises(StoreUnavailableError) as caught:
                await call
            assert "secret" not in str(caught.value)
            assert "127.0.0.1" in caught.value.location
        await store.close()


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"dsn": "host=127.0.0.1"}, "must begin with 'postgresql://'"),
        ({"schema": "a-b"}, "must be 1 to 48 of a-z, 0-9 and _"),
        ({"schema": "pg_x"}, "must not begin with 'pg_'"),
        ({"max_connections": 2}, "must be at least 3"),
    ],
    ids=["dsn", "schema", "reserved", "connections"],
)
def test_arguments_are_checked(options: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        PostgresObjectStore(**{"dsn": "postgresql://127.0.0.1/x", **options})


async def test_parts_of_values_that_are_gone_are_deleted(
    store: ObjectStore, open_store: Make, database: Any
) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 5_000_000
        raise LookupError

    large = b"x" * 3_000_000
    await store.write("a", Value(large))
    await store.write("a", Value(large))
    await store.write("a", Value(b"small"))
    with pytest.raises(LookupError):
        await store.write_stream("a", broken(), Value(b""))
    with pytest.raises(PreconditionFailedError):
        await store.write("a", Value(large), when=ABSENT)
    await store.write("b", Value(large))
    await store.remove("b")
    await store.close()

    schema = schema_of(open_store)
    assert await database.fetchval(f"SELECT count(*) FROM {schema}.part") == 0
    assert await database.fetchval(f"SELECT count(*) FROM {schema}.upload") == 0


async def test_a_forked_child_has_connections_of_its_own(store: ObjectStore) -> None:
    await store.write("a", Value(b"1"))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            asyncio.set_event_loop(None)
            asyncio._set_running_loop(None)
            asyncio.run(_write_and_close(store))
            status = 0
        finally:
            os._exit(status)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert os.waitstatus_to_exitcode(status) == 0

    assert [entry.key for entry in await store.scan("")] == ["a", "child"]
    await store.write("b", Value(b"1"))


async def _write_and_close(store: ObjectStore) -> None:
    await store.write("child", Value(b"1"))
    await store.close()
