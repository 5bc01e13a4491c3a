"""``Range`` of one file (RFC 9110, section 14)."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ("ByteRange", "RangeNotSatisfiableError", "requested_range")

_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)


class RangeNotSatisfiableError(Exception):
    """None of the bytes that were asked for exist."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Some of the bytes of a file, at least one."""

    start: int
    """The first byte."""
    end: int
    """The byte after the last one."""

    def content_range(self, size: int) -> str:
        """The header of the answer that carries it."""
        return f"bytes {self.start}-{self.end - 1}/{size}"


def requested_range(header: str | None, size: int) -> ByteRange | None:
    """The range that a request asks for, ``None`` for the whole file.

    A header that is not a range of bytes, or that names several, is ignored, as the standard allows.

    Raises:
        RangeNotSatisfiableError: it begins after the last byte, or asks for the last 0 bytes.

    Examples:
        >>> requested_range("bytes=-3", 10)
        ByteRange(start=7, end=10)
        >>> requested_range("bytes=2-", 10)
        ByteRange(start=2, end=10)
        >>> requested_range("lines=1-2", 10) is None
        True
    """
    found = None if header is None else _RANGE.fullmatch(header)
    if found is None:
        return None
    first, last = found.groups()
    if not first and not last:
        return None
    if not first:
        wanted = ByteRange(max(size - int(last), 0), size)
    elif last and int(last) < int(first):
        return None
    else:
        wanted = ByteRange(int(first), min(int(last) + 1, size) if last else size)
    if wanted.start >= wanted.end:
        raise RangeNotSatisfiableError
    return wanted
