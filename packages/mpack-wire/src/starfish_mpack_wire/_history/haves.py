"""Which of its commits a client offers, so that one request is enough.

A list of everything would be as long as the history; the tips alone would miss what both sides know. So a
client lists its newest commits one by one and goes on in steps that grow: whatever it holds in common with
the server, what it downloads twice is at most as much as what it did since.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ("choose_haves",)

_ONE_BY_ONE = 16


def choose_haves(tips: Iterable[str], history: Iterable[str], *, limit: int = 256) -> list[str]:
    """The commits to name in a request.

    Args:
        tips: heads of branches, tags, and commits fetched before; each is offered while the limit lasts.
        history: all commits that the client holds with their whole closure, newest first: no commit after one of
            its ancestors. It is read to its end, once.
        limit: how many to offer at most, from 1; servers refuse longer lists than theirs.

    Returns:
        No id twice; the tips, then newest first, and the oldest commit of all as long as there is room.

    Examples:
        >>> choose_haves(["c9"], [f"c{n}" for n in range(9, -1, -1)], limit=3)
        ['c9', 'c8', 'c0']
    """
    chosen = dict.fromkeys(tips)
    if len(chosen) >= limit:
        return list(chosen)[:limit]
    next_offer, step, last = 0, 1, None
    for position, commit_id in enumerate(history):
        last = commit_id
        if position < next_offer or len(chosen) >= limit - 1:
            continue
        chosen.setdefault(commit_id)
        if position >= _ONE_BY_ONE:
            step = max(1, position // _ONE_BY_ONE)
        next_offer = position + step
    if last is not None:
        chosen.setdefault(last)
    return list(chosen)
