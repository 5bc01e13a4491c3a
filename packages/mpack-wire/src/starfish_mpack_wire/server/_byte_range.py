"""The one form of ``Range`` that a download needs (RFC 9110, 14.1.2)."""

from __future__ import annotations

import re

__all__ = ("parse_range",)

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.ASCII)


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The bytes that are asked for, from the first up to the one after the last.

    Returns:
        ``None`` for all of them: there is no header, or one that is not a single range of bytes. An empty
        range when it begins behind the end: that is 416.

    Examples:
        >>> parse_range("bytes=2-4", 10), parse_range("bytes=7-", 10), parse_range("bytes=-3", 10)
        ((2, 5), (7, 10), (7, 10))
        >>> parse_range("bytes=10-", 10), parse_range("bytes=0-1,3-4", 10), parse_range(None, 10)
        ((10, 10), None, None)
    """
    found = _RANGE.fullmatch(header.strip()) if header is not None else None
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        return max(0, size - int(found[2])), size
    start = int(found[1])
    if found[2] and int(found[2]) < start:
        return None
    end = min(size, int(found[2]) + 1) if found[2] else size
    return min(start, size), end
