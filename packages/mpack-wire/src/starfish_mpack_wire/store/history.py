"""The store's commits as negotiation sees them, and walks over them."""

from __future__ import annotations

from collections.abc import Collection, Coroutine, Iterable, Iterator, Mapping
from heapq import heapify, heappop, heappush
from typing import TypeVar

from starfish_mpack_wire.errors import ObjectNotFoundError
from starfish_mpack_wire.negotiation.commit_graph import CommitNode
from starfish_mpack_wire.store.catalogue import Catalogue, CommitRow

__all__ = ("StoreGraph", "newest_first", "run_at_once")

_T = TypeVar("_T")

READ_AHEAD = 256


def run_at_once(coroutine: Coroutine[object, object, _T]) -> _T:
    """The result of a coroutine that never waits: negotiation over a graph that is at hand.

    Raises:
        RuntimeError: it does wait.
    """
    try:
        coroutine.send(None)
    except StopIteration as finished:
        result: _T = finished.value
        return result
    coroutine.close()
    raise RuntimeError("a walk over a store at hand waited for something")


class StoreGraph:
    """A `CommitGraph` over the catalogue; shallow commits have no parents in it."""

    def __init__(self, catalogue: Catalogue, shallow: Collection[str]) -> None:
        self._catalogue = catalogue
        self._shallow = frozenset(shallow)

    async def generations_hold(self) -> bool:
        """They do: the store computes them itself."""
        return True

    async def nodes(self, commit_ids: Collection[str]) -> Mapping[str, CommitNode]:
        """The commits of these ids that are there."""
        return self._nodes_of(self._catalogue.commits(commit_ids))

    async def nodes_below(self, generation: int, limit: int) -> Iterable[CommitNode]:
        """Reads ahead."""
        return self._nodes_of(self._catalogue.commits_below(generation, limit)).values()

    async def every_node(self) -> Mapping[str, CommitNode]:
        """All commits."""
        return self._nodes_of(self._catalogue.all_commits())

    def _nodes_of(self, rows: Mapping[str, CommitRow]) -> dict[str, CommitNode]:
        return {
            commit_id: CommitNode(
                commit_id, () if commit_id in self._shallow else row.parent_ids, row.generation
            )
            for commit_id, row in rows.items()
        }


def newest_first(
    catalogue: Catalogue, tips: Iterable[str], shallow: Collection[str] = ()
) -> Iterator[CommitRow]:
    """All commits that can be reached, none after one of its ancestors; read as they are asked for.

    Raises:
        ObjectNotFoundError: one is missing that is not behind ``shallow``. Who went on without it would take what is
            behind it for unreachable.
    """
    tips = set(tips)
    read = catalogue.commits(tips)
    _refuse_holes(tips, read)
    queued = set(read)
    queue = [(-row.generation, row.commit_id) for row in read.values()]
    heapify(queue)
    while queue:
        negative, commit_id = heappop(queue)
        row = read.pop(commit_id)
        yield row
        if commit_id in shallow:
            continue
        parents = [parent for parent in row.parent_ids if parent not in queued]
        if any(parent not in read for parent in parents):
            ahead = catalogue.commits_below(-negative, READ_AHEAD)
            read.update((each, found) for each, found in ahead.items() if each not in queued)
            read.update(catalogue.commits([each for each in parents if each not in read]))
            _refuse_holes(parents, read)
        for parent in parents:
            queued.add(parent)
            heappush(queue, (-read[parent].generation, parent))


def _refuse_holes(commit_ids: Iterable[str], read: Collection[str]) -> None:
    for commit_id in commit_ids:
        if commit_id not in read:
            raise ObjectNotFoundError(commit_id)
