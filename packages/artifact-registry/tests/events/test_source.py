"""The log keeps the promises of every event source."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest

from starfish_artifact_registry.commands._state import CommandState, Decision
from starfish_artifact_registry.model._catalogue import FixityChecked
from starfish_artifact_registry.model._event_codec import NewEvent
from starfish_artifact_registry.registry import Registry
from starfish_protocol.events import AsyncEventSource, SourceEvent, SubscriptionClosed
from starfish_protocol.testing import AsyncEventSourceContract


class _Names:
    """The contract speaks of entities ``a`` and ``a:child``; ours are packages."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._source: AsyncEventSource = registry.event_source
        self._packages: dict[str, UUID] = {}
        self._skipped = 0

    async def append(self, name: str) -> None:
        checked = FixityChecked(files_checked=0, bytes_checked=0, missing=(), changed=())

        async def decide(state: CommandState) -> Decision[None]:
            return Decision(None, [NewEvent(self._packages[name], checked, "ada")])

        await self._registry._execute(decide)

    async def prepare(self, names: Sequence[str]) -> None:
        """Packages exist before the source is looked at."""
        for name in names:
            self._packages[name] = await self._registry.create_package(
                name=name, producer="p", subject="s", retention_class="derived", actor="ada"
            )
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

    async def read(self, after: int, limit: int, *, entity: str | None = None) -> list[SourceEvent]:
        page = await self._source.read(after + self._skipped, limit, entity=self._ours(entity))
        return self._theirs(page)

    async def generation(self, entity: str) -> int:
        created = 1 if entity in self._packages else 0
        return await self._source.generation(str(self._ours(entity))) - created

    async def last_sequence(self) -> int:
        return await self._source.last_sequence() - self._skipped

    async def subscribe(self, *, entity: str | None = None, capacity: int = 8192) -> Any:
        subscription = await self._source.subscribe(entity=self._ours(entity), capacity=capacity)
        names = self

        class Subscription:
            async def pull_batch(self, max_events: int, timeout: float | None) -> list[SourceEvent]:
                return names._theirs(await subscription.pull_batch(max_events, timeout))

            def close(self) -> None:
                subscription.close()
                subscription.close()

        return Subscription()


class TestLogSource(AsyncEventSourceContract):
    @pytest.fixture
    async def source(self, registry: Registry) -> _Names:
        names = _Names(registry)
        await names.prepare(["a", "b", "a:child", "ab"])
        return names

    async def append(self, source: Any, entity: str) -> None:
        await source.append(entity)


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
    with pytest.raises(SubscriptionClosed):
        await asyncio.wait_for(waiting, 5)


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
