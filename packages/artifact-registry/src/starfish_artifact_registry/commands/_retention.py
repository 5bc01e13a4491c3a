"""How long a package stays: holds, expiry and deletion, each an event with its reason.

A package may go when its retention date has passed and no hold is in force. `expire` says so in the
log, `delete` makes it a tombstone: the log and its rows stay, its files can no longer be read, and
garbage collection takes the bytes that no other package refers to.

Every function here decides upon the history of the package, the fold of its events.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from starfish_artifact_registry.commands._state import CommandState, Decide, Decision
from starfish_artifact_registry.db.schema import artifact_packages, retention_state
from starfish_artifact_registry.errors import (
    ClockNotConfirmedError,
    HoldNotFoundError,
    IllegalPackageStateError,
    PackageHeldError,
    RetentionPeriodError,
)
from starfish_artifact_registry.model._catalogue import (
    NO_PACKAGE,
    ClockConfirmed,
    PackageDeleted,
    PackageExpired,
    RetentionHeld,
    RetentionReleased,
)
from starfish_artifact_registry.model._event_codec import NewEvent
from starfish_artifact_registry.model._history import PackageHistory

__all__ = (
    "Moments",
    "about",
    "confirm_clock",
    "delete",
    "expire",
    "past_retention",
    "place_hold",
    "release_hold",
)

T = TypeVar("T")
_NOTHING_HELD: Final[list[Any]] = []


def about(package_id: UUID, decide: Callable[[PackageHistory, Moments], Decision[T]]) -> Decide[T]:
    """A command that follows from the history of one package and the time."""

    async def run(state: CommandState) -> Decision[T]:
        history = await state.history(package_id)
        return decide(history, Moments(state.now, await state.confirmed_now()))

    return run


@dataclass(frozen=True, slots=True)
class Moments:
    """What time it is."""

    now: datetime
    """By the clock of the machine, never before the newest event."""
    confirmed: datetime
    """By the log: see `starfish_artifact_registry.log._clock`."""


def confirm_clock(*, reason: str, actor: str) -> Decide[datetime]:
    """Confirm that the clock is right; gives the time that counts from now on."""

    async def decide(state: CommandState) -> Decision[datetime]:
        confirmed = ClockConfirmed(reason=reason)
        return Decision(state.now, [NewEvent(NO_PACKAGE, confirmed, actor, state.now)])

    return decide


def place_hold(
    history: PackageHistory, *, hold_id: UUID, reason: str, actor: str
) -> Decision[UUID]:
    """Place a hold; gives its id."""
    _check_status(history, "it cannot be held", ("created", "finalized", "expired"))
    held = RetentionHeld(hold_id=hold_id, reason=reason)
    return Decision(hold_id, [NewEvent(history.package_id, held, actor)])


def release_hold(
    history: PackageHistory, hold_id: UUID, *, reason: str, actor: str
) -> Decision[None]:
    """Lift a hold; others stay in force."""
    if hold_id not in history.holds:
        raise HoldNotFoundError(history.package_id, hold_id)
    released = RetentionReleased(hold_id=hold_id, reason=reason)
    return Decision(None, [NewEvent(history.package_id, released, actor)])


def expire(history: PackageHistory, moments: Moments, *, actor: str) -> Decision[None]:
    """Say that a package is past its date."""
    action = "it does not expire; only a created or finalized package does"
    _check_status(history, action, ("created", "finalized"))
    retain_until = _check_retention(history, moments)
    expired = PackageExpired(retain_until=retain_until)
    return Decision(None, [NewEvent(history.package_id, expired, actor)])


def delete(history: PackageHistory, moments: Moments, *, reason: str, actor: str) -> Decision[None]:
    """Make a package a tombstone."""
    _check_status(history, "it cannot be deleted again", ("created", "finalized", "expired"))
    _check_retention(history, moments)
    deleted = PackageDeleted(reason=reason)
    return Decision(None, [NewEvent(history.package_id, deleted, actor)])


async def past_retention(connection: AsyncConnection, now: datetime, *, limit: int) -> list[UUID]:
    """Packages that `expire` may take, those first that are past their date longest.

    A list of candidates out of the tables; `expire` decides upon the history of each.
    """
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


def _check_status(history: PackageHistory, action: str, allowed: tuple[str, ...]) -> None:
    if history.status not in allowed:
        raise IllegalPackageStateError(history.package_id, str(history.status), action)


def _check_retention(history: PackageHistory, moments: Moments) -> datetime:
    """Return the date that has passed.

    Raises:
        ClockNotConfirmedError: it has passed by a clock that nobody has confirmed.
        PackageHeldError: a hold is in force.
        RetentionPeriodError: the date has not come, or never comes.
    """
    if history.holds:
        raise PackageHeldError(history.package_id, tuple(history.holds))
    retain_until = history.retain_until
    if retain_until is None or moments.now < retain_until:
        raise RetentionPeriodError(history.package_id, retain_until)
    if moments.confirmed < retain_until:
        raise ClockNotConfirmedError(history.package_id, moments.now, moments.confirmed)
    return retain_until
