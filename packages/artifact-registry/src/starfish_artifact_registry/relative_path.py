"""Paths of files inside a package: relative, POSIX, NFC, and harmless on every system."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from starfish_artifact_registry.errors import InvalidRelativePathError

__all__ = ("MAX_PATH_BYTES", "check_relative_path")

MAX_PATH_BYTES: Final = 4096
"""Size of a path in UTF-8; what Linux calls PATH_MAX."""
_DRIVE: Final = re.compile("[A-Za-z]:")


def check_relative_path(relative_path: str) -> str:
    """Return the path if a package can hold a file there.

    Nothing is normalised: a path that would have to be changed is refused, so that what was named
    is what is stored.

    Raises:
        InvalidRelativePathError: it is absolute, has a drive, a backslash, a NUL, an empty part,
            a part ``.`` or ``..``, is not NFC, is no Unicode text or longer than `MAX_PATH_BYTES`.

    Examples:
        >>> check_relative_path("logs/day-1.txt")
        'logs/day-1.txt'
        >>> check_relative_path("logs/../../etc/passwd")
        Traceback (most recent call last):
        ...
        starfish_artifact_registry.errors.InvalidRelativePathError: 'logs/../../etc/passwd' is no path of a file in a package: it has a part '..'; legal is a relative POSIX path in NFC of at most 4096 bytes, such as 'logs/day-1.txt'
    """
    reason = _what_is_wrong(relative_path)
    if reason is not None:
        raise InvalidRelativePathError(relative_path, reason)
    return relative_path


def _what_is_wrong(path: object) -> str | None:  # noqa: PLR0911 - one return for each rule
    if type(path) is not str:
        return f"it is of type {type(path).__name__}"
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return "it has a lone surrogate"
    if size > MAX_PATH_BYTES:
        return f"it has {size} bytes"
    for character, name in (("\0", "a NUL"), ("\\", "a backslash")):
        if character in path:
            return f"it has {name}"
    if path.startswith("/"):
        return "it is absolute"
    if _DRIVE.match(path):
        return "it begins with a drive"
    for part in path.split("/"):
        if part in {"", ".", ".."}:
            return f"it has a part {part!r}" if part else "it has an empty part"
    if not unicodedata.is_normalized("NFC", path):
        return "it is not in normalization form C"
    return None
