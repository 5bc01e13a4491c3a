"""What can happen to one entry.

Rule 1: a change is a pure function of the entry it meets; storages decide where it is applied,
never what it does. Rule 2: a change that does not apply returns the very entry it was given.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from starfish_outbox._entry import OutboxEntry, OutboxStatus


class Change(Protocol):
    """One change of one entry."""

    @property
    def id(self) -> str:
        """Whose entry."""
        ...

    def apply(self, entry: OutboxEntry | None, /) -> OutboxEntry | None:
        """The entry afterwards, ``None`` when there is none; the same object when unchanged."""
        ...


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
class Claim:
    """Take a queued entry for sending."""

    id: str
    due_by: int | None = None
    """Only when it may be tried by then, milliseconds since the epoch."""

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
    not_before: int = 0
    """Earliest next try, milliseconds since the epoch."""

    def apply(self, entry: OutboxEntry | None, /) -> OutboxEntry | None:
        """One attempt more; ``failed`` once there are ``max_attempts``, else ``queued``."""
        if entry is None:
            return None
        attempts = entry.attempts + 1
        status: OutboxStatus = "failed" if attempts >= self.max_attempts else "queued"
        return replace(entry, attempts=attempts, status=status)


@dataclass(frozen=True, slots=True)
class MarkFailed:
    """Count a failed attempt that was the last."""

    id: str

    def apply(self, entry: OutboxEntry | None, /) -> OutboxEntry | None:
        """One attempt more, and ``failed``."""
        if entry is None:
            return None
        return replace(entry, attempts=entry.attempts + 1, status="failed")


@dataclass(frozen=True, slots=True)
class Retry:
    """Let a failed entry be sent again."""

    id: str

    def apply(self, entry: OutboxEntry | None, /) -> OutboxEntry | None:
        """``failed`` becomes ``queued`` with its attempts kept; everything else stays."""
        if entry is None or entry.status != "failed":
            return entry
        return replace(entry, status="queued")
