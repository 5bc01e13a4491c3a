"""When a request is made again, and after how long: pure, but for the sleep that is handed in."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ("RetryPolicy", "retry_after_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How patient a client is.

    Examples:
        >>> RetryPolicy(rng=random.Random(7)).delay_s(1, asked_for_s=2.0)
        2.0
    """

    attempts: int = 8
    """Requests in a row that may fail, the first one included; a download that gets further begins to count anew."""
    first_delay_s: float = 0.1
    """Longest pause before the second attempt; it doubles from there."""
    longest_delay_s: float = 10.0
    """Longest pause that the client chooses itself."""
    longest_retry_after_s: float = 60.0
    """A server that asks for more is asked again after this."""
    sleep: Callable[[float], None] = time.sleep
    """Waits; a test hands in one that does not."""
    rng: random.Random = field(default_factory=random.Random)
    """Spreads clients that failed together."""

    def delay_s(self, attempt: int, *, asked_for_s: float | None = None) -> float:
        """Seconds to wait after attempt number ``attempt`` (from 1) failed."""
        if asked_for_s is not None:
            return min(asked_for_s, self.longest_retry_after_s)
        most = min(self.first_delay_s * 2 ** (attempt - 1), self.longest_delay_s)
        return self.rng.uniform(most / 2, most)


def retry_after_s(header: str | None, now: Callable[[], datetime]) -> float | None:
    """Seconds that a ``Retry-After`` asks for (RFC 9110, 10.2.3); ``None`` without a legal one.

    Examples:
        >>> retry_after_s("3", lambda: datetime.now(UTC)), retry_after_s("soon", lambda: datetime.now(UTC))
        (3.0, None)
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now()).total_seconds())
