"""Arguments that every store refuses alike."""

from __future__ import annotations

from starfish_server.storage.errors import ValueTooLargeError
from starfish_server.storage.values import StoreLimits

__all__ = ("check_range", "check_size")


def check_size(key: str, size: int, limits: StoreLimits) -> None:
    """Check the length of a value.

    Raises:
        ValueTooLargeError: the store does not hold so many bytes.
    """
    if size > limits.value_bytes:
        raise ValueTooLargeError(key, size, limits.value_bytes)


def check_range(first: int, last: int | None) -> None:
    """Check the offsets of `ObjectStore.read_range`.

    Raises:
        ValueError: one is negative.
    """
    if first < 0 or (last is not None and last < 0):
        raise ValueError(f"the range {first} to {last} must not have a negative offset")
