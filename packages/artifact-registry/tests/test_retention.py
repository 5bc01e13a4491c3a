"""Holds, expiry and deletion, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from starfish_artifact_registry.dataplane import InProcessDataPlane
from starfish_artifact_registry.db.schema import events, retention_classes
from starfish_artifact_registry.errors import (
    FileNotFoundInRegistryError,
    HoldNotFoundError,
    InvalidValueError,
    PackageHeldError,
    RetentionError,
    RetentionPeriodError,
)
from starfish_artifact_registry.events import Event, RegistryViewWriter
from starfish_artifact_registry.log._log import read_events
from starfish_artifact_registry.model._catalogue import PackageDeleted, RetentionHeld
from starfish_artifact_registry.registry import (
    IllegalPackageStateError,
    PackageNotFoundError,
    Registry,
)
from starfish_protocol.testing import ManualClock

MakePackage = Callable[..., Awaitable[UUID]]
DAY_MS = 24 * 60 * 60 * 1000
FILES = {"a.txt": b"alpha"}


@pytest.fixture
async def package_id(registry: Registry, make_package: MakePackage) -> UUID:
    """A package that must be kept for 30 days."""
    return await make_package(registry, FILES, retention_class="working")


@pytest.fixture
def other(engine: AsyncEngine, dataplane: InProcessDataPlane, clock: ManualClock) -> Registry:
    """Another registry over the same database."""
    return Registry(engine, dataplane, RegistryViewWriter(), clock=clock)


async def events_of(engine: AsyncEngine, package_id: UUID) -> list[Event]:
    async with engine.connect() as connection:
        return await read_events(connection, 0, 1000, package_id=package_id)


async def test_nothing_goes_before_its_date(
    registry: Registry, package_id: UUID, clock: ManualClock
) -> None:
    clock.advance(30 * DAY_MS - 1)

    for call in (
        registry.delete_package(package_id, reason="space", actor="bob"),
        registry.expire_package(package_id, actor="bob"),
    ):
        with pytest.raises(RetentionPeriodError) as refused:
            await call
        date = datetime.fromtimestamp(1_700_000_000, UTC) + timedelta(days=30)
        assert refused.value.retain_until == date
        assert date.isoformat() in str(refused.value)
    assert (await registry.get_package(package_id)).status == "finalized"


async def test_after_its_date_a_package_expires_and_is_deleted(
    registry: Registry, package_id: UUID, clock: ManualClock, engine: AsyncEngine
) -> None:
    (file,) = await registry.list_files(package_id)
    manifest = await registry.get_manifest_bytes(package_id)
    clock.advance(30 * DAY_MS)
    await registry.confirm_clock(reason="the wall clock", actor="ada")

    await registry.expire_package(package_id, actor="clerk")
    expired = await registry.get_package(package_id)
    assert b"".join([chunk async for chunk in await registry.get_file(file.file_id)]) == b"alpha"
    clock.advance(1)
    await registry.delete_package(package_id, reason="GDPR art. 17", actor="bob")
    deleted = await registry.get_package(package_id)

    assert (expired.status, expired.expired_at) == ("expired", expired.retain_until)
    assert (deleted.status, deleted.deleted_at) == ("deleted", clock.now())
    with pytest.raises(FileNotFoundInRegistryError):
        await registry.get_file(file.file_id)
    assert await registry.get_manifest_bytes(package_id) == manifest  # the history stays
    last = (await events_of(engine, package_id))[-1]
    assert last.decoded() == PackageDeleted(reason="GDPR art. 17")
    assert last.actor == "bob"


async def test_a_package_may_be_deleted_without_expiring_first(
    registry: Registry, package_id: UUID, clock: ManualClock
) -> None:
    clock.advance(31 * DAY_MS)
    await registry.confirm_clock(reason="the wall clock", actor="ada")

    await registry.delete_package(package_id, reason="done", actor="bob")

    assert (await registry.get_package(package_id)).status == "deleted"


async def test_every_hold_must_be_released(
    registry: Registry, package_id: UUID, clock: ManualClock, engine: AsyncEngine
) -> None:
    first = await registry.hold_package(package_id, reason="case 1", actor="ada")
    second = await registry.hold_package(package_id, reason="case 2", actor="eve")
    clock.advance(31 * DAY_MS)
    await registry.confirm_clock(reason="the wall clock", actor="ada")

    with pytest.raises(PackageHeldError) as refused:
        await registry.delete_package(package_id, reason="space", actor="bob")
    assert refused.value.hold_ids == (first, second)
    await registry.release_hold(package_id, first, reason="settled", actor="ada")
    with pytest.raises(PackageHeldError) as refused:
        await registry.expire_package(package_id, actor="bob")
    assert refused.value.hold_ids == (second,)
    (hold,) = (await registry.get_package(package_id)).holds
    assert (hold.hold_id, hold.reason, hold.actor) == (second, "case 2", "eve")
    await registry.release_hold(package_id, second, reason="settled", actor="ada")
    await registry.delete_package(package_id, reason="space", actor="bob")

    assert (await events_of(engine, package_id))[3].decoded() == RetentionHeld(
        hold_id=first, reason="case 1"
    )


async def test_an_expired_package_can_still_be_held(
    registry: Registry, package_id: UUID, clock: ManualClock
) -> None:
    clock.advance(31 * DAY_MS)
    await registry.confirm_clock(reason="the wall clock", actor="ada")
    await registry.expire_package(package_id, actor="clerk")
    await registry.hold_package(package_id, reason="late", actor="ada")

    with pytest.raises(PackageHeldError):
        await registry.delete_package(package_id, reason="space", actor="bob")


async def test_a_hold_is_released_once(registry: Registry, package_id: UUID) -> None:
    hold_id = await registry.hold_package(package_id, reason="case 1", actor="ada")
    await registry.release_hold(package_id, hold_id, reason="settled", actor="ada")

    for unknown in (hold_id, uuid4()):
        with pytest.raises(HoldNotFoundError):
            await registry.release_hold(package_id, unknown, reason="again", actor="ada")


async def test_a_tombstone_takes_nothing_any_more(
    registry: Registry, package_id: UUID, clock: ManualClock
) -> None:
    clock.advance(31 * DAY_MS)
    await registry.confirm_clock(reason="the wall clock", actor="ada")
    await registry.delete_package(package_id, reason="done", actor="bob")

    for call in (
        registry.delete_package(package_id, reason="again", actor="bob"),
        registry.expire_package(package_id, actor="bob"),
        registry.hold_package(package_id, reason="late", actor="bob"),
        registry.finalize_package(package_id, actor="bob"),
    ):
        with pytest.raises(IllegalPackageStateError):
            await call
    with pytest.raises(HoldNotFoundError):
        await registry.release_hold(package_id, uuid4(), reason="late", actor="bob")


async def test_what_is_kept_for_ever_never_goes(
    registry: Registry, make_package: MakePackage, clock: ManualClock
) -> None:
    package_id = await make_package(registry, FILES, retention_class="permanent")
    clock.advance(1000 * 365 * DAY_MS)

    with pytest.raises(RetentionPeriodError, match="for ever") as refused:
        await registry.delete_package(package_id, reason="space", actor="bob")
    assert refused.value.retain_until is None
    assert await registry.expire_due(actor="clerk") == []


async def test_a_changed_class_does_not_change_what_was_promised(
    registry: Registry, make_package: MakePackage, clock: ManualClock, engine: AsyncEngine
) -> None:
    package_id = await make_package(registry, FILES, retention_class="working")
    async with engine.begin() as connection:
        await connection.execute(
            retention_classes.update()
            .where(retention_classes.c.name == "working")
            .values(duration_days=0)
        )
        await connection.execute(
            insert(retention_classes).values(name="short", description="-", duration_days=0)
        )
    short = await make_package(registry, FILES, retention_class="short")

    with pytest.raises(RetentionPeriodError):
        await registry.delete_package(package_id, reason="space", actor="bob")
    await registry.delete_package(short, reason="space", actor="bob")


async def test_expire_due_takes_what_is_past_its_date_and_not_held(
    registry: Registry, make_package: MakePackage, clock: ManualClock
) -> None:
    old = await make_package(registry, FILES, retention_class="working")
    clock.advance(1)
    held = await make_package(registry, FILES, retention_class="working")
    await registry.hold_package(held, reason="case", actor="ada")
    open_one = await make_package(registry, {}, retention_class="working", finalize=False)
    clock.advance(30 * DAY_MS)
    await registry.confirm_clock(reason="the wall clock", actor="ada")
    await make_package(registry, FILES, retention_class="working")

    assert await registry.expire_due(actor="clerk", limit=1) == [old]
    assert await registry.expire_due(actor="clerk") == [open_one]
    assert await registry.expire_due(actor="clerk") == []


async def test_unknown_packages_and_bad_texts_are_refused(
    registry: Registry, package_id: UUID
) -> None:
    nowhere = uuid4()
    for call in (
        registry.hold_package(nowhere, reason="r", actor="a"),
        registry.release_hold(nowhere, uuid4(), reason="r", actor="a"),
        registry.expire_package(nowhere, actor="a"),
        registry.delete_package(nowhere, reason="r", actor="a"),
    ):
        with pytest.raises(PackageNotFoundError):
            await call
    for call in (
        registry.hold_package(package_id, reason="", actor="a"),
        registry.release_hold(package_id, uuid4(), reason="r", actor=""),
        registry.expire_package(package_id, actor="\0"),
        registry.delete_package(package_id, reason="r\n", actor="a"),
    ):
        with pytest.raises(InvalidValueError):
            await call


async def test_a_hold_and_a_deletion_at_once_have_one_winner(
    repetition: int, registry: Registry, other: Registry, package_id: UUID, clock: ManualClock
) -> None:
    clock.advance(31 * DAY_MS)
    await registry.confirm_clock(reason="the wall clock", actor="ada")

    held, deleted = await asyncio.gather(
        (registry, other)[repetition % 2].hold_package(package_id, reason="case", actor="ada"),
        (other, registry)[repetition % 2].delete_package(package_id, reason="space", actor="bob"),
        return_exceptions=True,
    )

    package = await registry.get_package(package_id)
    if deleted is None:
        assert isinstance(held, IllegalPackageStateError)
        assert (package.status, package.holds) == ("deleted", ())
    else:
        assert isinstance(deleted, RetentionError)
        assert (package.status, [hold.hold_id for hold in package.holds]) == ("finalized", [held])


async def test_the_log_still_verifies_and_counts_every_event(
    registry: Registry, package_id: UUID, clock: ManualClock, engine: AsyncEngine
) -> None:
    hold_id = await registry.hold_package(package_id, reason="case", actor="ada")
    await registry.release_hold(package_id, hold_id, reason="settled", actor="ada")
    clock.advance(31 * DAY_MS)
    await registry.confirm_clock(reason="the wall clock", actor="ada")
    await registry.expire_package(package_id, actor="clerk")
    await registry.delete_package(package_id, reason="done", actor="bob")

    assert (await registry.verify_log()).ok
    async with engine.connect() as connection:
        types = (await connection.execute(select(events.c.event_type))).scalars().all()
    assert types[3:] == [
        "v1.retention.held",
        "v1.retention.released",
        "v1.clock.confirmed",
        "v1.package.expired",
        "v1.package.deleted",
    ]
