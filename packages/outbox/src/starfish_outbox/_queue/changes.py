"""What can happen to one entry.

Rule 1: a change is a pure function of the entry it meets; storages decide where it is applied,
never what it does. Rule 2: a change that does not apply returns the very entry it was given. Rule 3:
only `Enqueue` and `Replace` have to do with the item.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

from starfish_outbox._queue.entry import Failure, OutboxEntry, OutboxStatus


class Change(Protocol):
    """One change of one entry."""

    @property
    def id(self) -> str:
        """The id of the entry."""
        ...

    def apply(self, entry: OutboxEntry | None, /) -> OutboxEntry | None:
        """The entry afterwards, ``None`` when there is none; the same object when unchanged."""
        ...


@dataclass(frozen=True, slots=True)
class Rest:
    """How long an entry is left alone.

    A rest never outlasts its own length, whatever happens to the clock.

    Examples:
        >>> Rest(until=1_500, length_ms=500).is_over(1_200), Rest(1_500, 500).is_over(1_500)
        (False, True)
        >>> Rest(until=1_500, length_ms=500).is_over(900)  # the clock was set back
        True
    """

    until: int
    """The end, milliseconds since the epoch."""
    length_ms: int
    """From its beginning to its end."""

    def is_over(self, now_ms: int) -> bool:
        """Whether the entry may be tried."""
        return not 0 < self.until - now_ms <= self.length_ms


@dataclass(frozen=True, slots=True)
class Enqueue:
    """Add an entry at the end unless its id is there."""

    id: str
    new: OutboxEntry
    item_text: str

    def apply(self, entry: OutboxEntry | None, /) -> OutboxEntry | None:
        """An entry that is there stays as it is."""
        return self.new if entry is None else entry


@dataclass(frozen=True, slots=True)
class Replace:
    """Put another item in the place of one that is not being sent."""

    id: str
    item: Any
    item_text: str

    def apply(self, entry: OutboxEntry | None, /) -> OutboxEntry | None:
        """``sending`` stays; everything else gets the item and keeps its place."""
        if entry is None or entry.status == "sending":
            return entry
        return replace(entry, item=self.item)


@dataclass(frozen=True, slots=True)
class Claim:
    """Take a queued entry for sending."""

    id: str
    due_by: int | None = None
    """Only when its rest is over by then, milliseconds since the epoch."""

    def apply(self, entry: OutboxEntry | None, /) -> OutboxEntry | None:
        """``queued`` becomes ``sending``; everything else stays."""
        if entry is None or entry.status != "queued":
            return entry
        return replace(entry, status="sending")


@dataclass(frozen=True, slots=True)
class Release:
    """Give a claim back without counting an attempt."""

    id: str

    def apply(self, entry: OutboxEntry | None, /) -> OutboxEntry | None:
        """``sending`` becomes ``queued``; everything else stays."""
        if entry is None or entry.status != "sending":
            return entry
        return replace(entry, status="queued")


@dataclass(frozen=True, slots=True)
class Remove:
    """Forget an entry."""

    id: str

    def apply(self, _entry: OutboxEntry | None, /) -> OutboxEntry | None:
        """Nothing is left."""
        return None


@dataclass(frozen=True, slots=True)
class RecordFailure:
    """Count a failed attempt."""

    id: str
    max_attempts: int
    rest: Rest | None = None
    failure: Failure | None = None

    def apply(self, entry: OutboxEntry | None, /) -> OutboxEntry | None:
        """One attempt more; ``failed`` once there are ``max_attempts``, else ``queued``."""
        if entry is None:
            return None
        attempts = entry.attempts + 1
        status: OutboxStatus = "failed" if attempts >= self.max_attempts else "queued"
        return replace(entry, attempts=attempts, status=status, failure=self.failure)


@dataclass(frozen=True, slots=True)
class Defer:
    """Give a claim back because of something that is not the entry's fault."""

    id: str
    failure: Failure
    rest: Rest | None = None

    def apply(self, entry: OutboxEntry | None, /) -> OutboxEntry | None:
        """``sending`` becomes ``queued`` with its attempts kept; everything else stays."""
        if entry is None or entry.status != "sending":
            return entry
        return replace(entry, status="queued", failure=self.failure)


@dataclass(frozen=True, slots=True)
class MarkFailed:
    """Count a failed attempt that was the last."""

    id: str
    failure: Failure | None = None

    def apply(self, entry: OutboxEntry | None, /) -> OutboxEntry | None:
        """One attempt more, and ``failed``."""
        if entry is None:
            return None
        return replace(entry, attempts=entry.attempts + 1, status="failed", failure=self.failure)


@dataclass(frozen=True, slots=True)
class Retry:
    """Let a failed entry be sent again."""

    id: str

    def apply(self, entry: OutboxEntry | None, /) -> OutboxEntry | None:
        """``failed`` becomes ``queued`` with its attempts kept; everything else stays."""
        if entry is None or entry.status != "failed":
            return entry
        return replace(entry, status="queued")


def rest_after(change: Change) -> Rest | None:
    """The rest that begins with a change."""
    return change.rest if isinstance(change, RecordFailure | Defer) else None
