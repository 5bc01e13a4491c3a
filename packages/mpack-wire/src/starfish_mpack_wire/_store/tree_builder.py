"""Trees of snapshot records: a whole one shares with the last what they have in common."""

from __future__ import annotations

from starfish_mpack_wire._model.entries import Entry
from starfish_mpack_wire._model.records import SnapshotRecord
from starfish_mpack_wire._model.snapshot_tree import SnapshotTree
from starfish_mpack_wire.errors import MPackFormatError

__all__ = ("TreeBuilder",)


class TreeBuilder:
    """Makes the trees of records that a reader of packs gave out, one after the other."""

    def __init__(self) -> None:
        self._last = SnapshotTree.empty()
        self._last_entries: dict[str, Entry] = {}

    def tree_of(self, record: SnapshotRecord, base: SnapshotTree | None) -> SnapshotTree:
        """Return the tree of a record; folders that the last whole one has are not hashed again.

        Args:
            record: decoded by `MPackReader`, so that its paths and ids are not looked at again.
            base: the tree that the record is a difference to; ``None`` for a whole one.

        Raises:
            MPackFormatError: the record does not fit its base.
        """
        upsert, remove = record["upsert"], record["remove"]
        if base is not None:
            tree = base.apply(upsert, remove, record["directories"], decoded=True)
            if base is self._last:
                self._last_entries.update(upsert)
                for path in remove:
                    self._last_entries.pop(path, None)
                self._last = tree
            return tree
        if remove:
            raise MPackFormatError("a snapshot that is not a difference removes paths")
        before = self._last_entries
        changed = {path: entry for path, entry in upsert.items() if before.get(path) != entry}
        gone = [path for path in before if path not in upsert]
        tree = self._last.apply(changed, gone, record["directories"], decoded=True)
        self._last, self._last_entries = tree, dict(upsert)
        return tree
