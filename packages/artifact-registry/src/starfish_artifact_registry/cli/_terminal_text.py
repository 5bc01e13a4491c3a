"""Names that somebody else chose, made safe for a terminal."""

from __future__ import annotations

__all__ = ("printable", "readable_size")

_UNITS = ("KiB", "MiB", "GiB", "TiB")


def printable(text: str) -> str:
    r"""The text with everything escaped that could move a cursor or hide: controls, bidi, newlines.

    Examples:
        >>> print(printable("a\x1b[2Jb\nc"))
        a\x1b[2Jb\nc
        >>> print(printable("Zoë 試 ok"))
        Zoë 試 ok
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else repr(character)[1:-1] for character in text
    )


def readable_size(size: int) -> str:
    """A number of bytes for people.

    Examples:
        >>> readable_size(999), readable_size(1536), readable_size(3 * 1024**3)
        ('999 B', '1.5 KiB', '3.0 GiB')
    """
    if size < 1024:
        return f"{size} B"
    amount = float(size)
    for unit in _UNITS:
        amount /= 1024
        if amount < 1024 or unit == _UNITS[-1]:
            return f"{amount:.1f} {unit}"
    raise AssertionError  # the last unit takes any amount
