"""The one place that reads the wall clock.

A class that needs the time takes a `Clock`, so that a test can hold it still.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

__all__ = ("Clock", "SystemClock")


class Clock(Protocol):
    """Tells the time."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch, UTC: the form that travels on the wire."""
        ...

    def now(self) -> datetime:
        """The same moment as an aware UTC ``datetime``: the form of the Python APIs."""
        ...


class SystemClock:
    """The machine's clock.

    Examples:
        >>> SystemClock().now_ms() > 1_700_000_000_000
        True
    """

    def now_ms(self) -> int:
        """Milliseconds since the epoch, UTC."""
        return time.time_ns() // 1_000_000

    def now(self) -> datetime:
        """An aware UTC ``datetime``, cut to the millisecond so that both forms agree."""
        return datetime.fromtimestamp(self.now_ms() / 1000, tz=UTC)
