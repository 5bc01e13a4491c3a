"""Commands that share a commit: each gets its own answer, and none before the disk has it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, RootTransaction, event, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from starfish_artifact_registry.dataplane import InProcessDataPlane
from starfish_artifact_registry.db._database import Database
from starfish_artifact_registry.db.schema import create_schema, events
from starfish_artifact_registry.errors import (
    DatabaseUnavailableError,
    DuplicateRelativePathError,
    InvalidValueError,
    PackageNotFoundError,
    RegistryError,
)
from starfish_artifact_registry.events import RegistryViewWriter
from starfish_artifact_registry.registry import Registry

Fields = dict[str, Any]
Ingest = Callable[..., Awaitable[UUID]]


async def _count(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return (await connection.execute(select(func.count()).select_from(events))).scalar_one()


@pytest.fixture
def commits(engine: AsyncEngine) -> list[str]:
    """Every commit that the database is asked for."""
    seen: list[str] = []
    event.listen(engine.sync_engine, "commit", lambda _connection: seen.append("commit"))
    return seen


async def test_a_refused_command_disturbs_no_other(
    registry: Registry, package_fields: Fields, ingest: Ingest
) -> None:
    package_id = await registry.create_package(**package_fields)

    outcomes = await asyncio.gather(
        ingest(registry, package_id, "a", b"one"),
        ingest(registry, package_id, "a", b"another"),
        ingest(registry, uuid4(), "a"),
        registry.create_package(**package_fields | {"retention_class": "none"}),
        ingest(registry, package_id, "b"),
        registry.create_package(**package_fields),
        return_exceptions=True,
    )

    assert sum(type(outcome) is DuplicateRelativePathError for outcome in outcomes[:2]) == 1
    assert type(outcomes[2]) is PackageNotFoundError
    assert isinstance(outcomes[3], ValueError)
    assert [isinstance(outcome, UUID) for outcome in outcomes[4:]] == [True, True]
    assert (await registry.verify_log()).head_sequence == 4


async def test_commands_in_flight_share_commits(
    registry: Registry, package_fields: Fields, commits: list[str]
) -> None:
    await asyncio.gather(*(registry.create_package(**package_fields) for _ in range(50)))

    assert len(commits) < 10


async def test_when_the_commit_fails_every_command_fails_and_nothing_is_stored(
    registry: Registry, engine: AsyncEngine, package_fields: Fields
) -> None:
    await registry.create_package(**package_fields)

    def refuse(_connection: object) -> None:
        raise OSError(28, "No space left on device")

    # Of every engine: on SQLite the commit is that of a thread with an engine of its own.
    event.listen(Engine, "commit", refuse)
    outcomes = await asyncio.gather(
        *(registry.create_package(**package_fields) for _ in range(3)), return_exceptions=True
    )
    event.remove(Engine, "commit", refuse)

    assert [isinstance(outcome, DatabaseUnavailableError) for outcome in outcomes] == [True] * 3
    assert await _count(engine) == 1
    await registry.create_package(**package_fields)
    assert (await registry.verify_log()).ok


async def test_a_commit_whose_answer_was_lost_is_asked_about(
    registry: Registry, engine: AsyncEngine, package_fields: Fields, monkeypatch: Any
) -> None:
    commit = RootTransaction.commit
    lost: list[int] = []

    def commit_and_lose_the_answer(transaction: RootTransaction) -> None:
        commit(transaction)
        if not lost:
            lost.append(1)
            raise ConnectionResetError("lost")

    monkeypatch.setattr(RootTransaction, "commit", commit_and_lose_the_answer)

    package_id = await registry.create_package(**package_fields)

    assert lost
    assert isinstance(package_id, UUID)
    assert await _count(engine) == 1


async def test_a_call_that_is_cancelled_before_its_turn_does_nothing(
    registry: Registry, engine: AsyncEngine, package_fields: Fields
) -> None:
    async with Database(engine).write():
        first = asyncio.create_task(registry.create_package(**package_fields))
        await asyncio.sleep(0.05)  # it waits for the lock
        second = asyncio.create_task(registry.create_package(**package_fields))
        await asyncio.sleep(0.05)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second

    await first
    assert await _count(engine) == 1


async def test_values_are_checked_when_a_command_runs_too(
    registry: Registry, engine: AsyncEngine
) -> None:
    with pytest.raises(InvalidValueError):
        await registry.create_package(
            name="a\nb", producer="p", subject="s", retention_class="derived", actor="ada"
        )

    assert await _count(engine) == 0


class TestEnginesOfOthers:
    """Whatever engine the caller has."""

    @pytest.fixture
    async def use(
        self, dataplane: InProcessDataPlane, package_fields: Fields, ingest: Ingest
    ) -> Callable[[AsyncEngine], Awaitable[None]]:
        async def use(engine: AsyncEngine) -> None:
            await create_schema(engine)
            await create_schema(engine)
            registry = Registry(engine, dataplane, RegistryViewWriter())
            package_id = await registry.create_package(**package_fields)
            tail = registry.tail_events()
            await asyncio.gather(
                *(ingest(registry, package_id, f"{number}") for number in range(8)),
                anext(tail),
                registry.verify_log(),
            )
            await tail.aclose()
            await registry.finalize_package(package_id, actor="ada")
            assert (await registry.verify_log()).head_sequence == 10

        return use

    async def test_a_plain_engine(self, use: Any, tmp_path: Any) -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'plain.sqlite'}")
        await use(engine)
        await engine.dispose()

    async def test_one_connection_in_memory(self, use: Any) -> None:
        engine = create_async_engine("sqlite+aiosqlite://")
        await use(engine)
        await engine.dispose()

    async def test_one_that_begins_transactions_itself(self, use: Any, tmp_path: Any) -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'begin.sqlite'}")

        @event.listens_for(engine.sync_engine, "connect")
        def _(connection: Any, _record: object) -> None:
            connection.isolation_level = None

        @event.listens_for(engine.sync_engine, "begin")
        def _(connection: Any) -> None:
            connection.exec_driver_sql("BEGIN")

        await use(engine)
        await engine.dispose()

    async def test_one_that_commits_each_statement_is_refused(
        self, dataplane: InProcessDataPlane, package_fields: Fields, tmp_path: Any
    ) -> None:
        engine = create_async_engine(
            f"sqlite+aiosqlite:///{tmp_path / 'auto.sqlite'}", isolation_level="AUTOCOMMIT"
        )
        await create_schema(engine)

        with pytest.raises(RegistryError, match="AUTOCOMMIT"):
            await Registry(engine, dataplane, RegistryViewWriter()).create_package(**package_fields)
        await engine.dispose()

    def test_an_engine_of_another_database_is_refused(self, dataplane: InProcessDataPlane) -> None:
        class Other:
            class dialect:  # noqa: N801 - as SQLAlchemy calls it
                name = "oracle"

        with pytest.raises(ValueError, match="an engine of oracle"):
            Registry(Other(), dataplane, RegistryViewWriter())  # type: ignore[arg-type]
