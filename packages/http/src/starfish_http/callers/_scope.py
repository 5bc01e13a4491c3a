"""Which documents a credential reaches: globs over the document's key.

``*`` stands for any run of characters within a segment, ``**`` for any run at all, everything else
for itself. ``!glob`` denies what it matches and all below that, whatever the order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

__all__ = ("glob_matches", "scope_reaches")

_ANY = "**"
_IN_SEGMENT = "*"


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
    if any(glob_matches(each, key) or glob_matches(f"{each}/**", key) for each in denied):
        return False
    return any(glob_matches(path, key) for path in paths if not path.startswith("!"))


def glob_matches(glob: str, key: str) -> bool:
    """Whether a glob matches all of a key, in time proportional to both lengths.

    Examples:
        >>> glob_matches("notes/*", "notes/a"), glob_matches("notes/*", "notes/a/b")
        (True, False)
        >>> glob_matches("**/*secret", "a/b/topsecret")
        True
    """
    tokens = _tokens(glob)
    positions = _with_empty_runs(tokens, [0])
    for letter in key:
        reached: list[int] = []
        for at in positions:
            if at == len(tokens):
                continue
            token = tokens[at]
            if token == _ANY or (token == _IN_SEGMENT and letter != "/"):
                reached.append(at)
            elif token == letter:
                reached.append(at + 1)
        if not reached:
            return False
        positions = _with_empty_runs(tokens, reached)
    return len(tokens) in positions


@lru_cache(maxsize=4096)
def _tokens(glob: str) -> tuple[str, ...]:
    tokens: list[str] = []
    at = 0
    while at < len(glob):
        if glob[at] != "*":
            tokens.append(glob[at])
            at += 1
        else:
            wide = glob.startswith(_ANY, at)
            tokens.append(_ANY if wide else _IN_SEGMENT)
            at += 2 if wide else 1
    return tuple(tokens)


def _with_empty_runs(tokens: Sequence[str], positions: Iterable[int]) -> set[int]:
    """Those positions, and those after stars, which may stand for nothing."""
    found: set[int] = set()
    for position in positions:
        at = position
        while at not in found:
            found.add(at)
            if at < len(tokens) and tokens[at] in {_ANY, _IN_SEGMENT}:
                at += 1
    return found
