"""The log itself: append at its end, read from any place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from operator import attrgetter
from typing import Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from starfish_artifact_registry.db.schema import events
from starfish_artifact_registry.errors import LogDamagedError
from starfish_artifact_registry.log._tiles import extend_tiles
from starfish_artifact_registry.model._event_codec import Event, NewEvent, chain_event
from starfish_artifact_registry.model._event_digest import GENESIS_DIGEST

__all__ = (
    "Head",
    "append_events",
    "chain_events",
    "digest_at",
    "head_at",
    "head_of_log",
    "read_events",
)

_NAMES: Final = tuple(field.name for field in fields(Event))
_COLUMNS: Final = [events.c[name] for name in _NAMES]
_INSERT: Final = events.insert()
_values: Final[Callable[[Event], tuple[object, ...]]] = attrgetter(*_NAMES)


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the log."""

    sequence: int
    """Sequence of the newest event, 0 before the first."""
    event_digest: bytes
    """Its digest, which covers all events before it; 32 zero bytes before the first."""


async def head_of_log(connection: AsyncConnection) -> Head:
    """Where the log ends."""
    newest = select(events.c.sequence, events.c.event_digest).order_by(events.c.sequence.desc())
    row = (await connection.execute(newest.limit(1))).first()
    return Head(0, GENESIS_DIGEST) if row is None else Head(row.sequence, row.event_digest)


async def digest_at(connection: AsyncConnection, sequence: int) -> bytes | None:
    """The digest of an event, ``None`` when there is no such event."""
    digest = select(events.c.event_digest).where(events.c.sequence == sequence)
    found: bytes | None = (await connection.execute(digest)).scalar()
    return found


async def head_at(connection: AsyncConnection, sequence: int) -> Head:
    """The end that the log had when this event was the newest; 0 is the beginning.

    Raises:
        LogDamagedError: there is no such event.
    """
    if sequence == 0:
        return Head(0, GENESIS_DIGEST)
    found = await digest_at(connection, sequence)
    if found is None:
        raise LogDamagedError(sequence, "it is missing")
    return Head(sequence, found)


def chain_events(
    head: Head, new: Sequence[NewEvent], *, now: datetime, new_id: Callable[[], UUID]
) -> list[Event]:
    """Give events their places behind a head; nothing is stored yet."""
    chained: list[Event] = []
    sequence, digest = head.sequence, head.event_digest
    for event in new:
        sequence += 1
        one = chain_event(event, sequence=sequence, prev_digest=digest, event_id=new_id(), now=now)
        digest = one.event_digest
        chained.append(one)
    return chained


async def append_events(connection: AsyncConnection, chained: Sequence[Event]) -> None:
    """Store events whose first follows the head; the connection has locked the log."""
    rows = [dict(zip(_NAMES, _values(event), strict=True)) for event in chained]
    await connection.execute(_INSERT, rows)
    if chained:
        await extend_tiles(connection, chained[0].sequence - 1, chained[-1].sequence)


async def read_events(
    connection: AsyncConnection, after: int, limit: int, *, package_id: UUID | None = None
) -> list[Event]:
    """The first ``limit`` events with a sequence above ``after``, in order."""
    page = select(*_COLUMNS).where(events.c.sequence > after)
    if package_id is not None:
        page = page.where(events.c.package_id == package_id)
    rows = await connection.execute(page.order_by(events.c.sequence).limit(limit))
    return [Event(*row) for row in rows]
