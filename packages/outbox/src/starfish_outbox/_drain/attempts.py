"""What a failed send means for its entry and for the rest of the pass; no I/O and no clock."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal

from starfish_outbox._drain.backoff import Backoff
from starfish_outbox._queue.changes import Change, Defer, MarkFailed, RecordFailure, Rest
from starfish_outbox._queue.entry import LONGEST_REASON, Failure, FailureKind, OutboxEntry
from starfish_outbox.errors import (
    Conflict,
    NotAuthorised,
    PermanentSendError,
    RetryAfterError,
    SendError,
    Unreachable,
)

Doubt = Literal["none", "maybe", "certain"]
"""Whether the next entry for that server would meet the same."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The consequence of one failed attempt."""

    failure: Failure
    outage: Doubt
    """Whether the pass goes on for that server."""
    is_final: bool
    """Whether the entry becomes ``failed`` at once."""
    rest: Rest | None
    max_attempts: int

    def change_of(self, entry_id: str) -> Change:
        """The change that records it."""
        if self.is_final:
            return MarkFailed(entry_id, self.failure)
        if self.outage != "none":
            return Defer(entry_id, self.failure, self.rest)
        return RecordFailure(entry_id, self.max_attempts, self.rest, self.failure)


def judge(
    entry: OutboxEntry,
    error: Exception,
    *,
    max_attempts: int,
    backoff: Backoff | None,
    outages: int,
    now_ms: int,
) -> Judgement:
    """Tell an outage, a refused credential, a refused write and an ordinary failure apart.

    Args:
        entry: the entry that was sent.
        error: raised by the send.
        max_attempts: with so many failed attempts an entry is ``failed``.
        backoff: how long an entry rests.
        outages: passes in a row that ended because of this server.
        now_ms: the time, milliseconds since the epoch.
    """
    failure = Failure(_kind(error), _reason(error), now_ms)
    is_outage = isinstance(error, Unreachable | NotAuthorised)
    outage: Doubt = "none"
    if isinstance(error, Unreachable | NotAuthorised):
        outage = "certain" if error.is_certain else "maybe"
    delay = 0
    if backoff is not None:
        delay = backoff.delay_ms(outages + 1 if is_outage else entry.attempts + 1)
    if isinstance(error, RetryAfterError | Unreachable):
        delay = max(delay, error.delay_ms or 0)
    rest = Rest(now_ms + delay, delay) if delay > 0 else None
    return Judgement(failure, outage, isinstance(error, PermanentSendError), rest, max_attempts)


@dataclass(slots=True)
class _Outage:
    rest: Rest | None
    count: int = 1


class Outages:
    """Servers that a run leaves alone for a while, by name."""

    def __init__(self) -> None:
        self._of: dict[Hashable, _Outage] = {}

    def count(self, server: Hashable) -> int:
        """Passes in a row that ended because of a server."""
        outage = self._of.get(server)
        return 0 if outage is None else outage.count

    def begin(self, server: Hashable, rest: Rest | None) -> None:
        """A pass ended because of a server."""
        self._of[server] = _Outage(rest, self.count(server) + 1)

    def end(self, server: Hashable) -> None:
        """A server took something."""
        self._of.pop(server, None)

    def clear(self) -> None:
        """The network is another one."""
        self._of.clear()

    def rest(self, server: Hashable, now_ms: int) -> Rest | None:
        """How long a server is left alone."""
        outage = self._of.get(server)
        if outage is None or outage.rest is None or outage.rest.is_over(now_ms):
            return None
        return outage.rest


def _kind(error: Exception) -> FailureKind:
    if isinstance(error, Unreachable):
        return "unreachable"
    if isinstance(error, NotAuthorised):
        return "unauthorised"
    if isinstance(error, Conflict):
        return "conflict"
    return "refused" if isinstance(error, PermanentSendError) else "error"


def _reason(error: Exception) -> str:
    text = str(error) if isinstance(error, SendError) else f"{type(error).__name__}: {error}"
    return text.encode("utf-8", "replace").decode()[:LONGEST_REASON]
