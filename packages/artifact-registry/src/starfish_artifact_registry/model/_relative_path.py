"""Paths of files inside a package: relative, POSIX, NFC, and harmless on every system."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from starfish_artifact_registry.errors import InvalidRelativePathError

__all__ = ("MAX_PATH_BYTES", "check_relative_path")

MAX_PATH_BYTES: Final = 4096
"""Size of a path in UTF-8; what Linux calls PATH_MAX."""
_FORBIDDEN: Final = [
    (re.compile(r"\A/"), "it is absolute"),
    (re.compile(r"\A[A-Za-z]:"), "it begins with a drive"),
    (re.compile(r"\0"), "it has a NUL"),
    (re.compile(r"\\"), "it has a backslash"),
    (re.compile(r"(?:\A|/)(?=/|\Z)"), "it has an empty part"),
    (re.compile(r"(?:\A|/)\.(?:/|\Z)"), "it has a part '.'"),
    (re.compile(r"(?:\A|/)\.\.(?:/|\Z)"), "it has a part '..'"),
]


def check_relative_path(relative_path: str) -> str:
    """Return the path if a package can hold a file there.

    Nothing is normalised: a path that would have to be changed is refused, so that the named path
    is the stored one.

    Raises:
        InvalidRelativePathError: it is absolute, has a drive, a backslash, a NUL, an empty part,
            a part ``.`` or ``..``, is not NFC, is not Unicode text or longer than `MAX_PATH_BYTES`.

    Examples:
        >>> check_relative_path("logs/day-1.txt")
        'logs/day-1.txt'
        >>> check_relative_path("logs/../../etc/passwd")
        Traceback (most recent call last):
        ...
        starfish_artifact_registry.errors.InvalidRelativePathError: 'logs/../../etc/passwd' is not a path of a file in a package: it has a part '..'; it must be a relative POSIX path in NFC of at most 4096 bytes, such as 'logs/day-1.txt'
    """
    reason = _what_is_wrong(relative_path)
    if reason is not None:
        raise InvalidRelativePathError(relative_path, reason)
    return relative_path


def _what_is_wrong(path: object) -> str | None:
    if type(path) is not str:
        return f"it is of type {type(path).__name__}"
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return "it has a lone surrogate"
    if size > MAX_PATH_BYTES:
        return f"it has {size} bytes"
    for pattern, name in _FORBIDDEN:
        if pattern.search(path):
            return name
    if not unicodedata.is_normalized("NFC", path):
        return "it is not in normalization form C"
    return None
