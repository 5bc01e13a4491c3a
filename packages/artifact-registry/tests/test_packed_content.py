"""Small content lives in the database, in the transaction of its event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from starfish_artifact_registry.dataplane import InProcessDataPlane
from starfish_artifact_registry.db.schema import packed_content
from starfish_artifact_registry.errors import (
    ContentNotFoundError,
    DatabaseUnavailableError,
    DuplicateRelativePathError,
)
from starfish_artifact_registry.events import RegistryViewWriter
from starfish_artifact_registry.limits import Limits
from starfish_artifact_registry.registry import Registry
from starfish_artifact_registry.storage import LocalBackend
from starfish_protocol.testing import ManualClock

MakePackage = Callable[..., Awaitable[UUID]]
Ingest = Callable[..., Awaitable[UUID]]
LARGEST = Limits().pack_bytes


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def packed(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return (
            await connection.execute(select(func.count()).select_from(packed_content))
        ).scalar_one()


async def read(registry: Registry, file_id: UUID, **part: Any) -> bytes:
    return b"".join([chunk async for chunk in await registry.get_file(file_id, **part)])


@pytest.mark.parametrize("size", [0, 1, LARGEST, LARGEST + 1])
async def test_content_up_to_the_limit_is_in_the_database_and_reads_alike(
    *,
    registry: Registry,
    engine: AsyncEngine,
    make_package: MakePackage,
    ingest: Ingest,
    tmp_path: Path,
    size: int,
) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    data = data[:size]
    package_id = await make_package(registry, {}, finalize=False)

    file_id = await ingest(registry, package_id, "a", data)
    await registry.finalize_package(package_id, actor="ada")

    assert (await packed(engine), len(files_below(tmp_path / "content"))) == (
        (1, 0) if size <= LARGEST else (0, 1)
    )
    assert await read(registry, file_id) == data
    assert await read(registry, file_id, start=3, end=9) == data[3:9]
    assert await read(registry, file_id, start=size + 5) == b""
    assert (await registry.verify_all()).ok


async def test_the_same_content_is_stored_once_also_within_one_commit(
    registry: Registry, engine: AsyncEngine, make_package: MakePackage, ingest: Ingest
) -> None:
    first = await make_package(registry, {"a": b"same"})
    second = await make_package(registry, {}, finalize=False)
    await asyncio.gather(
        *(ingest(registry, second, f"{n}", b"same" * (n % 2 + 1)) for n in range(9))
    )

    assert await packed(engine) == 2
    assert (await registry.verify_package(first)).ok
    assert (await registry.verify_package(second)).ok


async def test_a_refused_file_leaves_no_bytes(
    registry: Registry, engine: AsyncEngine, make_package: MakePackage, ingest: Ingest
) -> None:
    package_id = await make_package(registry, {"a": b"one"}, finalize=False)

    with pytest.raises(DuplicateRelativePathError):
        await ingest(registry, package_id, "a", b"two")

    assert await packed(engine) == 1


async def test_a_failed_commit_leaves_neither_event_nor_bytes(
    engine: AsyncEngine, dataplane: InProcessDataPlane, make_package: MakePackage, ingest: Ingest
) -> None:
    class Failing(RegistryViewWriter):
        async def apply(self, connection: Any, events: Any) -> None:
            if any(event.event_type == "v1.file.ingested" for event in events):
                raise OSError(28, "No space left on device")
            await super().apply(connection, events)

    registry = Registry(engine, dataplane, Failing())
    package_id = await make_package(registry, {}, finalize=False)

    with pytest.raises(DatabaseUnavailableError):
        await ingest(registry, package_id, "a", b"small")

    assert await packed(engine) == 0
    assert (await registry.verify_log()).head_sequence == 1


async def test_missing_and_changed_bytes_are_named(
    registry: Registry, engine: AsyncEngine, make_package: MakePackage
) -> None:
    package_id = await make_package(registry, {"a": b"alpha", "b": b"beta"})
    digest = select(packed_content.c.digest).where(packed_content.c.data == b"alpha")
    async with engine.begin() as connection:
        of_a = (await connection.execute(digest)).scalar_one()
        changed = packed_content.update().where(packed_content.c.digest == of_a)
        await connection.execute(changed.values(data=b"alphA"))
        await connection.execute(delete(packed_content).where(packed_content.c.data == b"beta"))

    report = await registry.verify_package(package_id)

    assert (report.missing, report.changed) == (("b",), ("a",))
    files = await registry.list_files(package_id)
    with pytest.raises(ContentNotFoundError):
        await read(registry, files[1].file_id)


async def test_bytes_that_no_live_package_needs_go_and_no_others(
    registry: Registry, engine: AsyncEngine, make_package: MakePackage, clock: ManualClock
) -> None:
    doomed = await make_package(registry, {"a": b"shared", "b": b"own"}, retention_class="working")
    kept = await make_package(registry, {"x": b"shared"})
    clock.advance(31 * 24 * 60 * 60 * 1000)
    await registry.confirm_clock(reason="the wall clock", actor="ada")
    assert (await registry.gc()).contents_removed == 0
    await registry.delete_package(doomed, reason="done", actor="bob")

    assert (await registry.collect_garbage(dry_run=True)).contents_removed == 1
    assert await packed(engine) == 2
    report = await registry.gc()

    assert (report.contents_seen, report.contents_removed, report.bytes_removed) == (2, 1, 3)
    assert await packed(engine) == 1
    assert (await registry.verify_package(kept)).ok


async def test_content_that_an_earlier_version_left_in_the_backend_is_still_read(
    engine: AsyncEngine, tmp_path: Path, make_package: MakePackage, ingest: Ingest
) -> None:
    dataplane = InProcessDataPlane(LocalBackend(tmp_path / "content"))
    before = Registry(engine, dataplane, RegistryViewWriter(), limits=Limits(pack_bytes=0))
    package_id = await make_package(before, {}, finalize=False)
    old = await ingest(before, package_id, "old", b"in a file")

    now = Registry(engine, dataplane, RegistryViewWriter())
    new = await ingest(now, package_id, "new", b"in a row")

    assert (len(files_below(tmp_path / "content")), await packed(engine)) == (1, 1)
    assert (await read(now, old), await read(now, new)) == (b"in a file", b"in a row")
    assert (await before.verify_all()).ok


async def test_an_error_of_the_stream_comes_out_and_nothing_is_stored(
    registry: Registry, engine: AsyncEngine, make_package: MakePackage
) -> None:
    package_id = await make_package(registry, {}, finalize=False)

    async def broken() -> AsyncIterator[bytes]:
        yield b"the beginning"
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        await registry.ingest_file(
            package_id, relative_path="a", media_type="text/plain", stream=broken(), actor="ada"
        )

    assert await packed(engine) == 0


@pytest.mark.parametrize("value", ["upper(data)", "7", "0.5", "zeroblob(0)"])
async def test_a_cell_of_another_type_is_changed_content(
    registry: Registry, engine: AsyncEngine, make_package: MakePackage, value: str
) -> None:
    if engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL refuses values of another type")
    package_id = await make_package(registry, {"a": b"alpha"})
    async with engine.begin() as connection:
        await connection.execute(text(f"UPDATE packed_content SET data = {value}"))

    assert (await registry.verify_package(package_id)).changed == ("a",)
    second = await make_package(registry, {"b": b"alpha"})

    assert (await registry.verify_package(package_id)).ok
    assert (await registry.verify_package(second)).ok
