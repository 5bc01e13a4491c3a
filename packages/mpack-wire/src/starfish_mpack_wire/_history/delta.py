"""Which commits a fetch sends: ancestors of the wants without ancestors of the haves, exactly.

The usual walk goes down by generation and paints what it meets as wanted, as held, or as both; it ends when
nothing that is wanted alone is left to look at, so its cost is that of the difference and not of
the history. It is right only while generations hold. Where they do not, both sets of ancestors are
computed in full.

Rule 1: a parent that has no row ends the walk with an error; a set that may be too small is never an
answer. Rule 2: no read is for one commit when it can be for many.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from starfish_mpack_wire._history.commit_graph import CommitNode
from starfish_mpack_wire._history.reading import (
    Steps,
    every_node,
    generations_hold,
    nodes,
    nodes_below,
)
from starfish_mpack_wire.errors import (
    DamagedHistoryError,
    IncompleteHistoryError,
    ObjectNotFoundError,
)

__all__ = ("Delta", "NodeReader", "compute_delta", "full_delta", "is_ancestor", "topological_order")

_WANTED = 1
_HELD = 2
_FIRST_READ_AHEAD = 32
_MOST_READ_AHEAD = 16_384


@dataclass(frozen=True, slots=True)
class Delta:
    """What to send, and what it is built on."""

    commit_ids: tuple[str, ...]
    """Parents before children."""
    boundary: frozenset[str]
    """Parents of sent commits that are not sent: the receiver holds them."""


class _GenerationsDoNotHoldError(Exception):
    """The walk met a commit that is not above its parents."""


class NodeReader:
    """Reads nodes at most once, further ahead the longer a walk lasts."""

    def __init__(self) -> None:
        self._read_ahead = _FIRST_READ_AHEAD
        self.known: dict[str, CommitNode] = {}
        """All that was read."""

    def read(self, commit_ids: Iterable[str]) -> Steps[None]:
        """Have these in `known`, as far as there are such commits."""
        missing = [commit_id for commit_id in commit_ids if commit_id not in self.known]
        if missing:
            self.known.update((yield from nodes(missing)))

    def read_parents(self, children: Collection[CommitNode], generation: int) -> Steps[None]:
        """Have the parents of commits of this generation in `known`.

        Raises:
            IncompleteHistoryError: one has no row.
        """
        missing = self._missing(children)
        if missing:
            for node in (yield from nodes_below(generation, self._read_ahead)):
                self.known.setdefault(node.commit_id, node)
            self._read_ahead = min(2 * self._read_ahead, _MOST_READ_AHEAD)
            yield from self.read(missing)
            for parent_id, child_id in self._missing(children).items():
                raise IncompleteHistoryError("commit", parent_id, child_id)

    def _missing(self, children: Collection[CommitNode]) -> dict[str, str]:
        return {
            parent_id: child.commit_id
            for child in children
            for parent_id in child.parent_ids
            if parent_id not in self.known
        }


def compute_delta(want: Iterable[str], have: Iterable[str] = ()) -> Steps[Delta]:
    """Commits that are reachable from a want and not from a have.

    Args:
        want: commits that are asked for.
        have: commits that the receiver holds with all their ancestors; unknown ones are ignored.

    Raises:
        ObjectNotFoundError: a want is not in the graph.
        IncompleteHistoryError: a parent has no row.
        DamagedHistoryError: a commit is its own ancestor.
    """
    wants, haves = dict.fromkeys(want), dict.fromkeys(have)
    if (yield from generations_hold()):
        try:
            return (yield from _paint_down(wants, haves))
        except _GenerationsDoNotHoldError:
            pass
    return full_delta((yield from every_node()), wants, haves)


def is_ancestor(ancestor: str, of: str) -> Steps[bool]:
    """Whether one commit is reachable from the other; each is its own ancestor.

    Raises:
        ObjectNotFoundError: `ancestor` is not in the graph.
        IncompleteHistoryError: a parent has no row.
        DamagedHistoryError: a commit is its own ancestor.
    """
    return not (yield from compute_delta([ancestor], [of])).commit_ids


class _Painting:
    """Commits by colour, and a queue of those whose parents were not looked at yet."""

    def __init__(self, known: Mapping[str, CommitNode]) -> None:
        self._known = known
        self._colours: dict[str, int] = {}
        self._queue: list[tuple[int, str]] = []
        self.wanted_alone = 0
        """How many in the queue are wanted and not held."""

    def add(self, commit_id: str, colour: int) -> None:
        """Paint a commit over; in the queue it stands once."""
        before = self._colours.get(commit_id, 0)
        if not before:
            heappush(self._queue, (-_generation(self._known[commit_id]), commit_id))
        after = before | colour
        self.wanted_alone += (after == _WANTED) - (before == _WANTED)
        self._colours[commit_id] = after

    def take_level(self) -> tuple[int, list[CommitNode]]:
        """The highest generation in the queue and its commits, whose colours are final."""
        negative = self._queue[0][0]
        level: list[CommitNode] = []
        while self._queue and self._queue[0][0] == negative:
            level.append(self._known[heappop(self._queue)[1]])
        self.wanted_alone -= sum(self.colour(node) == _WANTED for node in level)
        return -negative, level

    def colour(self, node: CommitNode) -> int:
        """What it was painted with so far."""
        return self._colours[node.commit_id]


def _paint_down(want: Collection[str], have: Collection[str]) -> Steps[Delta]:
    reader = NodeReader()
    yield from reader.read([*want, *have])
    painting = _Painting(reader.known)
    for commit_id in want:
        if commit_id not in reader.known:
            raise ObjectNotFoundError(commit_id)
        painting.add(commit_id, _WANTED)
    for commit_id in have:
        if commit_id in reader.known:
            painting.add(commit_id, _HELD)
    levels: list[list[str]] = []
    while painting.wanted_alone:
        generation, level = painting.take_level()
        yield from reader.read_parents(level, generation)
        for node in level:
            for parent_id in node.parent_ids:
                if _generation(reader.known[parent_id]) >= generation:
                    raise _GenerationsDoNotHoldError
                painting.add(parent_id, painting.colour(node))
        levels.append(sorted(node.commit_id for node in level if painting.colour(node) == _WANTED))
    # A generation is above those of all ancestors, so its order is a topological one.
    return _delta_of([each for level in reversed(levels) for each in level], reader.known)


def full_delta(
    nodes: Mapping[str, CommitNode], want: Iterable[str], have: Iterable[str] = ()
) -> Delta:
    """The same from the whole history, whatever its generations say.

    Examples:
        >>> from starfish_mpack_wire._history.commit_graph import InMemoryCommitGraph
        >>> graph = InMemoryCommitGraph.of({"a": (), "b": ("a",), "c": ("b",)})
        >>> full_delta(graph.by_id, want=["c"], have=["a"])
        Delta(commit_ids=('b', 'c'), boundary=frozenset({'a'}))

    Raises:
        ObjectNotFoundError: a want is not there.
        IncompleteHistoryError: a parent is not there.
        DamagedHistoryError: a commit is its own ancestor.
    """
    wants = list(want)
    for commit_id in wants:
        if commit_id not in nodes:
            raise ObjectNotFoundError(commit_id)
    wanted = _ancestors(nodes, wants)
    held = _ancestors(nodes, (commit_id for commit_id in have if commit_id in nodes))
    in_order = topological_order({commit_id: nodes[commit_id] for commit_id in wanted | held})
    return _delta_of([each for each in in_order if each in wanted and each not in held], nodes)


def _ancestors(nodes: Mapping[str, CommitNode], of: Iterable[str]) -> set[str]:
    found = set(of)
    stack = list(found)
    while stack:
        child_id = stack.pop()
        for parent_id in nodes[child_id].parent_ids:
            if parent_id not in nodes:
                raise IncompleteHistoryError("commit", parent_id, child_id)
            if parent_id not in found:
                found.add(parent_id)
                stack.append(parent_id)
    return found


def topological_order(nodes: Mapping[str, CommitNode]) -> list[str]:
    """Parents before children; of those that could come next, the lowest id.

    Parents that are not among the nodes do not count.

    Raises:
        DamagedHistoryError: a commit is its own ancestor.
    """
    children: dict[str, list[str]] = {}
    waiting: dict[str, int] = {}
    for commit_id, node in nodes.items():
        inside = {parent_id for parent_id in node.parent_ids if parent_id in nodes}
        waiting[commit_id] = len(inside)
        for parent_id in inside:
            children.setdefault(parent_id, []).append(commit_id)
    ready = [commit_id for commit_id, count in waiting.items() if count == 0]
    heapify(ready)
    in_order: list[str] = []
    while ready:
        commit_id = heappop(ready)
        in_order.append(commit_id)
        for child_id in children.get(commit_id, ()):
            waiting[child_id] -= 1
            if waiting[child_id] == 0:
                heappush(ready, child_id)
    if len(in_order) < len(nodes):
        stuck = min(commit_id for commit_id, count in waiting.items() if count)
        raise DamagedHistoryError(stuck, "it is, or comes after, a commit that is its own ancestor")
    return in_order


def _delta_of(in_order: list[str], nodes: Mapping[str, CommitNode]) -> Delta:
    sent = set(in_order)
    boundary = {parent for each in in_order for parent in nodes[each].parent_ids} - sent
    return Delta(tuple(in_order), frozenset(boundary))


def _generation(node: CommitNode) -> int:
    if node.generation is None:
        raise _GenerationsDoNotHoldError
    return node.generation
