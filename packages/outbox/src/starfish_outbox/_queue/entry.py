"""One entry of a queue, and why it was not sent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

OutboxStatus = Literal["queued", "sending", "failed"]
"""``queued``: to be sent; ``sending``: claimed by somebody; ``failed``: waits for `retry`."""

FailureKind = Literal["unreachable", "unauthorised", "refused", "conflict", "error"]
"""``error``: the send raised something that says nothing about its cause."""

STATUSES = frozenset(get_args(OutboxStatus))
FAILURE_KINDS = frozenset(get_args(FailureKind))
LONGEST_REASON = 500
"""Characters of a reason that are kept: a server's whole page helps nobody."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the last attempt to send an entry did not succeed.

    Examples:
        >>> Failure("refused", "POST /push/notes/1 was answered 422: schema_violation", 0).kind
        'refused'
    """

    kind: FailureKind
    """Whose fault it was."""
    reason: str
    """The answer of the server, or the text of the exception; at most 500 characters."""
    at: int
    """When it happened, milliseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """A write that waits to be made.

    Examples:
        >>> OutboxEntry("note-1", {"text": "hi"}, "queued", 0, 1_700_000_000_000).status
        'queued'
    """

    id: str
    """The application's name for it; one entry an id."""
    item: Any
    """The write itself, as it reads back from JSON; the queue never looks inside."""
    status: OutboxStatus
    """Where it stands."""
    attempts: int
    """Sends that ended in an exception; a cancelled send does not count, nor does an outage."""
    enqueued_at: int
    """When it was enqueued, milliseconds since the epoch."""
    failure: Failure | None = None
    """Why the last attempt did not succeed; ``None`` before the first one."""


class _NotRead:
    def __repr__(self) -> str:
        return "NOT_READ"


NOT_READ: Any = _NotRead()
"""Stands for an item that a storage did not read, because the queue has it."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Stored text that is not an entry and was put aside when a queue was loaded."""

    location: str
    """Where it is kept now."""
    reason: str
    """The fault in it."""


def reset_sending_to_queued(entries: Iterable[OutboxEntry]) -> list[OutboxEntry]:
    """The same entries, in order, those that are ``sending`` as ``queued``.

    For a queue that has just been read: the process that was sending is gone.

    Examples:
        >>> [e.status for e in reset_sending_to_queued([OutboxEntry("a", 1, "sending", 0, 0)])]
        ['queued']
    """
    return [replace(e, status="queued") if e.status == "sending" else e for e in entries]


def check_text(name: str, value: object, *, error: type[Exception] = TypeError) -> None:
    """Refuse a value that cannot be a key or an id.

    Raises:
        Exception: of type ``error`` for a value that is not a text; ``ValueError`` for a lone
            surrogate.
    """
    if not isinstance(value, str):
        raise error(f"{name} must be a text, not {type(value).__name__}")
    if value.isascii():
        return
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} {value[:80]!r} holds a lone surrogate") from None
