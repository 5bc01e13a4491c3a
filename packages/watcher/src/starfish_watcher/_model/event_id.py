"""UUID version 7 (RFC 9562) from a given clock; the standard library has one from 3.14 on."""

from __future__ import annotations

import os
import threading
from typing import Final

from starfish_protocol.clock import Clock

__all__ = ("EventIdSource",)

MAX_MS: Final = (1 << 48) - 1
"""The last millisecond that an id can carry, in the year 10889."""


class EventIdSource:
    """Makes ids whose order is the order in which they were made.

    Within a millisecond, and when the clock steps back, the 74 random bits count upwards (RFC 9562
    section 6.2, method 2); each new millisecond starts them at random, with the top bit clear.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # A clock before the epoch counts as the epoch.
        self._ms = 0
        self._counter = int.from_bytes(os.urandom(9))

    def seen(self, event_id: bytes) -> None:
        """From now on only make ids above ``event_id``, 16 bytes of a UUID version 7."""
        value = int.from_bytes(event_id)
        ms, counter = value >> 80, (value >> 64 & 0xFFF) << 62 | (value & ((1 << 62) - 1))
        with self._lock:
            self._ms, self._counter = max((self._ms, self._counter), (ms, counter))

    def next(self) -> bytes:
        """16 bytes, greater than all before."""
        now = min(self._clock.now_ms(), MAX_MS)
        with self._lock:
            if now > self._ms:
                self._ms = now
                self._counter = int.from_bytes(os.urandom(10)) & ((1 << 73) - 1)
            else:
                self._counter += 1
            upper, lower = self._counter >> 62, self._counter & ((1 << 62) - 1)
            value = self._ms << 80 | 0x7 << 76 | upper << 64 | 0b10 << 62 | lower
        return value.to_bytes(16)
