"""The default clock; code that needs the time takes a function of this shape."""

from __future__ import annotations

import time


def system_now_ms() -> int:
    """Milliseconds since the epoch, UTC."""
    return time.time_ns() // 1_000_000


def system_since_boot_ms() -> int:
    """Milliseconds on the clock of the machine, the same in each of its processes; nobody sets it."""
    return time.monotonic_ns() // 1_000_000
