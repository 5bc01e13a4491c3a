"""Following the log: every event once, in order, soon, and whatever the reader does."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from starfish_artifact_registry.dataplane import InProcessDataPlane
from starfish_artifact_registry.db.engine import create_engine
from starfish_artifact_registry.errors import DatabaseUnavailableError, InvalidValueError
from starfish_artifact_registry.events import Event, RegistryViewWriter
from starfish_artifact_registry.registry import Registry

Fields = dict[str, Any]
Ingest = Callable[..., Awaitable[UUID]]


async def _take(registry: Registry, count: int, since: int = 0) -> list[Event]:
    taken: list[Event] = []
    async with aclosing(registry.tail_events(since)) as tail:
        async for event in tail:
            taken.append(event)
            if len(taken) == count:
                break
    return taken


@pytest.fixture
async def other(database_url: str, dataplane: InProcessDataPlane) -> AsyncIterator[Registry]:
    """A registry that shares only the database, as one of another process."""
    engine = create_engine(database_url)
    yield Registry(engine, dataplane, RegistryViewWriter())
    await engine.dispose()


async def test_events_come_once_and_in_order_while_they_are_appended(
    registry: Registry, other: Registry, package_fields: Fields, ingest: Ingest
) -> None:
    package_id = await registry.create_package(**package_fields)
    readers = [asyncio.create_task(_take(one, 11)) for one in (registry, other)]
    await asyncio.gather(
        *(ingest(one, package_id, f"{n}") for n in range(5) for one in [registry]),
        *(ingest(one, package_id, f"other {n}") for n in range(5) for one in [other]),
    )

    for taken in await asyncio.gather(*readers):
        assert [event.sequence for event in taken] == list(range(1, 12))
        assert {event.entity for event in taken} == {f"package:{package_id}"}


async def test_a_reader_goes_on_where_it_stopped(
    registry: Registry, package_fields: Fields, ingest: Ingest
) -> None:
    package_id = await registry.create_package(**package_fields)
    for n in range(4):
        await ingest(registry, package_id, f"{n}")

    first = await _take(registry, 2)
    rest = await _take(registry, 3, since=first[-1].sequence)

    assert [event.sequence for event in first + rest] == [1, 2, 3, 4, 5]


async def test_a_cancelled_reader_leaves_nothing_behind_and_disturbs_no_other(
    registry: Registry, engine: AsyncEngine, package_fields: Fields
) -> None:
    before = asyncio.all_tasks()
    cancelled, staying = (asyncio.create_task(_take(registry, 2)) for _ in range(2))
    await registry.create_package(**package_fields)
    await asyncio.sleep(0.05)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    await registry.create_package(**package_fields)

    assert [event.sequence for event in await staying] == [1, 2]
    assert asyncio.all_tasks() <= before
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]


async def test_a_slow_reader_holds_nothing_up(
    registry: Registry, engine: AsyncEngine, package_fields: Fields, ingest: Ingest
) -> None:
    package_id = await registry.create_package(**package_fields)
    async with aclosing(registry.tail_events()) as tail:
        assert (await anext(tail)).sequence == 1
        # It does not read on, and everybody else works as before.
        for n in range(3):
            await ingest(registry, package_id, f"{n}")
        assert [(await anext(tail)).sequence for _ in range(3)] == [2, 3, 4]


@pytest.mark.parametrize(
    ("since", "interval"), [(-1, 0.1), ("1", 0.1), (True, 0.1), (0, 0), (0, float("nan"))], ids=str
)
async def test_arguments_that_mean_nothing_are_refused(
    registry: Registry, since: Any, interval: float
) -> None:
    with pytest.raises(InvalidValueError):
        await anext(registry.tail_events(since, interval))


async def test_a_reader_is_told_when_the_database_cannot_be_had(
    dataplane: InProcessDataPlane, tmp_path: Any
) -> None:
    (tmp_path / "file").write_text("in the way")
    engine = create_engine(f"sqlite:///{tmp_path / 'file' / 'file.sqlite'}")
    registry = Registry(engine, dataplane, RegistryViewWriter())

    with pytest.raises(DatabaseUnavailableError):
        await anext(registry.tail_events())
    await engine.dispose()


CHILD = """
import asyncio, sys
from starfish_artifact_registry.dataplane import InProcessDataPlane
from starfish_artifact_registry.db.engine import create_engine
from starfish_artifact_registry.events import RegistryViewWriter
from starfish_artifact_registry.registry import Registry
from starfish_artifact_registry.storage import LocalBackend

async def main(url, folder):
    engine = create_engine(url)
    registry = Registry(engine, InProcessDataPlane(LocalBackend(folder)), RegistryViewWriter())
    sys.stdin.readline()
    for number in range(3):
        await registry.create_package(name=str(number), producer="p", subject="s",
                                      retention_class="derived", actor="child")
    await engine.dispose()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_commits_of_another_process_arrive(
    registry: Registry, database_url: str, tmp_path: Any
) -> None:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CHILD, database_url, str(tmp_path / "content")),
        stdin=asyncio.subprocess.PIPE,
    )
    reader = asyncio.create_task(_take(registry, 3))
    await child.communicate(b"\n")

    taken = await asyncio.wait_for(reader, 20)

    assert child.returncode == 0
    assert [event.actor for event in taken] == ["child"] * 3
