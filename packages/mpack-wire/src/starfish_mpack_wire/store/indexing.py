"""From packs to rows of the catalogue."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from starfish_mpack_wire.negotiation.commit_graph import CommitNode
from starfish_mpack_wire.negotiation.delta import topological_order
from starfish_mpack_wire.pack.reader import MPackReader
from starfish_mpack_wire.records import CommitRecord, SnapshotRecord
from starfish_mpack_wire.store.catalogue import Catalogue, CommitRow, SnapshotRow

__all__ = ("add_packs",)


def add_packs(catalogue: Catalogue, packs: Mapping[str, MPackReader]) -> None:
    """Add the rows of packs, in whatever order they build on each other.

    Call it inside a transaction of the catalogue.
    """
    commits_of = {
        name: {commit["commit_id"]: commit for commit in pack.commits()}
        for name, pack in packs.items()
    }
    commits: dict[str, CommitRecord] = {}
    for some in commits_of.values():
        commits |= some
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
                for commit_id, commit in commits_of[name].items()
            ),
            snapshots=snapshots[name],
            blob_ids=pack.blob_ids(),
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
    nodes = {
        commit_id: CommitNode(commit_id, tuple(commit["parent_ids"]), None)
        for commit_id, commit in commits.items()
    }
    for commit_id in topological_order(nodes):
        generations[commit_id] = 1 + max(
            (generations.get(parent, 0) for parent in nodes[commit_id].parent_ids), default=0
        )
    return generations


def _resolvable_snapshots(
    catalogue: Catalogue, packs: Mapping[str, MPackReader]
) -> dict[str, list[SnapshotRow]]:
    """For each snapshot the pack from which it can be rebuilt with the fewest differences.

    Which snapshot a record is a difference to is not part of its id: two packs may hold each of two
    snapshots as a difference to the other. So a record counts only once its parent does.
    """
    children: dict[str, list[tuple[str, SnapshotRecord]]] = {}
    ready: deque[tuple[str, SnapshotRecord, int]] = deque()
    for name, pack in packs.items():
        for record in pack.snapshots():
            parent = record["parent_snapshot_id"]
            if parent is None:
                ready.append((name, record, 0))
            else:
                children.setdefault(parent, []).append((name, record))
    for parent, some in children.items():
        row = catalogue.snapshot(parent)
        if row is not None:
            ready.extend((*child, row.chain + 1) for child in some)
    rows: dict[str, list[SnapshotRow]] = {name: [] for name in packs}
    done: set[str] = set()
    while ready:
        name, record, chain = ready.popleft()
        snapshot_id = record["snapshot_id"]
        if snapshot_id in done:
            continue
        done.add(snapshot_id)
        rows[name].append(SnapshotRow(snapshot_id, record["parent_snapshot_id"], chain))
        ready.extend((*child, chain + 1) for child in children.get(snapshot_id, ()))
    return rows
