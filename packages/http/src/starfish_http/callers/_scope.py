"""Which documents a credential reaches: globs over the document's key.

``*`` stands for any run of characters within a segment, ``**`` for any run at all, everything else
for itself. ``!glob`` denies the keys that it matches and all below them, whatever the order.
"""

from __future__ import annotations

from collections.abc import Sequence

from starfish_protocol.cap import path_glob_match

__all__ = ("scope_reaches",)


def scope_reaches(paths: Sequence[str] | None, key: str) -> bool:
    """Whether a scope reaches a key; ``None`` and an empty scope reach every key.

    Examples:
        >>> scope_reaches(["notes/**", "!notes/private"], "notes/a")
        True
        >>> scope_reaches(["notes/**", "!notes/private"], "notes/private/b")
        False
        >>> scope_reaches(["!notes"], "albums/1"), scope_reaches(None, "albums/1")
        (False, True)
    """
    if not paths:
        return True
    # Segments that name nothing would else slip past a denial.
    key = "/".join(segment for segment in key.split("/") if segment not in {"", "."})
    denied = (path[1:] for path in paths if path.startswith("!"))
    if any(path_glob_match(each, key) or path_glob_match(f"{each}/**", key) for each in denied):
        return False
    return any(path_glob_match(path, key) for path in paths if not path.startswith("!"))
