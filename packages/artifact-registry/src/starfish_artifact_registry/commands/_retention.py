"""How long a package stays: holds, expiry and deletion, each an event with its reason.

A package may go when its retention date has passed and no hold is in force. `expire_package` says
so in the log, `delete_package` makes it a tombstone: the log and its rows stay, its files can no
longer be read, and garbage collection takes the bytes that no other package refers to.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from starfish_artifact_registry.commands._state import CommandState, Decide, Decision
from starfish_artifact_registry.db.schema import artifact_packages, retention_state
from starfish_artifact_registry.errors import (
    HoldNotFoundError,
    IllegalPackageStateError,
    PackageHeldError,
    RetentionPeriodError,
)
from starfish_artifact_registry.model._catalogue import (
    PackageDeleted,
    PackageExpired,
    RetentionHeld,
    RetentionReleased,
)
from starfish_artifact_registry.model._event_codec import NewEvent

__all__ = ("delete_package", "expire_package", "hold_package", "past_retention", "release_hold")

_NOTHING_HELD: Final[list[Any]] = []


def hold_package(package_id: UUID, *, reason: str, actor: str) -> Decide[UUID]:
    """Place a hold; gives its id."""

    async def decide(state: CommandState) -> Decision[UUID]:
        await _check_status(
            state, package_id, "it cannot be held", ("created", "finalized", "expired")
        )
        held = RetentionHeld(hold_id=state.new_id(), reason=reason)
        return Decision(held.hold_id, [NewEvent(package_id, held, actor)])

    return decide


def release_hold(package_id: UUID, hold_id: UUID, *, reason: str, actor: str) -> Decide[None]:
    """Lift a hold; others stay in force."""

    async def decide(state: CommandState) -> Decision[None]:
        await state.package(package_id)
        _, holds = await _retention(state, package_id)
        if hold_id not in holds:
            raise HoldNotFoundError(package_id, hold_id)
        released = RetentionReleased(hold_id=hold_id, reason=reason)
        return Decision(None, [NewEvent(package_id, released, actor)])

    return decide


def expire_package(package_id: UUID, *, actor: str) -> Decide[None]:
    """Say that a package is past its date."""

    async def decide(state: CommandState) -> Decision[None]:
        action = "it does not expire; only a created or finalized package does"
        await _check_status(state, package_id, action, ("created", "finalized"))
        retain_until = await _check_retention(state, package_id)
        expired = PackageExpired(retain_until=retain_until)
        return Decision(None, [NewEvent(package_id, expired, actor)])

    return decide


def delete_package(package_id: UUID, *, reason: str, actor: str) -> Decide[None]:
    """Make a package a tombstone."""

    async def decide(state: CommandState) -> Decision[None]:
        await _check_status(
            state, package_id, "it cannot be deleted again", ("created", "finalized", "expired")
        )
        await _check_retention(state, package_id)
        return Decision(None, [NewEvent(package_id, PackageDeleted(reason=reason), actor)])

    return decide


async def past_retention(connection: AsyncConnection, now: datetime, *, limit: int) -> list[UUID]:
    """Packages that `expire_package` would take, those first that are past their date longest."""
    row = retention_state.c
    wanted = (
        select(row.package_id)
        .join(artifact_packages)
        .where(
            row.retain_until <= now,
            row.holds == _NOTHING_HELD,
            artifact_packages.c.status.in_(("created", "finalized")),
        )
        .order_by(row.retain_until, row.package_id)
        .limit(limit)
    )
    return list((await connection.execute(wanted)).scalars())


async def _check_status(
    state: CommandState, package_id: UUID, action: str, legal: tuple[str, ...]
) -> None:
    package = await state.package(package_id)
    if package.status not in legal:
        raise IllegalPackageStateError(package_id, package.status, action)


async def _check_retention(state: CommandState, package_id: UUID) -> datetime:
    """Return the date that has passed.

    Raises:
        PackageHeldError: a hold is in force.
        RetentionPeriodError: the date has not come, or never comes.
    """
    retain_until, holds = await _retention(state, package_id)
    if holds:
        raise PackageHeldError(package_id, holds)
    if retain_until is None or state.now < retain_until:
        raise RetentionPeriodError(package_id, retain_until)
    return retain_until


async def _retention(
    state: CommandState, package_id: UUID
) -> tuple[datetime | None, tuple[UUID, ...]]:
    row = retention_state.c
    wanted = select(row.retain_until, row.holds).where(row.package_id == package_id)
    connection = await state.connection()
    found = (await connection.execute(wanted)).one()
    return found.retain_until, tuple(UUID(hold["hold_id"]) for hold in found.holds)
