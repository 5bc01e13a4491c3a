"""Globs over document keys, matched with a set of states: no input makes it slow."""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ("glob_matches",)

_PART = re.compile(r"\*+|.", re.DOTALL)


def glob_matches(glob: str, target: str) -> bool:
    """Tell whether a glob matches the whole of a key, in time at most glob times key."""
    parts = _parts(glob)
    end = len(parts)
    states = _with_empty_run({0}, parts)
    for character in target:
        reached: set[int] = set()
        for state in states:
            if state == end:
                continue
            part = parts[state]
            if part == "**" or (part == "*" and character != "/"):
                reached.add(state)
            elif part == character:
                reached.add(state + 1)
        if not reached:
            return False
        states = _with_empty_run(reached, parts)
    return end in states


@lru_cache(maxsize=4096)
def _parts(glob: str) -> tuple[str, ...]:
    # Two stars or more are any run, so that no star follows a star.
    return tuple(part[:2] for part in _PART.findall(glob))


def _with_empty_run(states: set[int], parts: tuple[str, ...]) -> set[int]:
    """Add the state behind each star, which may match nothing."""
    return states | {
        state + 1 for state in states if state < len(parts) and parts[state] in {"*", "**"}
    }
