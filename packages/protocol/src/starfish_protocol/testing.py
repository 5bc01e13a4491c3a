"""What tests of code that uses these packages need."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from starfish_protocol._event_source_contract import (
    AsyncEventSourceContract,
    EventSourceContract,
    ThreadSafeEventSourceContract,
)

__all__ = (
    "AsyncEventSourceContract",
    "EventSourceContract",
    "ManualClock",
    "ThreadSafeEventSourceContract",
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ManualClock:
    """A `Clock` that stands still until it is moved.

    Examples:
        >>> clock = ManualClock(1_700_000_000_000)
        >>> clock.advance(1_500)
        >>> clock.now_ms(), clock.now().isoformat(timespec="milliseconds")
        (1700000001500, '2023-11-14T22:13:21.500+00:00')
    """

    def __init__(self, now_ms: int = 0) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """Milliseconds since the epoch, UTC."""
        return self._now_ms

    def now(self) -> datetime:
        """The same moment as an aware UTC ``datetime``."""
        return _EPOCH + timedelta(milliseconds=self._now_ms)

    def advance(self, ms: int) -> None:
        """Move by some milliseconds; backwards if negative, as a corrected machine clock does."""
        self._now_ms += ms
