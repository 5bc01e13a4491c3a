"""Which of some commits no other of them leads to."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush

from starfish_mpack_wire._history.commit_graph import CommitNode
from starfish_mpack_wire._history.delta import NodeReader
from starfish_mpack_wire._history.reading import Steps, generations_hold

__all__ = ("maximal_commits",)


def maximal_commits(commit_ids: Iterable[str]) -> Steps[tuple[str, ...]]:  # noqa: C901 - one walk
    """Return those of some commits that are not ancestors of others, sorted: they lead to the same history.

    The walk goes down from the highest generation and ends at the lowest of the commits. Where generations do not
    hold, all are returned, which is never wrong.

    Raises:
        IncompleteHistoryError: a parent is missing.
    """
    wanted = set(commit_ids)
    if len(wanted) < 2 or not (yield from generations_hold()):
        return tuple(sorted(wanted))
    reader = NodeReader()
    yield from reader.read(wanted)
    known = reader.known
    if any(each not in known or known[each].generation is None for each in wanted):
        return tuple(sorted(wanted))
    lowest = min(known[each].generation or 0 for each in wanted)
    queue: list[tuple[int, str]] = []
    queued: set[str] = set()
    for each in wanted:
        heappush(queue, (-(known[each].generation or 0), each))
        queued.add(each)
    reached: set[str] = set()
    while queue and -queue[0][0] > lowest and len(reached) < len(wanted) - 1:
        generation = -queue[0][0]
        level: list[CommitNode] = []
        while queue and -queue[0][0] == generation:
            level.append(known[heappop(queue)[1]])
        yield from reader.read_parents(level, generation)
        for node in level:
            for parent in node.parent_ids:
                above = known[parent].generation
                if above is None or above >= generation:
                    return tuple(sorted(wanted))
                if parent in wanted:
                    reached.add(parent)
                if parent not in queued and above >= lowest:
                    queued.add(parent)
                    heappush(queue, (-above, parent))
    return tuple(sorted(wanted - reached))
