"""The log keeps the promises of every event source."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from starfish_artifact_registry.commands._state import CommandState, Decision
from starfish_artifact_registry.dataplane import InProcessDataPlane
from starfish_artifact_registry.db.engine import create_engine
from starfish_artifact_registry.events import RegistryViewWriter
from starfish_artifact_registry.model._catalogue import FixityChecked
from starfish_artifact_registry.model._event_codec import NewEvent
from starfish_artifact_registry.registry import Registry
from starfish_artifact_registry.storage import LocalBackend
from starfish_protocol.events import AsyncEventSource, SourceEvent
from starfish_protocol.testing import EventSourceContract


class _Names:
    """The contract speaks of entities ``a`` and ``a:child``; ours are packages."""

    def __init__(self, runner: asyncio.Runner, registry: Registry) -> None:
        self._run = runner.run
        self._registry = registry
        self._source: AsyncEventSource = registry.event_source
        self._packages: dict[str, UUID] = {}
        self._skipped = 0

    def append(self, name: str) -> None:
        checked = FixityChecked(files_checked=0, bytes_checked=0, missing=(), changed=())

        async def decide(state: CommandState) -> Decision[None]:
            return Decision(None, [NewEvent(self._packages[name], checked, "ada")])

        self._run(self._registry._execute(decide))

    def prepare(self, names: Sequence[str]) -> None:
        """Packages exist before the source is looked at."""
        for name in names:
            package_id = self._run(
                self._registry.create_package(
                    name=name, producer="p", subject="s", retention_class="derived", actor="ada"
                )
            )
            self._packages[name] = package_id
            self._skipped += 1

    def _ours(self, entity: str | None) -> str | None:
        return None if entity is None else f"package:{self._packages.get(entity, uuid4())}"

    def _theirs(self, events: Sequence[Any]) -> list[SourceEvent]:
        names = {f"package:{package_id}": name for name, package_id in self._packages.items()}
        return [
            SourceEvent(
                event.sequence - self._skipped, names[event.entity], event.kind, event.payload
            )
            for event in events
        ]

    def read(self, after: int, limit: int, *, entity: str | None = None) -> list[SourceEvent]:
        page = self._source.read(after + self._skipped, limit, entity=self._ours(entity))
        return self._theirs(self._run(page))

    def generation(self, entity: str) -> int:
        created = 1 if entity in self._packages else 0
        return self._run(self._source.generation(str(self._ours(entity)))) - created

    def last_sequence(self) -> int:
        return self._run(self._source.last_sequence()) - self._skipped

    def subscribe(self, *, entity: str | None = None, capacity: int = 8192) -> Any:
        subscription = self._run(
            self._source.subscribe(entity=self._ours(entity), capacity=capacity)
        )
        names = self

        class Subscription:
            def pull_batch(self, max_events: int, timeout: float | None) -> list[SourceEvent]:
                return names._theirs(names._run(subscription.pull_batch(max_events, timeout)))

            def close(self) -> None:
                async def close() -> None:
                    subscription.close()
                    subscription.close()

                names._run(close())

        return Subscription()


class TestLogSource(EventSourceContract):
    @pytest.fixture
    def source(self, database_url: str, tmp_path: Path) -> Iterator[_Names]:
        with asyncio.Runner() as runner:
            engine = create_engine(database_url)
            dataplane = InProcessDataPlane(LocalBackend(tmp_path / "content"))
            names = _Names(runner, Registry(engine, dataplane, RegistryViewWriter()))
            names.prepare(["a", "b", "a:child", "ab"])
            yield names
            runner.run(engine.dispose())

    def append(self, source: Any, entity: str) -> None:
        source.append(entity)


async def test_texts_that_name_no_package_are_unknown_entities(
    registry: Registry, package_fields: dict[str, Any]
) -> None:
    package_id = await registry.create_package(**package_fields)
    source = registry.event_source

    assert await source.generation(f"package:{package_id}") == 1
    for entity in ("", "package:", str(package_id), f"package:{str(package_id).upper()}"):
        assert await source.generation(entity) == 0
        assert list(await source.read(0, 10, entity=entity)) == []


async def test_a_cancelled_pull_has_taken_nothing_and_a_closed_one_ends(
    registry: Registry, package_fields: dict[str, Any]
) -> None:
    subscription = await registry.event_source.subscribe()
    waiting = asyncio.create_task(subscription.pull_batch(10, None))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await registry.create_package(**package_fields)

    assert [event.sequence for event in await subscription.pull_batch(10, 5.0)] == [1]
    waiting = asyncio.create_task(subscription.pull_batch(10, None))
    await asyncio.sleep(0.01)
    subscription.close()
    assert list(await asyncio.wait_for(waiting, 5)) == []


async def test_a_reader_of_one_package_sleeps_through_events_of_others(
    registry: Registry, package_fields: dict[str, Any]
) -> None:
    subscription = await registry.event_source.subscribe(entity=f"package:{uuid4()}")
    await registry.create_package(**package_fields)

    assert list(await subscription.pull_batch(10, 0.1)) == []
    subscription.close()


async def test_a_capacity_below_one_is_refused(registry: Registry) -> None:
    with pytest.raises(ValueError, match="capacity is 0"):
        await registry.event_source.subscribe(capacity=0)
