"""Garbage collection takes what nobody refers to, and never what somebody does."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from starfish_artifact_registry.commands._garbage import GarbageReport, collect_garbage
from starfish_artifact_registry.dataplane import InProcessDataPlane
from starfish_artifact_registry.db._database import Database
from starfish_artifact_registry.errors import StorageUnavailableError
from starfish_artifact_registry.events import RegistryViewWriter
from starfish_artifact_registry.limits import Limits
from starfish_artifact_registry.registry import Registry
from starfish_artifact_registry.storage import LocalBackend
from starfish_protocol.address import ContentAddress
from starfish_protocol.clock import SystemClock
from starfish_protocol.testing import ManualClock

MakePackage = Callable[..., Awaitable[UUID]]
StreamOf = Callable[..., AsyncIterator[bytes]]
NOW = timedelta(0)
MONTH_MS = 31 * 24 * 60 * 60 * 1000
ROUNDS = int(os.environ.get("STARFISH_REPEAT", "1")) * 160


@pytest.fixture
def registry_limits() -> Limits:
    """All content in the backend."""
    return Limits(pack_bytes=0)


@pytest.fixture
def live(engine: AsyncEngine, dataplane: InProcessDataPlane, registry_limits: Limits) -> Registry:
    """A registry whose clock runs as that of the backend does."""
    return Registry(engine, dataplane, RegistryViewWriter(), limits=registry_limits)


async def contents(dataplane: InProcessDataPlane) -> set[ContentAddress]:
    return {info.address async for info in dataplane.backend.list()}


def addresses(*data: bytes) -> set[ContentAddress]:
    return {ContentAddress.of(one) for one in data}


async def test_orphans_go_after_their_time_of_grace(
    live: Registry, dataplane: InProcessDataPlane, make_package: MakePackage, stream_of: StreamOf
) -> None:
    await make_package(live, {"a": b"used"})
    await make_package(live, {"a": b"also used"}, finalize=False)
    await dataplane.put(stream_of(b"orphan"))

    assert await live.collect_garbage() == GarbageReport(3, 0, 0, 0)
    assert await live.gc(grace=timedelta(hours=1)) == GarbageReport(3, 0, 0, 0)
    dry = await live.collect_garbage(grace=NOW, dry_run=True)
    assert dry == GarbageReport(3, 1, 6, 0)
    assert len(await contents(dataplane)) == 3
    assert await live.gc(grace=NOW) == GarbageReport(3, 1, 6, 0)
    assert await contents(dataplane) == addresses(b"used", b"also used")
    assert (await live.verify_all()).ok


async def test_a_negative_grace_is_refused(live: Registry) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        await live.gc(grace=timedelta(seconds=-1))


async def test_bytes_go_only_when_no_live_package_refers_to_them(
    registry: Registry,
    live: Registry,
    dataplane: InProcessDataPlane,
    make_package: MakePackage,
    clock: ManualClock,
) -> None:
    doomed = await make_package(registry, {"a": b"shared", "b": b"own"}, retention_class="working")
    await make_package(registry, {"x": b"shared"})
    clock.advance(MONTH_MS)
    await registry.confirm_clock(reason="the wall clock", actor="ada")
    await registry.expire_package(doomed, actor="clerk")
    assert (await live.gc(grace=NOW)).contents_removed == 0  # expired is not deleted
    await registry.delete_package(doomed, reason="done", actor="bob")

    report = await live.gc(grace=NOW)

    assert (report.contents_removed, report.bytes_removed) == (1, 3)
    assert await contents(dataplane) == addresses(b"shared")
    assert (await live.verify_all()).ok


async def test_what_was_collected_can_be_ingested_again(
    live: Registry, dataplane: InProcessDataPlane, make_package: MakePackage, stream_of: StreamOf
) -> None:
    await dataplane.put(stream_of(b"data"))
    await live.gc(grace=NOW)

    await make_package(live, {"a": b"data"})
    await live.gc(grace=NOW)

    assert (await live.verify_all()).ok


async def test_content_taken_between_its_storing_and_its_commit_is_not_committed(
    live: Registry,
    dataplane: InProcessDataPlane,
    make_package: MakePackage,
    stream_of: StreamOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    package_id = await make_package(live, {}, finalize=False)
    execute = live._execute

    async def collect_first(*arguments: object, **options: object) -> object:
        await live.gc(grace=NOW)
        return await execute(*arguments, **options)  # type: ignore[arg-type] - handed on as it came

    monkeypatch.setattr(live, "_execute", collect_first)
    with pytest.raises(StorageUnavailableError, match="send it again"):
        await live.ingest_file(
            package_id,
            relative_path="a",
            media_type="text/plain",
            stream=stream_of(b"late"),
            actor="ada",
        )
    monkeypatch.undo()

    assert await live.list_files(package_id) == []
    assert await contents(dataplane) == set()


async def test_a_collection_that_dies_between_mark_and_removal_harms_nobody(
    *,
    live: Registry,
    engine: AsyncEngine,
    dataplane: InProcessDataPlane,
    make_package: MakePackage,
    stream_of: StreamOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await dataplane.put(stream_of(b"data"))

    async def die(address: ContentAddress, **options: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(dataplane.backend, "delete", die)
        with pytest.raises(KeyboardInterrupt):
            await collect_garbage(Database(engine), dataplane, SystemClock(), grace=NOW)
    await make_package(live, {"a": b"data"})

    assert (await live.gc(grace=NOW)).contents_removed == 0
    assert (await live.verify_all()).ok


COLLECTOR = """
import asyncio, sys
from datetime import timedelta
from starfish_artifact_registry.dataplane import InProcessDataPlane
from starfish_artifact_registry.db.engine import create_engine
from starfish_artifact_registry.events import RegistryViewWriter
from starfish_artifact_registry.registry import Registry
from starfish_artifact_registry.storage import LocalBackend

async def main(url, root):
    engine = create_engine(url)
    registry = Registry(engine, InProcessDataPlane(LocalBackend(root)), RegistryViewWriter())
    print("ready", flush=True)
    removed = 0
    while True:
        report = await registry.collect_garbage(grace=timedelta(0))
        removed += report.contents_removed
        print(removed, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_collector_in_another_process_never_takes_what_an_event_refers_to(
    *,
    live: Registry,
    database_url: str,
    dataplane: InProcessDataPlane,
    make_package: MakePackage,
    stream_of: StreamOf,
    tmp_path: Path,
) -> None:
    package_id = await make_package(live, {}, finalize=False)
    collector = await asyncio.to_thread(
        subprocess.Popen,
        [sys.executable, "-c", COLLECTOR, database_url, str(tmp_path / "content")],
        stdout=subprocess.PIPE,
        text=True,
    )
    acknowledged = lost = 0
    try:
        assert collector.stdout is not None
        assert await asyncio.to_thread(collector.stdout.readline) == "ready\n"
        for number in range(ROUNDS):
            # The same few contents again and again: orphans of one call are another's content.
            data = b"%d" % (number % 3)
            try:
                await live.ingest_file(
                    package_id,
                    relative_path=f"{number}",
                    media_type="text/plain",
                    stream=stream_of(data),
                    actor="ada",
                )
                acknowledged += 1
            except StorageUnavailableError:
                lost += 1
            await dataplane.put(stream_of(b"orphan %d" % number))
    finally:
        collector.kill()
        output, _ = await asyncio.to_thread(collector.communicate)

    report = await live.verify_package(package_id)
    assert report.ok
    assert report.files_checked == acknowledged
    assert acknowledged + lost == ROUNDS
    assert int(output.split()[-1]) > 0  # it did collect meanwhile


async def test_a_backend_under_a_new_id_is_not_collected(
    engine: AsyncEngine, live: Registry, dataplane: InProcessDataPlane, make_package: MakePackage
) -> None:
    await make_package(live, {"a": b"used"})
    assert isinstance(dataplane.backend, LocalBackend)
    renamed = InProcessDataPlane(LocalBackend(dataplane.backend.root, backend_id="new"))

    with pytest.raises(StorageUnavailableError, match="backend id 'local'"):
        await Registry(engine, renamed, RegistryViewWriter()).gc(grace=NOW)
    assert await contents(dataplane) == addresses(b"used")
