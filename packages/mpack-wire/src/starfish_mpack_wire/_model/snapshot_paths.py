"""Which paths a snapshot may hold.

Relative, with ``/`` between parts; no part is empty, ``.`` or ``..``; no NUL, no backslash; UTF-8 of
at most 4,096 bytes. Names in NFC and NFD are two names: bytes decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import ge

from starfish_mpack_wire.errors import MPackFormatError

__all__ = ("MAX_PATH_BYTES", "check_path", "check_paths", "join_paths", "split_paths")

MAX_PATH_BYTES = 4_096
"""Longest path in UTF-8, as POSIX systems have it."""

_ALLOWED = (
    "it must be a relative path with / between parts, none of them empty, . or .., "
    f"no NUL, no backslash, at most {MAX_PATH_BYTES} bytes of UTF-8"
)


def check_path(path: str) -> str:
    """Give the path back when a snapshot may hold it.

    Raises:
        MPackFormatError: it may not.

    Examples:
        >>> check_path("docs/read me.txt")
        'docs/read me.txt'
        >>> check_path("../etc/passwd")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        starfish_mpack_wire.errors.MPackFormatError: '../etc/passwd' is not a path of a snapshot; ...
    """
    if type(path) is not str or not _all_legal((path,)):
        raise MPackFormatError(f"{path!r:.200} is not a path of a snapshot; {_ALLOWED}")
    return path


def check_paths(paths: Sequence[str]) -> None:
    """Return if each of many paths may be held; one pass for all of them.

    Raises:
        MPackFormatError: one may not; the message names it.
    """
    try:
        legal = _all_legal(paths)
    except TypeError:
        legal = False
    if not legal:
        for path in paths:
            check_path(path)


def _all_legal(paths: Sequence[str]) -> bool:
    if not paths:
        return True
    joined = "\0".join(paths)
    if joined.count("\0") != len(paths) - 1:
        return False
    parts = "/" + joined.replace("\0", "/") + "/"
    if "//" in parts or "/./" in parts or "/../" in parts or "\\" in parts:
        return False
    try:
        size = len(joined.encode())
    except UnicodeEncodeError:
        return False
    if size <= MAX_PATH_BYTES or 4 * max(map(len, paths)) <= MAX_PATH_BYTES:
        return True
    return max(map(_utf8_length, paths)) <= MAX_PATH_BYTES


def _utf8_length(path: str) -> int:
    return len(path.encode())


def join_paths(paths: Sequence[str]) -> str:
    """Give many paths as one text, NUL between them; no paths are the empty text."""
    return "\0".join(paths)


def split_paths(text: str) -> list[str]:
    """Undo `join_paths`, and check that the paths are in order and different; their form is not looked at.

    Raises:
        MPackFormatError: they are not.
    """
    if not text:
        return []
    paths = text.split("\0")
    if any(map(ge, paths, paths[1:])):
        raise MPackFormatError("paths of a snapshot are out of order, or one stands there twice")
    return paths
