"""The log is the truth: a changed row is named and decides nothing, a lying log is refused."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Table, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from starfish_artifact_registry.dataplane import InProcessDataPlane
from starfish_artifact_registry.db.engine import create_engine
from starfish_artifact_registry.db.schema import (
    artifact_files,
    artifact_metadata,
    artifact_packages,
    create_schema,
    packed_content,
    retention_state,
    storage_locations,
)
from starfish_artifact_registry.errors import (
    ClockNotConfirmedError,
    DatabaseReplacedError,
    DigestMismatchError,
    DuplicateRelativePathError,
    ForeignDatabaseError,
    IllegalHistoryError,
    LogDamagedError,
    NotInitialisedError,
    PackageHeldError,
    ProofError,
    RegistryError,
    RetentionPeriodError,
    ViewsDifferError,
)
from starfish_artifact_registry.events import (
    EventPayload,
    NewEvent,
    PackageDeleted,
    PackageFinalized,
    RegistryViewWriter,
    RetentionReleased,
    replay,
)
from starfish_artifact_registry.log._log import append_events, chain_events, head_of_log
from starfish_artifact_registry.manifest import decode
from starfish_artifact_registry.proof import verify_proof
from starfish_artifact_registry.registry import Registry
from starfish_artifact_registry.storage import LocalBackend
from starfish_protocol.testing import ManualClock

MakePackage = Callable[..., Awaitable[UUID]]
Ingest = Callable[..., Awaitable[UUID]]
FILES = {"a.txt": b"alpha", "b.txt": b"beta"}
DAY_MS = 24 * 60 * 60 * 1000

OTHERS: dict[str, Any] = {
    "retention_days": 1,
    "holds": [],
    "file_count": 7,
    "total_bytes": 7,
    "size_bytes": 7,
    "event_sequence": 1,
    "last_event_sequence": 1,
    "metadata": {"run": True},
    "storage_location_id": UUID(int=9),
}
MOMENT = datetime(2001, 1, 1, tzinfo=UTC)
CHANGES = [
    pytest.param(table, column.name, id=f"{table.name}.{column.name}")
    for table in (
        *(artifact_packages, artifact_metadata, artifact_files, storage_locations),
        retention_state,
    )
    for column in table.c
    if not column.primary_key and not column.foreign_keys
]


@pytest.fixture
async def package_id(registry: Registry, make_package: MakePackage) -> UUID:
    package_id = await make_package(registry, FILES, metadata={"run": 1})
    await registry.hold_package(package_id, reason="court order", actor="counsel")
    return package_id


@pytest.mark.parametrize(("table", "column"), CHANGES)
async def test_any_changed_column_is_told(
    registry: Registry, package_id: UUID, engine: AsyncEngine, table: Table, column: str
) -> None:
    assert (await registry.audit()).ok
    moment = column.endswith(("_at", "_until"))
    value = OTHERS.get(column, MOMENT if moment else "changed")
    key = next(iter(table.primary_key))
    async with engine.begin() as connection:
        first = (await connection.execute(select(key).limit(1))).scalar()
        await connection.execute(table.update().where(key == first).values({column: value}))

    found = (await registry.audit()).differences

    assert found
    assert {each.kind for each in found} == {"view"}
    assert any(table.name in each.text and column in each.text for each in found)
    with pytest.raises(ViewsDifferError):
        await registry.collect_garbage(grace=timedelta(0))
    await replay(engine, RegistryViewWriter())
    assert (await registry.audit()).ok


@pytest.mark.parametrize(
    "table",
    [artifact_metadata, artifact_files, storage_locations, retention_state],
    ids=lambda table: str(table.name),
)
async def test_a_missing_row_is_told_and_no_byte_goes(
    registry: Registry, package_id: UUID, engine: AsyncEngine, table: Table
) -> None:
    async with engine.begin() as connection:
        await connection.execute(table.delete())

    found = (await registry.audit()).differences

    assert any(table.name in each.text and "missing" in each.text for each in found)
    with pytest.raises(ViewsDifferError):
        await registry.collect_garbage(grace=timedelta(0))
    assert (await registry.verify_package(package_id)).ok


async def test_a_row_that_no_event_made_is_told_and_the_check_goes_on(
    registry: Registry, package_id: UUID, engine: AsyncEngine
) -> None:
    stranger = uuid4()
    async with engine.begin() as connection:
        row = (await connection.execute(select(artifact_packages))).mappings().one()
        await connection.execute(artifact_packages.insert(), dict(row) | {"id": stranger})

    found = (await registry.audit()).differences

    assert any(str(stranger) in each.text for each in found)
    assert (await registry.verify_all()).packages_checked == 1


async def test_triggers_that_are_gone_are_told(
    registry: Registry, package_id: UUID, engine: AsyncEngine
) -> None:
    drop = {
        "sqlite": "DROP TRIGGER events_refuse_delete",
        "postgresql": "ALTER TABLE events DISABLE TRIGGER events_refuse_change",
    }
    async with engine.begin() as connection:
        await connection.execute(text(drop[engine.dialect.name]))

    assert [each.kind for each in (await registry.audit()).differences] == ["trigger"]


async def test_the_manifest_follows_the_events_and_not_the_rows(
    registry: Registry, make_package: MakePackage, engine: AsyncEngine
) -> None:
    package_id = await make_package(registry, FILES, finalize=False)
    async with engine.begin() as connection:
        await connection.execute(
            artifact_files.update().values(sha256=f"sha256:{'ab' * 32}", media_type="x/y")
        )
        await connection.execute(artifact_packages.update().values(producer="another"))

    await registry.finalize_package(package_id, actor="ada")

    manifest = decode(await registry.get_manifest_bytes(package_id))
    assert manifest.package.id == str(package_id)
    assert manifest.package.producer == "sensor 3"
    assert {file.media_type for file in manifest.files} == {"application/octet-stream"}
    verify_proof(await registry.export_proof(package_id))


async def test_a_read_gives_the_bytes_of_the_event_or_refuses(
    registry: Registry, package_id: UUID, engine: AsyncEngine
) -> None:
    one, other = await registry.list_files(package_id)
    async with engine.begin() as connection:
        await connection.execute(
            artifact_files.update()
            .where(artifact_files.c.id == one.file_id)
            .values(content_address=str(other.content_address), sha256=str(other.sha256))
        )
    data = b"".join([chunk async for chunk in await registry.get_file(one.file_id)])
    assert data == b"alpha"
    async with engine.begin() as connection:
        event = select(artifact_files.c.event_sequence).where(artifact_files.c.id == other.file_id)
        sequence = (await connection.execute(event)).scalar_one()
        await connection.execute(
            artifact_files.update()
            .where(artifact_files.c.id == one.file_id)
            .values(event_sequence=sequence)
        )

    with pytest.raises(ViewsDifferError):
        await registry.get_file(one.file_id)


async def test_retention_is_decided_by_the_events(
    registry: Registry, package_id: UUID, engine: AsyncEngine
) -> None:
    async with engine.begin() as connection:
        await connection.execute(retention_state.update().values(holds=[], retain_until=MOMENT))

    with pytest.raises(PackageHeldError):
        await registry.delete_package(package_id, reason="space", actor="bob")
    assert await registry.expire_due(actor="clerk") == []


Lie = Callable[[UUID], list[EventPayload]]


@pytest.mark.parametrize(
    ("lie", "says"),
    [
        pytest.param(lambda _: [PackageDeleted(reason="space")], "under hold", id="under hold"),
        pytest.param(
            lambda _: [RetentionReleased(hold_id=UUID(int=5), reason="x")],
            "was not in force",
            id="a release of a hold that nobody placed",
        ),
    ],
)
async def test_a_consistent_log_that_breaks_the_rules_is_refused(
    registry: Registry, package_id: UUID, engine: AsyncEngine, lie: Lie, says: str
) -> None:
    await append(engine, [NewEvent(package_id, payload, "eve") for payload in lie(package_id)])

    assert (await registry.verify_log()).ok  # the digests fit
    found = (await registry.audit()).differences
    assert any(each.kind == "history" and says in each.text for each in found)
    with pytest.raises(IllegalHistoryError, match=says):
        await replay(engine, RegistryViewWriter())
    with pytest.raises((ProofError, LogDamagedError)):
        verify_proof(await registry.export_proof(package_id))


async def test_a_manifest_that_is_not_the_sum_of_its_events_is_refused(
    registry: Registry, make_package: MakePackage, engine: AsyncEngine
) -> None:
    package_id = await make_package(registry, FILES)
    other = await make_package(registry, FILES, finalize=False)
    manifest = decode(await registry.get_manifest_bytes(package_id))
    await append(engine, [NewEvent(other, PackageFinalized(manifest=manifest), "eve")])

    assert (await registry.verify_log()).ok
    found = (await registry.audit()).differences
    assert any("not the sum of the events" in each.text for each in found)
    with pytest.raises(IllegalHistoryError):
        await replay(engine, RegistryViewWriter())


async def append(engine: AsyncEngine, new: list[NewEvent]) -> None:
    """Write events with digests that fit and views that follow, past every rule."""
    async with engine.begin() as connection:
        head = await head_of_log(connection)
        now = datetime(2023, 11, 15, tzinfo=UTC)
        chained = chain_events(head, new, now=now, new_id=uuid4)
        await append_events(connection, chained)
        await RegistryViewWriter().apply(connection, chained)


# The stored bytes are those of the source.


@pytest.mark.parametrize("size", [10, 40_000, 9_000_000])
async def test_good_bytes_take_the_place_of_a_damaged_copy(
    registry: Registry, engine: AsyncEngine, make_package: MakePackage, tmp_path: Path, size: int
) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    first = await make_package(registry, {"a": data})
    damaged = data[: size // 2] + bytes([data[size // 2] ^ 1]) + data[size // 2 + 1 :]
    stored = [path for path in (tmp_path / "content").rglob("*") if path.is_file()]
    for path in stored:
        path.chmod(0o600)
        path.write_bytes(damaged)
    async with engine.begin() as connection:
        packed = await connection.execute(packed_content.update().values(data=damaged))
    assert len(stored) + packed.rowcount == 1
    assert not (await registry.verify_package(first)).ok

    second = await make_package(registry, {"copy": data})

    assert (await registry.verify_package(first)).ok
    assert (await registry.verify_package(second)).ok
    types = [event.event_type async for event in _events(registry)]
    assert "v1.content.repaired" in types


async def _events(registry: Registry) -> AsyncIterator[Any]:
    head = (await registry.verify_log()).head_sequence
    async for event in registry.tail_events():
        yield event
        if event.sequence == head:
            return


async def stream(data: bytes) -> AsyncIterator[bytes]:
    yield data


@pytest.mark.parametrize(
    "expected",
    [
        {"sha256": "ab" * 32},
        {"blake3": "ab" * 32},
        {"md5": "ab" * 16},
        {"sha512": "ab" * 64},
    ],
    ids=lambda expected: str(next(iter(expected))),
)
async def test_bytes_that_are_not_those_expected_are_not_stored(
    registry: Registry, make_package: MakePackage, tmp_path: Path, expected: dict[str, str]
) -> None:
    package_id = await make_package(registry, {}, finalize=False)
    call = {"relative_path": "a", "media_type": "text/plain", "actor": "ada"}

    with pytest.raises(DigestMismatchError):
        await registry.ingest_file(package_id, **call, stream=stream(b"x"), expected=expected)
    with pytest.raises(DigestMismatchError):
        await registry.ingest_file(package_id, **call, stream=stream(b"x"), expected_size=2)

    assert await registry.list_files(package_id) == []
    assert [path for path in (tmp_path / "content").rglob("*") if path.is_file()] == []


async def test_the_same_again_is_the_same_file_and_other_bytes_are_a_conflict(
    registry: Registry, make_package: MakePackage, ingest: Ingest
) -> None:
    package_id = await make_package(registry, {}, finalize=False)
    first = await ingest(registry, package_id, "a", b"one")

    assert await ingest(registry, package_id, "a", b"one") == first
    for other in (b"two", b"one and more", b""):
        with pytest.raises(DuplicateRelativePathError):
            await ingest(registry, package_id, "a", other)
    assert (await registry.get_package(package_id)).file_count == 1


async def test_facts_of_the_source_stand_in_the_manifest(
    registry: Registry, make_package: MakePackage
) -> None:
    package_id = await make_package(registry, {}, finalize=False)
    facts = {"modified_at": 1_700_000_000_000, "mode": 0o644}
    await registry.ingest_file(
        package_id,
        relative_path="a",
        media_type="text/plain",
        stream=stream(b"x"),
        actor="ada",
        facts=facts,
    )
    await registry.finalize_package(package_id, actor="ada")

    assert decode(await registry.get_manifest_bytes(package_id)).files[0].facts == facts
    assert (await registry.audit()).ok


# Time.


async def test_no_jump_of_the_clock_ends_a_retention(
    registry: Registry, make_package: MakePackage, clock: ManualClock
) -> None:
    package_id = await make_package(registry, FILES, retention_class="working")
    clock.advance(20 * 365 * DAY_MS)
    await make_package(registry, {})  # an event meanwhile lends the jump nothing

    with pytest.raises(ClockNotConfirmedError):
        await registry.delete_package(package_id, reason="space", actor="bob")
    await registry.confirm_clock(reason="the radio clock", actor="ada")
    await registry.delete_package(package_id, reason="space", actor="bob")


async def test_day_by_day_time_passes_as_ever(
    registry: Registry, make_package: MakePackage, clock: ManualClock
) -> None:
    package_id = await make_package(registry, FILES, retention_class="working")
    for _ in range(30):
        clock.advance(DAY_MS)
        await registry.verify_package(package_id)

    await registry.delete_package(package_id, reason="space", actor="bob")


async def test_the_log_never_goes_back_in_time(
    registry: Registry, make_package: MakePackage, clock: ManualClock
) -> None:
    await make_package(registry, {})
    clock.advance(-30 * 365 * DAY_MS)
    package_id = await make_package(registry, FILES)

    with pytest.raises(RetentionPeriodError):
        await registry.delete_package(package_id, reason="space", actor="bob")
    moments = [event.created_at async for event in _events(registry)]
    assert moments == sorted(moments)


# The place.


def take_away(path: Path, how: str) -> None:
    """Do to the file under an open database what people do."""
    backup = path.with_name("backup")
    backup.write_bytes(path.read_bytes())
    for suffix in ("", "-wal", "-shm"):
        part = Path(f"{path}{suffix}")
        if how == "deleted":
            part.unlink(missing_ok=True)
        elif part.exists():
            part.rename(f"{part}.away")
    if how == "replaced":
        backup.rename(path)


@pytest.mark.parametrize("how", ["moved", "deleted", "replaced"])
async def test_a_database_that_is_not_in_its_place_acknowledges_nothing(
    tmp_path: Path, package_fields: dict[str, Any], how: str
) -> None:
    path = tmp_path / "registry.sqlite"
    engine = create_engine(f"sqlite:///{path}")
    await create_schema(engine)
    registry = Registry(
        engine, InProcessDataPlane(LocalBackend(tmp_path / "content")), RegistryViewWriter()
    )
    await registry.create_package(**package_fields)
    take_away(path, how)

    with pytest.raises(DatabaseReplacedError):
        await registry.create_package(**package_fields)
    with pytest.raises(DatabaseReplacedError):
        await registry.list_packages()
    await engine.dispose()


async def test_a_file_of_another_application_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "theirs.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    before = path.read_bytes()
    engine = create_engine(f"sqlite:///{path}")

    with pytest.raises(ForeignDatabaseError):
        await create_schema(engine)

    await engine.dispose()
    assert path.read_bytes() == before


async def test_tables_that_nobody_made_are_told_from_an_outage(
    tmp_path: Path, package_fields: dict[str, Any]
) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'registry.sqlite'}")
    registry = Registry(
        engine, InProcessDataPlane(LocalBackend(tmp_path / "content")), RegistryViewWriter()
    )

    for call in (registry.list_packages(), registry.create_package(**package_fields)):
        with pytest.raises(NotInitialisedError, match="create_schema") as refused:
            await call
        assert isinstance(refused.value, RegistryError)
    await engine.dispose()
