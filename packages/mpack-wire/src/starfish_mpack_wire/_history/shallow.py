"""Fetching a part of the history: the newest commits only, and going on from such a part.

A commit whose parents the client lacks is *shallow*. Seen from there, the history is grafted: shallow
commits have no parents, and nothing above them counts as held.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from starfish_mpack_wire._history.commit_graph import CommitNode
from starfish_mpack_wire._history.delta import (
    Delta,
    NodeReader,
    compute_delta,
    topological_order,
)
from starfish_mpack_wire._history.reading import Steps, generations_hold, graft
from starfish_mpack_wire.errors import ObjectNotFoundError

__all__ = ("ShallowDelta", "compute_shallow_delta")


@dataclass(frozen=True, slots=True)
class ShallowDelta:
    """What to send, and where the receiver's history ends then."""

    delta: Delta
    shallow: tuple[str, ...]
    """Commits that the receiver holds without all their parents from now on, sorted."""
    unshallow: tuple[str, ...]
    """Commits of the receiver's list whose parents it holds now, sorted."""


def compute_shallow_delta(
    want: Iterable[str],
    have: Iterable[str] = (),
    *,
    shallow: Collection[str] = (),
    depth: int | None = None,
) -> Steps[ShallowDelta]:
    """What a client lacks whose history may end early, or shall.

    Args:
        want: commits that are asked for.
        have: commits that the receiver holds with all their ancestors down to its shallow ones.
        shallow: commits that it holds without their parents; unknown ones are ignored.
        depth: how many commits to go down from each want, itself included; ``None`` goes down to the
            receiver's shallow commits and leaves them as they are.

    Raises:
        ObjectNotFoundError: a want is not in the graph.
        IncompleteHistoryError: a parent has no row.
        DamagedHistoryError: a commit is its own ancestor.
    """
    wants, haves, ends = list(want), list(have), frozenset(shallow)
    if depth is None:
        delta = yield from graft(compute_delta(wants, haves), ends)
        return ShallowDelta(delta, tuple(sorted(ends)), ())
    reader = NodeReader()
    near = yield from _within(reader, wants, depth)
    yield from reader.read(ends)
    old_ends = {commit_id: reader.known[commit_id] for commit_id in ends & reader.known.keys()}
    asked_for = near.keys() | {
        parent_id for node in (*near.values(), *old_ends.values()) for parent_id in node.parent_ids
    }
    yield from reader.read(asked_for)
    asked_about = [reader.known[each] for each in asked_for if each in reader.known]
    held = yield from graft(_held(haves, asked_about), ends)
    sent = {commit_id: node for commit_id, node in near.items() if commit_id not in held}
    there = near.keys() | held
    new_ends = {
        commit_id
        for commit_id, node in (sent | old_ends).items()
        if not there.issuperset(node.parent_ids)
    }
    boundary = frozenset(
        parent_id for node in sent.values() for parent_id in node.parent_ids if parent_id in held
    )
    return ShallowDelta(
        Delta(tuple(topological_order(sent)), boundary),
        tuple(sorted(new_ends)),
        tuple(sorted(old_ends.keys() - new_ends)),
    )


def _within(reader: NodeReader, wants: Iterable[str], depth: int) -> Steps[dict[str, CommitNode]]:
    """The commits at most so many steps from a want."""
    level = list(dict.fromkeys(wants))
    yield from reader.read(level)
    for commit_id in level:
        if commit_id not in reader.known:
            raise ObjectNotFoundError(commit_id)
    near: dict[str, CommitNode] = {}
    for steps in range(depth):
        near.update((commit_id, reader.known[commit_id]) for commit_id in level)
        nodes = [reader.known[commit_id] for commit_id in level]
        parents = dict.fromkeys(parent_id for node in nodes for parent_id in node.parent_ids)
        level = [parent_id for parent_id in parents if parent_id not in near]
        if not level or steps == depth - 1:
            break
        yield from reader.read_parents(nodes, max(node.generation or 0 for node in nodes))
    return near


def _held(have: Iterable[str], asked_for: Collection[CommitNode]) -> Steps[set[str]]:
    """Commits that a receiver holds: all those that are asked about, and some others."""
    hold = yield from generations_hold()
    lowest = min((node.generation or 0 for node in asked_for), default=0) if hold else 0
    reader = NodeReader()
    haves = list(have)
    yield from reader.read(haves)
    level = [
        reader.known[commit_id] for commit_id in dict.fromkeys(haves) if commit_id in reader.known
    ]
    held: set[str] = {node.commit_id for node in level}
    while level:
        level = [node for node in level if (node.generation or 0) > lowest or not hold]
        yield from reader.read_parents(
            level, max((node.generation or 0 for node in level), default=0)
        )
        parents = dict.fromkeys(parent_id for node in level for parent_id in node.parent_ids)
        level = [reader.known[parent_id] for parent_id in parents if parent_id not in held]
        held.update(node.commit_id for node in level)
    return held
