"""Which objects of a store branches and tags lead to."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from starfish_mpack_wire._model.chunk_lists import chunk_ids
from starfish_mpack_wire._model.entries import blobs_in
from starfish_mpack_wire._pack.reader import MPackReader
from starfish_mpack_wire._store.pack_store import PackStore

__all__ = ("PackPart", "Reachable", "find_reachable")


@dataclass(frozen=True, slots=True)
class PackPart:
    """Some of the objects of a pack."""

    commits: frozenset[str] = frozenset()
    snapshots: frozenset[str] = frozenset()
    blobs: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.commits or self.snapshots or self.blobs)

    def __or__(self, other: PackPart) -> PackPart:
        return PackPart(
            self.commits | other.commits,
            self.snapshots | other.snapshots,
            self.blobs | other.blobs,
        )

    def __sub__(self, other: PackPart) -> PackPart:
        return PackPart(
            self.commits - other.commits,
            self.snapshots - other.snapshots,
            self.blobs - other.blobs,
        )

    @classmethod
    def all_of(cls, reader: MPackReader) -> PackPart:
        """Return everything that a pack holds."""
        return cls(
            frozenset(reader.commit_ids()),
            frozenset(reader.snapshot_ids()),
            frozenset(reader.blob_ids()),
        )


@dataclass(frozen=True, slots=True)
class Reachable:
    """Objects that have to stay."""

    commits: Collection[str]
    snapshots: Collection[str]
    blobs: Collection[str]

    def split(self, part: PackPart) -> tuple[PackPart, PackPart]:
        """Return those objects of a part that have to stay, and the rest."""
        kept = PackPart(
            frozenset(each for each in part.commits if each in self.commits),
            frozenset(each for each in part.snapshots if each in self.snapshots),
            frozenset(each for each in part.blobs if each in self.blobs),
        )
        return kept, part - kept


def find_reachable(
    store: PackStore, tips: Iterable[str], young: PackPart = PackPart()
) -> Reachable:
    """Walk from commits to everything behind them.

    Args:
        store: where they are.
        tips: commits that have to stay.
        young: objects that stay whatever leads to them, with all that they need.

    Raises:
        ObjectNotFoundError: the store lacks a commit on the way, and not on purpose.
    """
    rows = list(store.log({*tips, *young.commits}))
    snapshots = store.catalogue.snapshot_chains({row.snapshot_id for row in rows} | young.snapshots)
    blobs = set(young.blobs)
    for record in store.snapshots(snapshots):
        blobs.update(blobs_in(record["upsert"].values()))
    blobs |= chunk_ids(store.chunk_lists(blobs))
    return Reachable({row.commit_id for row in rows}, snapshots, blobs)
