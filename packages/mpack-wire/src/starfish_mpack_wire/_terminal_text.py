"""Text from a peer, made safe to print: no control character of a message moves the cursor.

Taken away: C0 and C1 controls (so no escape sequence begins), DEL, and the characters that
turn the direction of what follows or cannot be seen; each becomes U+FFFD, so that the
reader sees that something was there.
"""

from __future__ import annotations

import unicodedata

__all__ = ("terminal_line", "terminal_text")

REPLACEMENT = "\ufffd"
REFUSED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Controls, invisible formatting, lone surrogates, line and paragraph separators."""
KEPT = frozenset({"\u200c", "\u200d"})
"""Joiners, without which several scripts and emoji read wrong; they move nothing."""


def terminal_text(text: str) -> str:
    r"""Text of several lines without what a terminal would obey; line ends and tabs are kept.

    Examples:
        >>> terminal_text("red \x1b[31m\nnext")
        'red �[31m\nnext'
    """
    return _cleaned(text, "\n\t")


def terminal_line(text: str) -> str:
    r"""The same for one line: a name, a subject; line ends are taken away too.

    Examples:
        >>> terminal_line("main\r\x1b]0;title\x07")
        'main��]0;title�'
    """
    return _cleaned(text, "")


def _cleaned(text: str, allowed: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character
        if character in allowed
        or character in KEPT
        or unicodedata.category(character) not in REFUSED_CATEGORIES
        else REPLACEMENT
        for character in text
    )
