"""Bodies of values, and the time, for the contracts of stores."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starfish_protocol.clock import SystemClock

__all__ = ("LARGE", "large_body", "now", "pieces")

LARGE = 3 * 2**20 + 17
"""Above every bound at which a store keeps values in another way."""


def large_body() -> bytes:
    """A body of that many bytes, no two parts of which are equal."""
    return b"".join(number.to_bytes(4, "big") for number in range(LARGE // 4 + 1))[:LARGE]


def now() -> int:
    """The time of day in milliseconds since the epoch."""
    return SystemClock().now_ms()


async def pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    """A body in pieces of one length."""
    for start in range(0, len(body), size):
        yield body[start : start + size]
