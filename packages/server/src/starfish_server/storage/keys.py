"""One rule for keys, the same in every store.

A key that one store takes and another refuses would tie an application to the first. The rule is
what S3, a file system and a URL path can all hold.
"""

from __future__ import annotations

import re

from starfish_server.errors import InvalidKeyError

__all__ = (
    "KEY_RULE",
    "MAX_KEY_BYTES",
    "check_key",
    "check_prefix",
    "is_legal_key",
    "prefix_upper_bound",
)

MAX_KEY_BYTES = 1024
"""Bytes of UTF-8 in a key: the limit of S3, the tightest of the storages in use."""

KEY_RULE = (
    f"a key is 1 to {MAX_KEY_BYTES} bytes of UTF-8, segments joined by single slashes, none of "
    "them empty, '.' or '..', without control characters and lone surrogates"
)
"""The rule in words; `InvalidKeyError.rule`."""

_NEVER = r"\x00-\x1f\x7f-\x9f\ud800-\udfff"
_SEGMENT = rf"(?!\.{{1,2}}(?:/|\Z))[^/{_NEVER}]+"
_KEY = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*\Z")
_IN_NO_KEY = re.compile(rf"[{_NEVER}]")
_MAX_CODE_POINT = "\U0010ffff"


def is_legal_key(key: str) -> bool:
    """Whether a store takes the key.

    Examples:
        >>> is_legal_key("notes/ada"), is_legal_key("/notes/ada")
        (True, False)
    """
    return _KEY.match(key) is not None and (
        len(key) <= MAX_KEY_BYTES // 4 or len(key.encode()) <= MAX_KEY_BYTES
    )


def check_key(key: str) -> str:
    """Return the key if it keeps the rule.

    Raises:
        InvalidKeyError: it is not; the error states the rule.

    Examples:
        >>> check_key("notes/ada")
        'notes/ada'
        >>> check_key("notes/../ada")
        Traceback (most recent call last):
        ...
        starfish_server.errors.InvalidKeyError: key 'notes/../ada' is refused: a key is ...
    """
    if not is_legal_key(key):
        raise InvalidKeyError(key, KEY_RULE)
    return key


def check_prefix(text: str) -> str:
    """Return what `list_keys` takes as prefix or as start, if a key could begin with its characters.

    Raises:
        InvalidKeyError: it holds a control character or a lone surrogate.
    """
    if _IN_NO_KEY.search(text) is not None:
        raise InvalidKeyError(text, KEY_RULE)
    return text


def prefix_upper_bound(prefix: str) -> str | None:
    """The least text greater than every text with this prefix; ``None`` when there is none.

    Examples:
        >>> prefix_upper_bound("notes/")
        'notes0'
        >>> prefix_upper_bound("a\U0010ffff")
        'b'
        >>> prefix_upper_bound("") is None
        True
    """
    stem = prefix.rstrip(_MAX_CODE_POINT)
    if not stem:
        return None
    successor = ord(stem[-1]) + 1
    if 0xD800 <= successor <= 0xDFFF:  # surrogates have no UTF-8 form
        successor = 0xE000
    return stem[:-1] + chr(successor)
