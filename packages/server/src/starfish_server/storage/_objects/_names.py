"""Keys as names of objects.

Names of one folder, since some storages cannot hold an object ``a`` beside an object ``a/b``. Rule:
names sort as keys do, by code point, so a page of keys is a page of the storage's listing. A
character other than ``-``, digits and most letters is written as a lead character and the
hexadecimal digits of its UTF-8; the lead is the character of its part of ASCII that sorts there.
"""

from __future__ import annotations

import hashlib

__all__ = ("MAX_NAME", "bound_of", "is_cut", "name_of")

MAX_NAME = 200
"""A longer name is cut and ends in a digest: storages that keep objects as files take 255."""

_CUT = "!!"
"""Before the digest; nothing else holds it, as hexadecimal digits follow a lead."""


def _written(character: str) -> str:
    if character == "-" or (character.isascii() and character.isalnum() and character != "z"):
        return character
    digits = character.encode().hex()
    if character < "-":
        return f"!{digits}"
    if character < "0":
        return f".{digits}"
    if character < "A":
        return f":{digits}"
    return f"_{digits}" if character < "a" else f"z{digits}"


def _whole_name(text: str) -> str:
    return "".join(map(_written, text))


def name_of(key: str) -> str:
    """The name of a key's object.

    Examples:
        >>> name_of("notes/ada")
        'notes.2fada'
    """
    name = _whole_name(key)
    if len(name) <= MAX_NAME:
        return name
    return f"{name[:MAX_NAME]}{_CUT}{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def is_cut(name: str) -> bool:
    """Whether a name holds the beginning of its key only."""
    return _CUT in name


def bound_of(text: str) -> str:
    """A name below those of all keys from ``text`` on, and near them; for the start of a listing."""
    name = _whole_name(text)[:MAX_NAME]
    # The listing begins behind the bound, so it is a little less than the name itself.
    return f"{name[:-1]}{chr(ord(name[-1]) - 1)}zz" if name else ""
