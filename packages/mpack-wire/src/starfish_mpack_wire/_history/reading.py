"""How decisions about a history read it: as generators that ask, and are answered by the driver that runs them.

A decision (which commits to send, what a pack holds) is written once, as a generator of `Read`. `run` answers
from a history at hand, a local store; `run_async` from one that has to be waited for, the rows of a server. So
nothing here does I/O, and no coroutine exists that must never wait.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

from starfish_mpack_wire._history.commit_graph import CommitNode
from starfish_mpack_wire._model.chunk_lists import ChunkList
from starfish_mpack_wire._model.manifest import Manifest
from starfish_mpack_wire._model.records import CommitRecord, SnapshotRecord

__all__ = (
    "AsyncCommitGraph",
    "AsyncHistory",
    "CommitGraph",
    "History",
    "Read",
    "Steps",
    "chunk_lists",
    "commit_records",
    "every_node",
    "generations_hold",
    "graft",
    "manifests",
    "nodes",
    "nodes_below",
    "run",
    "run_async",
    "snapshot_records",
    "snapshots_of",
)

_T = TypeVar("_T")


class CommitGraph(Protocol):
    """Commits and their parents, read in batches."""

    def generations_hold(self) -> bool:
        """Return whether every commit's generation is known to be higher than those of all its parents."""
        ...

    def nodes(self, commit_ids: Collection[str], /) -> Mapping[str, CommitNode]:
        """Return the commits of these ids; one that is not there is left out."""
        ...

    def nodes_below(self, generation: int, limit: int, /) -> Iterable[CommitNode]:
        """Return the first ``limit`` commits below a generation, those with high generations first.

        This is reading ahead: which of several commits of one generation come is not said, and none need to
        come at all.
        """
        ...

    def every_node(self) -> Mapping[str, CommitNode]:
        """Return the whole history, which is needed when generations do not hold."""
        ...


class History(CommitGraph, Protocol):
    """A commit graph with the records and whole snapshots behind it."""

    def commit_records(self, commit_ids: Collection[str], /) -> Mapping[str, CommitRecord]:
        """Return the records of these commits.

        Raises:
            IncompleteHistoryError: one is missing.
        """
        ...

    def snapshots_of(self, commit_ids: Collection[str], /) -> Mapping[str, str]:
        """Return the snapshot id of each of these commits.

        Raises:
            IncompleteHistoryError: one is missing.
        """
        ...

    def snapshot_records(self, snapshot_ids: Collection[str], /) -> Mapping[str, SnapshotRecord]:
        """Return the records of these snapshots as they are stored.

        Raises:
            IncompleteHistoryError: one is missing.
        """
        ...

    def manifests(self, snapshot_ids: Collection[str], /) -> Mapping[str, Manifest]:
        """Return these snapshots as a whole.

        Raises:
            IncompleteHistoryError: one is missing, or one that it is a difference to.
        """
        ...

    def chunk_lists(self, object_ids: Collection[str], /) -> Mapping[str, ChunkList]:
        """Return the chunks of those of the blobs that are large."""
        ...


class AsyncCommitGraph(Protocol):
    """`CommitGraph` that has to be waited for."""

    async def generations_hold(self) -> bool:
        """See `CommitGraph`."""
        ...

    async def nodes(self, commit_ids: Collection[str], /) -> Mapping[str, CommitNode]:
        """See `CommitGraph`."""
        ...

    async def nodes_below(self, generation: int, limit: int, /) -> Iterable[CommitNode]:
        """See `CommitGraph`."""
        ...

    async def every_node(self) -> Mapping[str, CommitNode]:
        """See `CommitGraph`."""
        ...


class AsyncHistory(AsyncCommitGraph, Protocol):
    """`History` that has to be waited for."""

    async def commit_records(self, commit_ids: Collection[str], /) -> Mapping[str, CommitRecord]:
        """See `History`."""
        ...

    async def snapshots_of(self, commit_ids: Collection[str], /) -> Mapping[str, str]:
        """See `History`."""
        ...

    async def snapshot_records(
        self, snapshot_ids: Collection[str], /
    ) -> Mapping[str, SnapshotRecord]:
        """See `History`."""
        ...

    async def manifests(self, snapshot_ids: Collection[str], /) -> Mapping[str, Manifest]:
        """See `History`."""
        ...

    async def chunk_lists(self, object_ids: Collection[str], /) -> Mapping[str, ChunkList]:
        """See `History`."""
        ...


class Read(NamedTuple):
    """One question to a history: the method that answers it, and its arguments."""

    method: str
    arguments: tuple[Any, ...] = ()

    def of(self, history: object) -> Any:
        """Return the answer of a history, or the awaitable of one."""
        return getattr(history, self.method)(*self.arguments)


Steps = Generator[Read, Any, _T]
"""A decision on its way; its result is what it returns."""


def run(steps: Steps[_T], history: CommitGraph) -> _T:
    """Return the result of a decision over a history at hand."""
    try:
        read = next(steps)
        while True:
            read = steps.send(read.of(history))
    except StopIteration as finished:
        result: _T = finished.value
        return result


async def run_async(steps: Steps[_T], history: AsyncCommitGraph) -> _T:
    """Return the result of a decision over a history that has to be waited for."""
    try:
        read = next(steps)
        while True:
            read = steps.send(await read.of(history))
    except StopIteration as finished:
        result: _T = finished.value
        return result


def graft(steps: Steps[_T], roots: Collection[str]) -> Steps[_T]:
    """Return a decision over the same history in which some commits have no parents.

    So it looks to a client that fetched a shallow part. Taking parents away leaves every generation higher than
    those below it, so walks need not care.
    """
    ends = frozenset(roots)
    if not ends:
        return (yield from steps)

    def cut(node: CommitNode) -> CommitNode:
        return (
            node if node.commit_id not in ends else CommitNode(node.commit_id, (), node.generation)
        )

    try:
        read = next(steps)
        while True:
            answer = yield read
            if read.method in {"nodes", "every_node"}:
                answer = {commit_id: cut(node) for commit_id, node in answer.items()}
            elif read.method == "nodes_below":
                answer = [cut(node) for node in answer]
            read = steps.send(answer)
    except StopIteration as finished:
        result: _T = finished.value
        return result


def generations_hold() -> Steps[bool]:
    """Ask `CommitGraph.generations_hold`."""
    answer: bool = yield Read("generations_hold")
    return answer


def nodes(commit_ids: Collection[str]) -> Steps[Mapping[str, CommitNode]]:
    """Ask `CommitGraph.nodes`."""
    answer: Mapping[str, CommitNode] = yield Read("nodes", (commit_ids,))
    return answer


def nodes_below(generation: int, limit: int) -> Steps[Iterable[CommitNode]]:
    """Ask `CommitGraph.nodes_below`."""
    answer: Iterable[CommitNode] = yield Read("nodes_below", (generation, limit))
    return answer


def every_node() -> Steps[Mapping[str, CommitNode]]:
    """Ask `CommitGraph.every_node`."""
    answer: Mapping[str, CommitNode] = yield Read("every_node")
    return answer


def commit_records(commit_ids: Collection[str]) -> Steps[Mapping[str, CommitRecord]]:
    """Ask `History.commit_records`."""
    answer: Mapping[str, CommitRecord] = yield Read("commit_records", (commit_ids,))
    return answer


def snapshots_of(commit_ids: Collection[str]) -> Steps[Mapping[str, str]]:
    """Ask `History.snapshots_of`."""
    answer: Mapping[str, str] = yield Read("snapshots_of", (commit_ids,))
    return answer


def snapshot_records(snapshot_ids: Collection[str]) -> Steps[Mapping[str, SnapshotRecord]]:
    """Ask `History.snapshot_records`."""
    answer: Mapping[str, SnapshotRecord] = yield Read("snapshot_records", (snapshot_ids,))
    return answer


def manifests(snapshot_ids: Collection[str]) -> Steps[Mapping[str, Manifest]]:
    """Ask `History.manifests`."""
    answer: Mapping[str, Manifest] = yield Read("manifests", (snapshot_ids,))
    return answer


def chunk_lists(object_ids: Collection[str]) -> Steps[Mapping[str, ChunkList]]:
    """Ask `History.chunk_lists`."""
    answer: Mapping[str, ChunkList] = yield Read("chunk_lists", (object_ids,))
    return answer
