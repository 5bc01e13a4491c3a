"""From packs to rows of the catalogue."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from starfish_mpack_wire._history.commit_graph import CommitNode
from starfish_mpack_wire._history.delta import topological_order
from starfish_mpack_wire._model.records import CommitRecord, SnapshotRecord
from starfish_mpack_wire._store.catalogue import Catalogue, CommitRow, SnapshotRow

__all__ = ("PackListing", "add_packs")


@dataclass(frozen=True, slots=True)
class PackListing:
    """What the catalogue keeps of a pack."""

    commits: Mapping[str, CommitRecord]
    """By id."""
    snapshot_parents: Mapping[str, str | None]
    """Each snapshot, and the one that it is a difference to."""
    blob_ids: Sequence[str]
    """Chunks and large ones included."""
    chunked_ids: Collection[str]
    """The large ones."""

    @classmethod
    def of(
        cls,
        commits: Iterable[CommitRecord],
        snapshots: Iterable[SnapshotRecord],
        blob_ids: Iterable[str],
        chunked_ids: Collection[str],
    ) -> PackListing:
        """The listing of these records."""
        return cls(
            {commit["commit_id"]: commit for commit in commits},
            {each["snapshot_id"]: each["parent_snapshot_id"] for each in snapshots},
            list(blob_ids),
            chunked_ids,
        )


def add_packs(catalogue: Catalogue, packs: Mapping[str, PackListing]) -> None:
    """Add the rows of packs, in whatever order they build on each other.

    Call it inside a transaction of the catalogue.
    """
    commits: dict[str, CommitRecord] = {}
    for pack in packs.values():
        commits |= pack.commits
    generations = _generations(catalogue, commits)
    snapshots = _resolvable_snapshots(catalogue, packs)
    for name, pack in packs.items():
        catalogue.add_pack(
            name,
            commits=(
                CommitRow(
                    commit_id,
                    generations[commit_id],
                    commit["snapshot_id"],
                    tuple(commit["parent_ids"]),
                )
                for commit_id, commit in pack.commits.items()
            ),
            snapshots=snapshots[name],
            blob_ids=pack.blob_ids,
            chunked_ids=pack.chunked_ids,
        )


def _generations(catalogue: Catalogue, commits: Mapping[str, CommitRecord]) -> dict[str, int]:
    """One more than the largest of the parents'; a parent that is not there has 0: it is shallow."""
    outside = {
        parent
        for commit in commits.values()
        for parent in commit["parent_ids"]
        if parent not in commits
    }
    generations = {each: row.generation for each, row in catalogue.commits(outside).items()}
    for commit_id in _parents_first(commits):
        parents = commits[commit_id]["parent_ids"]
        generations[commit_id] = 1 + max([generations.get(each, 0) for each in parents], default=0)
    return generations


def _parents_first(commits: Mapping[str, CommitRecord]) -> Iterable[str]:
    """The ids in an order for which one pack needs no sorting."""
    seen: set[str] = set()
    for commit_id, commit in commits.items():
        if any(each in commits and each not in seen for each in commit["parent_ids"]):
            break
        seen.add(commit_id)
    else:
        return commits
    return topological_order(
        {
            commit_id: CommitNode(commit_id, tuple(commit["parent_ids"]), None)
            for commit_id, commit in commits.items()
        }
    )


def _resolvable_snapshots(
    catalogue: Catalogue, packs: Mapping[str, PackListing]
) -> dict[str, list[SnapshotRow]]:
    """For each snapshot the pack from which it can be rebuilt with the fewest differences.

    Which snapshot a record is a difference to is not part of its id: two packs may hold each of two
    snapshots as a difference to the other. So a record counts only once its parent does.
    """
    children: dict[str, list[tuple[str, str]]] = {}
    ready: deque[tuple[str, str, str | None, int]] = deque()
    for name, pack in packs.items():
        for snapshot_id, parent in pack.snapshot_parents.items():
            if parent is None:
                ready.append((name, snapshot_id, None, 0))
            else:
                children.setdefault(parent, []).append((name, snapshot_id))
    for parent in catalogue.known("snapshot", children):
        row = catalogue.snapshot(parent)
        if row is not None:
            ready.extend((*child, parent, row.chain + 1) for child in children[parent])
    rows: dict[str, list[SnapshotRow]] = {name: [] for name in packs}
    done: set[str] = set()
    while ready:
        name, snapshot_id, parent, chain = ready.popleft()
        if snapshot_id in done:
            continue
        done.add(snapshot_id)
        rows[name].append(SnapshotRow(snapshot_id, parent, chain))
        ready.extend((*child, snapshot_id, chain + 1) for child in children.get(snapshot_id, ()))
    return rows
