"""``Range`` (RFC 9110, section 14): one range of bytes, which is all that a download needs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.types import Scope

from starfish_http.errors import RequestRefusedError

__all__ = ("ByteRange", "range_of", "requested_range")

_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Some of the bytes of a content, at least one."""

    start: int
    """The first byte."""
    end: int
    """The byte after the last one."""

    def content_range(self, size: int) -> str:
        """The header of the answer that carries it."""
        return f"bytes {self.start}-{self.end - 1}/{size}"


def requested_range(header: str | None, size: int) -> ByteRange | None:
    """The range that a header asks for, ``None`` for the whole content.

    A header that is not a range of bytes, or that names several, is ignored, as the standard allows.

    Raises:
        RequestRefusedError: 416, it begins after the last byte, or asks for the last 0 bytes.

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
        raise RequestRefusedError(
            416,
            "range_not_satisfiable",
            f"the content has {size} bytes, the range {header!r:.60} has none of them",
            headers={"content-range": f"bytes */{size}"},
        )
    return wanted


def range_of(scope: Scope, size: int, etag: bytes | None = None) -> ByteRange | None:
    """The range that a request asks for, ``None`` for the whole content.

    Only ``GET`` has ranges. Two lines of ``Range`` are ignored, and so is one whose ``If-Range`` is
    not this very tag: dates and weak tags never match.

    Args:
        scope: of the request.
        size: of the content, in bytes.
        etag: its strong tag, in quotes.

    Raises:
        RequestRefusedError: 416, as `requested_range`.
    """
    if scope["method"] != "GET":
        return None
    lines = [value for name, value in scope["headers"] if name == b"range"]
    conditions = [value.strip() for name, value in scope["headers"] if name == b"if-range"]
    if len(lines) != 1 or (conditions and conditions != [etag]):
        return None
    return requested_range(lines[0].decode("latin-1"), size)
