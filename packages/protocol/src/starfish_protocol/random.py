"""Identifiers that nobody can guess, and names that fit into a path."""

from __future__ import annotations

import re
import secrets
import unicodedata

__all__ = ("random_id", "slugify")

_LONGEST_SLUG = 40


def random_id() -> str:
    """Make 32 hex digits of 128 random bits.

    Examples:
        >>> len(random_id())
        32
    """
    return secrets.token_hex(16)


def slugify(name: str, fallback: str = "item") -> str:
    """Make a part of a path of a name: at most 40 of ``[a-z0-9-]``.

    Accents are folded here and dropped in JavaScript, so never derive an address from it.

    Args:
        name: any text.
        fallback: taken when nothing is left of the name.

    Examples:
        >>> slugify("My Café"), slugify("日本")
        ('my-cafe', 'item')
    """
    folded = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub("[^a-z0-9]+", "-", folded).strip("-")[:_LONGEST_SLUG] or fallback
