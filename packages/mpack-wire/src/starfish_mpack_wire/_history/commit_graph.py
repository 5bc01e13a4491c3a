"""What negotiation knows of a history: ids, parents, generations.

A commit without parents has generation 1, every other one more than its highest parent has. While that
holds, a walk from the highest generation downwards meets each commit after all its children, and
can stop as soon as nothing new can come.

"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from heapq import nlargest

__all__ = ("CommitNode", "InMemoryCommitGraph", "generation_of")


@dataclass(frozen=True, slots=True)
class CommitNode:
    """One commit, as far as negotiation looks at it."""

    commit_id: str
    parent_ids: tuple[str, ...]
    """First parent first, as in the record."""
    generation: int | None
    """``None`` when nobody has computed it."""


class InMemoryCommitGraph:
    """A history that is all there: for clients, and for tests.

    Examples:
        >>> graph = InMemoryCommitGraph.of({"a": (), "b": ("a",)})
        >>> {node.commit_id: node.generation for node in graph.by_id.values()}
        {'a': 1, 'b': 2}
    """

    def __init__(self, nodes: Iterable[CommitNode]) -> None:
        self.by_id = {node.commit_id: node for node in nodes}
        """All commits."""

    @classmethod
    def of(cls, parents: Mapping[str, Iterable[str]]) -> InMemoryCommitGraph:
        """A history from the parents of each commit; generations are computed where they can be."""
        generations: dict[str, int | None] = {}
        for start in parents:
            stack = [start]
            while stack:
                commit_id = stack[-1]
                above = [parent for parent in parents.get(commit_id, ()) if parent in parents]
                if commit_id not in generations:
                    generations[commit_id] = None  # also what a cycle leaves behind
                    stack.extend(parent for parent in above if parent not in generations)
                    if stack[-1] != commit_id:
                        continue
                stack.pop()
                if generations[commit_id] is None:
                    generations[commit_id] = generation_of(generations[each] for each in above)
        return cls(
            CommitNode(commit_id, tuple(above), generations[commit_id])
            for commit_id, above in parents.items()
        )

    def generations_hold(self) -> bool:
        """Compares each commit with its parents."""
        for node in self.by_id.values():
            if node.generation is None:
                return False
            for parent_id in node.parent_ids:
                parent = self.by_id.get(parent_id)
                if parent is not None and (
                    parent.generation is None or parent.generation >= node.generation
                ):
                    return False
        return True

    def nodes(self, commit_ids: Collection[str]) -> Mapping[str, CommitNode]:
        """The commits of these ids that are there."""
        return {each: self.by_id[each] for each in commit_ids if each in self.by_id}

    def nodes_below(self, generation: int, limit: int) -> Iterable[CommitNode]:
        """Reads ahead."""
        known = [
            (node.generation, node.commit_id)
            for node in self.by_id.values()
            if node.generation is not None and node.generation < generation
        ]
        return [self.by_id[commit_id] for _, commit_id in nlargest(limit, known)]

    def every_node(self) -> Mapping[str, CommitNode]:
        """All commits."""
        return self.by_id


def generation_of(parents: Iterable[int | None]) -> int | None:
    """The generation of a commit from those of its parents; ``None`` when one is not known.

    Examples:
        >>> generation_of([]), generation_of([3, 1]), generation_of([3, None])
        (1, 4, None)
    """
    highest = 0
    for parent in parents:
        if parent is None:
            return None
        highest = max(highest, parent)
    return highest + 1
