"""One entry of a queue and its JSON form.

The JSON form is shared with other implementations: an object of exactly
``id, item, status, attempts, enqueuedAt``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

from starfish_outbox._json_item import encode_item

OutboxStatus = Literal["queued", "sending", "failed"]
"""``queued``: to be sent; ``sending``: claimed by somebody; ``failed``: waits for `retry`."""

STATUSES = frozenset(get_args(OutboxStatus))

_dumps_text = json.JSONEncoder().encode


class NotAnEntryError(ValueError):
    """A stored value is not the JSON form of an entry, or not an array of them."""


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
    """Sends that ended in an exception; a cancelled send does not count."""
    enqueued_at: int
    """When it was enqueued, milliseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Stored text that is no entry and was put aside when a queue was loaded."""

    location: str
    """Where it is kept now."""
    reason: str
    """What is wrong with it."""


def reset_sending_to_queued(entries: Iterable[OutboxEntry]) -> list[OutboxEntry]:
    """The same entries, in order, those that are ``sending`` as ``queued``.

    For a queue that has just been read: whoever was sending is gone.

    Examples:
        >>> [e.status for e in reset_sending_to_queued([OutboxEntry("a", 1, "sending", 0, 0)])]
        ['queued']
    """
    return [replace(e, status="queued") if e.status == "sending" else e for e in entries]


def entry_json(entry: OutboxEntry, item_text: str) -> str:
    """The JSON form of an entry whose item was serialised before."""
    return (
        f'{{"id":{_dumps_text(entry.id)},"item":{item_text},"status":"{entry.status}",'
        f'"attempts":{entry.attempts},"enqueuedAt":{entry.enqueued_at}}}'
    )


def entry_from_json(value: object) -> tuple[OutboxEntry, str]:
    """An entry and the text of its item, from what ``json.loads`` gave.

    Raises:
        NotAnEntryError: it is not the JSON form of an entry; the message says why.
    """
    if not isinstance(value, dict):
        raise NotAnEntryError(f"not an object but {type(value).__name__}")
    fields = cast("dict[str, Any]", value)
    missing = [n for n in ("id", "item", "status", "attempts", "enqueuedAt") if n not in fields]
    if missing:
        raise NotAnEntryError(f"lacks {', '.join(missing)}")
    entry_id, status = fields["id"], fields["status"]
    check_text("id", entry_id, error=NotAnEntryError)
    if not isinstance(status, str) or status not in STATUSES:
        raise NotAnEntryError(f"status is {status!r:.40}, legal are {', '.join(sorted(STATUSES))}")
    attempts = _whole_number("attempts", fields["attempts"])
    if attempts < 0:
        raise NotAnEntryError(f"attempts is {attempts}, must not be negative")
    enqueued_at = _whole_number("enqueuedAt", fields["enqueuedAt"])
    try:
        text, item = encode_item(fields["item"])
    except TypeError as error:
        raise NotAnEntryError(str(error)) from error
    return OutboxEntry(entry_id, item, cast("OutboxStatus", status), attempts, enqueued_at), text


def check_text(name: str, value: object, *, error: type[Exception] = TypeError) -> None:
    """Refuse what cannot be a key or an id.

    Raises:
        Exception: of type ``error`` for what is no text; ``ValueError`` for a lone surrogate.
    """
    if not isinstance(value, str):
        raise error(f"{name} must be a text, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} {value[:80]!r} holds a lone surrogate") from None


def _whole_number(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise NotAnEntryError(f"{name} is {value!r:.40}, must be a number")
    try:
        number = int(value)
    except (OverflowError, ValueError):
        raise NotAnEntryError(f"{name} is {value}, must be finite") from None
    if abs(number) > _MAX_WHOLE_NUMBER:
        raise NotAnEntryError(f"{name} is out of range, must be within 2**53 of zero")
    return number


_MAX_WHOLE_NUMBER = 2**53
"""The largest whole number that every reader of JSON agrees on."""
