"""The JSON form of an entry, which other implementations read and write.

Rule 1: five members are everybody's: ``id, item, status, attempts, enqueuedAt``; all but ``id`` may be
absent. Rule 2: ``failure`` is ours, and only where there is one. Rule 3: every other member belongs
to somebody else, and is written back as it was read.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, cast

from starfish_outbox._queue.entry import (
    FAILURE_KINDS,
    LONGEST_REASON,
    STATUSES,
    Failure,
    FailureKind,
    OutboxEntry,
    OutboxStatus,
    check_text,
)
from starfish_outbox._queue.json_item import encode_item

OURS = frozenset({"id", "item", "status", "attempts", "enqueuedAt"})
MAX_WHOLE_NUMBER = 2**53
"""The largest whole number that every reader of JSON agrees on."""

dumps = json.JSONEncoder(separators=(",", ":")).encode


class NotAnEntryError(ValueError):
    """A stored value is not the JSON form of an entry, or not an array of them."""


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry with the parts of its text that are written back as they were."""

    entry: OutboxEntry
    item_text: str
    members: str = ""
    """Members of other writers, each with a comma before it."""
    time_text: str = ""
    """``enqueuedAt`` where it is not a whole number."""


def entry_json(entry: OutboxEntry, item_text: str, members: str = "", time_text: str = "") -> str:
    """The JSON form of an entry whose item was serialised before."""
    failure = "" if entry.failure is None else f',"failure":{failure_json(entry.failure)}'
    return (
        f'{{"id":{dumps(entry.id)},"item":{item_text},"status":"{entry.status}",'
        f'"attempts":{entry.attempts},"enqueuedAt":{time_text or entry.enqueued_at}{failure}{members}}}'
    )


def failure_json(failure: Failure) -> str:
    """The JSON form of a failure."""
    return dumps({"kind": failure.kind, "reason": failure.reason, "at": failure.at})


def failure_from_json(value: object) -> Failure | None:
    """A failure from parsed JSON; ``None`` when it is not one of ours."""
    if not isinstance(value, dict):
        return None
    fields = cast("dict[str, object]", value)
    kind, reason, at = fields.get("kind"), fields.get("reason"), fields.get("at")
    if not (isinstance(kind, str) and kind in FAILURE_KINDS and isinstance(reason, str)):
        return None
    if isinstance(at, bool) or not isinstance(at, int) or len(fields) != 3:
        return None
    return Failure(cast("FailureKind", kind), reason[:LONGEST_REASON], at)


def entry_from_json(value: object, now_ms: int) -> StoredEntry:
    """An entry from the result of ``json.loads``.

    Args:
        value: the parsed value.
        now_ms: stands in for an absent ``enqueuedAt``.

    Raises:
        NotAnEntryError: it is not the JSON form of an entry; the message says why.
    """
    if not isinstance(value, dict):
        raise NotAnEntryError(f"not an object but {type(value).__name__}")
    fields = cast("dict[str, Any]", value)
    if "id" not in fields:
        raise NotAnEntryError("lacks id")
    entry_id, status = fields["id"], fields.get("status", "queued")
    check_text("id", entry_id, error=NotAnEntryError)
    if not isinstance(status, str) or status not in STATUSES:
        raise NotAnEntryError(
            f"status is {status!r:.40}, must be one of {', '.join(sorted(STATUSES))}"
        )
    attempts, _ = _whole_number("attempts", fields.get("attempts", 0))
    if attempts < 0:
        raise NotAnEntryError(f"attempts is {attempts}, must not be negative")
    enqueued_at, time_text = _whole_number("enqueuedAt", fields.get("enqueuedAt", now_ms))
    try:
        item_text, item = encode_item(fields.get("item"))
        failure = failure_from_json(fields.get("failure"))
        members = "".join(
            f",{dumps(name)}:{encode_item(member)[0]}"
            for name, member in fields.items()
            if name not in OURS and not (name == "failure" and failure is not None)
        )
    except TypeError as error:
        raise NotAnEntryError(str(error)) from error
    entry = OutboxEntry(
        entry_id, item, cast("OutboxStatus", status), attempts, enqueued_at, failure
    )
    return StoredEntry(entry, item_text, members, time_text)


def parse_queue(text: str, now_ms: int = 0) -> tuple[list[StoredEntry], list[tuple[object, str]]]:
    """The entries of an array, and every value in it that is not an entry with the reason.

    Raises:
        ValueError: the text is not a JSON array.
    """
    try:
        values = json.loads(text)
    except RecursionError:
        raise NotAnEntryError("nested too deeply") from None
    if not isinstance(values, list):
        raise NotAnEntryError(f"not a JSON array but {type(values).__name__}")
    kept: dict[str, StoredEntry] = {}
    refused: list[tuple[object, str]] = []
    for position, value in enumerate(cast("list[object]", values)):
        try:
            stored = entry_from_json(value, now_ms)
            if stored.entry.id in kept:
                raise NotAnEntryError(f"id {stored.entry.id[:80]!r} is there twice")
        except ValueError as error:
            refused.append((value, f"entry {position}: {error}"))
        else:
            kept[stored.entry.id] = stored
    return list(kept.values()), refused


def _whole_number(name: str, value: object) -> tuple[int, str]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise NotAnEntryError(f"{name} is {value!r:.40}, must be a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise NotAnEntryError(f"{name} is {value}, must be finite")
    number = int(value)
    if abs(number) > MAX_WHOLE_NUMBER:
        raise NotAnEntryError(f"{name} is out of range, must be within 2**53 of zero")
    return number, "" if number == value else repr(value)
