"""The chain of digests: whether events are as they were written, and which is the first that is not.

What the chain shows by itself: an event that was changed, left out, doubled or moved. What it does
not show: a log that was rewritten from some event on with digests that fit, and a log that was cut
at its end together with the views. Against these there are signed checkpoints.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, LargeBinary, case, cast, func, select, type_coerce
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import NullType

from starfish_artifact_registry.db._column_types import moment_text
from starfish_artifact_registry.db._database import Database
from starfish_artifact_registry.db.schema import events
from starfish_artifact_registry.errors import LogDamagedError
from starfish_artifact_registry.log._log import Head
from starfish_artifact_registry.model import _event_digest as digests
from starfish_artifact_registry.model._checkpoint import Checkpoint
from starfish_artifact_registry.model._event_codec import Event
from starfish_artifact_registry.model._moment import to_ms

__all__ = ("LogReport", "check_digests", "check_events", "read_checked_events", "verify_log")

_COLUMNS: Final = [events.c[field.name] for field in fields(Event)]
_BINARY: Final = {"payload", "payload_digest", "prev_digest", "event_digest"}
_STORED: Final[dict[str, list[ColumnElement[Any]]]] = {
    "postgresql": [type_coerce(column, NullType) for column in _COLUMNS],
    # SQLite keeps any value in any column, and texts that are none.
    "sqlite": [
        type_coerce(column, NullType)
        if column.name in {"sequence", *_BINARY}
        else case((func.typeof(column) == "text", cast(column, LargeBinary)))
        for column in _COLUMNS
    ],
}
"""The columns as they are stored: a value that is not legal there is damage, not a crash."""


@dataclass(frozen=True, slots=True)
class LogReport:
    """What a walk along the log found."""

    head_sequence: int
    """The last event that is as it was written, and all before it are; 0 before the first."""
    head_digest: bytes
    """Its digest, which covers all of them."""
    damage: LogDamagedError | None
    """The first event that is not, and how that shows; ``None`` for a log without damage."""

    @property
    def ok(self) -> bool:
        """Whether every event is as it was written."""
        return self.damage is None


def check_events(head: Head, events: Iterable[Event]) -> Head:
    """Return the head after events that follow one, if each is as it was written.

    Raises:
        LogDamagedError: one is not, or one is missing; the error names the first.
    """
    for event in events:
        head = _check_event(head, event)
    return head


async def read_checked_events(
    connection: AsyncConnection, head: Head, limit: int
) -> AsyncGenerator[Event]:
    """The first ``limit`` events after a head, each as it was written.

    Raises:
        LogDamagedError: one is not, or one is missing; the error names the first.
    """
    stored = _STORED[connection.dialect.name]
    page = select(*stored).where(events.c.sequence > head.sequence).order_by(events.c.sequence)
    for row in (await connection.execute(page.limit(limit))).all():
        event = _event_of(row, head.sequence + 1)
        head = _check_event(head, event)
        yield event


async def verify_log(
    database: Database,
    position: Callable[[AsyncConnection], Awaitable[int]],
    page_size: int,
    checkpoints: Collection[Checkpoint] = (),
) -> LogReport:
    """Walk the whole log; memory is bounded by a page.

    Args:
        database: where the log is.
        position: gives the sequence of the last event that the views saw.
        page_size: events in memory at once.
        checkpoints: what the log must still agree with; their signatures are not checked here.

    Raises:
        DatabaseUnavailableError: the database does not answer.
    """
    head = Head(0, digests.GENESIS_DIGEST)
    expected: dict[int, set[bytes]] = {}
    for checkpoint in checkpoints:
        expected.setdefault(checkpoint.sequence, set()).add(checkpoint.event_digest)
    # Asked first: events appended during the walk are not a sign of a cut.
    async with database.read() as connection:
        known = await position(connection)
    try:
        seen = -1
        while seen < head.sequence:
            seen = head.sequence
            async with database.read() as connection:
                async for event in read_checked_events(connection, head, page_size):
                    following = Head(event.sequence, event.event_digest)
                    _check_against(expected, following)
                    head = following
        if head.sequence < known:
            reason = f"it is missing at the end of the log; the views know of event {known}"
            raise LogDamagedError(head.sequence + 1, reason)  # noqa: TRY301
        if head.sequence < max(expected, default=0):
            reason = f"it is missing; a checkpoint knows of event {max(expected)}"
            raise LogDamagedError(head.sequence + 1, reason)  # noqa: TRY301
    except LogDamagedError as damage:
        return LogReport(head.sequence, head.event_digest, damage)
    return LogReport(head.sequence, head.event_digest, None)


def _check_event(head: Head, event: Event) -> Head:
    if event.sequence != head.sequence + 1:
        raise LogDamagedError(head.sequence + 1, f"it is missing; {event.sequence} is next")
    if event.prev_digest != head.event_digest:
        raise LogDamagedError(event.sequence, "it does not follow the event before it")
    check_digests(event)
    return Head(event.sequence, event.event_digest)


def check_digests(event: Event) -> None:
    """Return if the payload and the envelope of an event have their digests.

    Raises:
        LogDamagedError: they have not.
    """
    if digests.payload_digest(event.payload) != event.payload_digest:
        raise LogDamagedError(event.sequence, "its payload does not have its digest")
    record = digests.record_digest(
        sequence=event.sequence,
        event_id=event.event_id,
        package_id=event.package_id,
        event_type=event.event_type,
        payload_digest=event.payload_digest,
        actor=event.actor,
        created_at_ms=to_ms(event.created_at),
    )
    if digests.event_digest(event.prev_digest, record) != event.event_digest:
        raise LogDamagedError(event.sequence, "its envelope does not have its digest")


def _check_against(expected: Mapping[int, set[bytes]], head: Head) -> None:
    digest = {head.event_digest}
    if expected.get(head.sequence, digest) != digest:
        reason = "a checkpoint has another digest: it, or one before it, was rewritten"
        raise LogDamagedError(head.sequence, reason)


def _event_of(row: Sequence[Any], expected: int) -> Event:
    sequence, event_id, package_id, event_type, payload, *three, actor, created_at = row
    try:
        payload_digest, prev_digest, event_digest = (_of_type(bytes, digest) for digest in three)
        return Event(
            _of_type(int, sequence),
            _uuid(event_id),
            _uuid(package_id),
            _text(event_type),
            _of_type(bytes, payload),
            payload_digest,
            prev_digest,
            event_digest,
            _text(actor),
            _moment(created_at),
        )
    except ValueError as error:
        # A sequence that is not an integer cannot be compared; then the expected one is damaged.
        damaged = sequence if type(sequence) is int else expected
        raise LogDamagedError(min(damaged, expected), f"it cannot be read: {error}") from error


def _of_type(kind: type[Any], value: Any) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{value!r:.80} is not of type {kind.__name__}")
    return value


def _text(value: Any) -> str:
    return value.decode() if type(value) is bytes else _of_type(str, value)


def _uuid(value: Any) -> UUID:
    """SQLite holds 32 lowercase hex digits; any other spelling of the same id was not written by us."""
    if isinstance(value, UUID):
        return UUID(int=value.int)  # asyncpg has a class of its own
    stored = _text(value)
    found = UUID(stored)
    if found.hex != stored:
        raise ValueError(f"{stored!r:.80} is not how an id is stored")
    return found


def _moment(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    stored = _text(value)
    found = datetime.fromisoformat(stored)
    if found.tzinfo is None or moment_text(found) != stored:
        raise ValueError(f"{stored!r:.80} is not how a time is stored")
    return found
