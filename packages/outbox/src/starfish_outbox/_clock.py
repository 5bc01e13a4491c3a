"""The default clock; code that needs the time takes a function of this shape."""

from __future__ import annotations

import time


def system_now_ms() -> int:
    """Milliseconds since the epoch, UTC."""
    return time.time_ns() // 1_000_000
