"""How many requests a caller may send: a bucket of tokens each, in this process."""

from __future__ import annotations

import math
from collections import OrderedDict

from starfish_mpack_wire.server.errors import RateLimitedError
from starfish_protocol.clock import Clock

__all__ = ("RateLimiter",)

_MOST_CALLERS = 100_000


class RateLimiter:
    """Refuses requests beyond so many a minute; a burst of a minute's worth is let through.

    Args:
        per_minute: requests of one caller; 0 for no limit.
        clock: what refills the buckets.
    """

    def __init__(self, per_minute: int, clock: Clock) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def take(self, caller: str) -> None:
        """Count one request.

        Raises:
            RateLimitedError: it is one too many; it was not counted.
        """
        if self._per_minute == 0:
            return
        now = self._clock.now_ms()
        left, since = self._buckets.get(caller, (float(self._per_minute), now))
        each_ms = 60_000 / self._per_minute
        left = min(float(self._per_minute), left + max(0, now - since) / each_ms)
        if left < 1:
            raise RateLimitedError(max(1, math.ceil((1 - left) * each_ms / 1000)))
        self._buckets[caller] = (left - 1, now)
        self._buckets.move_to_end(caller)
        while len(self._buckets) > _MOST_CALLERS:
            self._buckets.popitem(last=False)
