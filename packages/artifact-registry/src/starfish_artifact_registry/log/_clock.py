"""How much time the log has seen go by: the clock that decisions about retention trust.

The clock of a machine may jump. So the time that counts follows from the events: between two of
them it goes on by the difference of their times, by a day at most, and never backwards. A jump
ahead lends a day, whether events were written meanwhile or not; the rest counts once somebody has
confirmed the clock (``v1.clock.confirmed``). The times of imported events are of elsewhere and do
not count.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import and_, not_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from starfish_artifact_registry.db.schema import events
from starfish_artifact_registry.model._catalogue import (
    ClockConfirmed,
    FileIngested,
    PackageCreated,
    PackageFinalized,
    PackageImported,
)

__all__ = ("LogClock",)

_LONGEST_STEP: Final = timedelta(days=1)
_PAGE: Final = 5000
_IMPORTED: Final = select(events.c.package_id).where(
    events.c.event_type != FileIngested.event_type,
    events.c.event_type == PackageImported.event_type,
)
_OWN: Final = not_(
    and_(
        events.c.event_type.in_(
            (PackageCreated.event_type, FileIngested.event_type, PackageFinalized.event_type)
        ),
        events.c.package_id.in_(_IMPORTED),
    )
)


@dataclass(frozen=True, slots=True)
class _Reading:
    sequence: int = 0
    newest: datetime | None = None
    confirmed: datetime | None = None

    def at(self, moment: datetime, *, is_confirmation: bool = False) -> _Reading:
        if self.newest is None or self.confirmed is None:
            return replace(self, newest=moment, confirmed=moment)
        newest = max(self.newest, moment)
        step = min(newest - self.newest, _LONGEST_STEP)
        confirmed = newest if is_confirmation else self.confirmed + step
        return replace(self, newest=newest, confirmed=confirmed)


class LogClock:
    """Reads the times of a log, each event's once."""

    def __init__(self) -> None:
        self._reading = _Reading()

    async def confirmed(self, connection: AsyncConnection, now: datetime) -> datetime:
        """The time that retention may trust, if the clock of the machine says ``now``.

        The connection sees committed events only, which therefore need not be read again.
        """
        reading = self._reading
        row = events.c
        while True:
            page = (
                select(row.sequence, row.created_at, row.event_type)
                .where(row.sequence > reading.sequence, _OWN)
                .order_by(row.sequence)
                .limit(_PAGE)
            )
            found = (await connection.execute(page)).all()
            for sequence, created_at, event_type in found:
                is_confirmation = event_type == ClockConfirmed.event_type
                reading = replace(
                    reading.at(created_at, is_confirmation=is_confirmation), sequence=sequence
                )
            if len(found) < _PAGE:
                break
        self._reading = reading
        confirmed = reading.at(now).confirmed
        return now if confirmed is None else confirmed
