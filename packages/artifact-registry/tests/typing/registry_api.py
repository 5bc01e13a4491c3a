"""The types of the registry as a user sees them; read by the type checker, never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import datetime
from typing import Any, assert_type
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from starfish_artifact_registry.dataplane import InProcessDataPlane
from starfish_artifact_registry.db.engine import create_engine
from starfish_artifact_registry.db.schema import create_schema
from starfish_artifact_registry.db.seed import RETENTION_CLASS_SEEDS
from starfish_artifact_registry.events import Event, RegistryViewWriter, ViewWriter, replay
from starfish_artifact_registry.limits import Limits
from starfish_artifact_registry.log._hash_chain import LogReport
from starfish_artifact_registry.manifest import Manifest, decode, encode, to_json
from starfish_artifact_registry.registry import Registry
from starfish_protocol.address import ContentAddress
from starfish_protocol.clock import SystemClock
from starfish_protocol.events import AsyncEventSource
from starfish_protocol.events import Event as AnyEvent


async def stream() -> AsyncGenerator[bytes]:
    yield b"abc"


async def use(dataplane: InProcessDataPlane) -> None:
    engine = create_engine("sqlite://")
    assert_type(engine, AsyncEngine)
    await create_schema(engine)
    assert_type(RETENTION_CLASS_SEEDS, list[dict[str, Any]])
    views: ViewWriter = RegistryViewWriter()
    registry = Registry(engine, dataplane, views, clock=SystemClock(), limits=Limits(max_files=9))
    package_id = await registry.create_package(
        name="n", producer="p", subject="s", retention_class="derived", actor="a", metadata={}
    )
    assert_type(package_id, UUID)
    file_id = await registry.ingest_file(
        package_id, relative_path="a", media_type="a/b", stream=stream(), actor="a"
    )
    assert_type(file_id, UUID)
    assert_type(await registry.finalize_package(package_id, actor="a"), ContentAddress)
    data = await registry.get_manifest_bytes(package_id, format="json")
    assert_type(data, bytes)
    manifest = decode(data)
    assert_type(manifest, Manifest)
    assert_type(encode(manifest), bytes)
    assert_type(to_json(manifest), bytes)
    content: AsyncIterator[bytes] = await registry.get_file(file_id, start=1, end=2)
    assert_type([chunk async for chunk in content], list[bytes])
    async for event in registry.tail_events(since_sequence=1, poll_interval_seconds=0.1):
        assert_type(event, Event)
        assert_type(event.created_at, datetime)
        any_event: AnyEvent = event
        assert_type(any_event.entity, str)
    source: AsyncEventSource = registry.event_source
    assert_type(await source.read(0, 1), Sequence[AnyEvent])
    assert_type(await registry.verify_log(), LogReport)
    assert_type(await replay(engine, views, reset=True), int)
