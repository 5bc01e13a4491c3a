"""`Manifest`: a whole snapshot, flat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starfish_mpack_wire._model.entries import Entry
from starfish_mpack_wire._model.records import SnapshotRecord

__all__ = ("Manifest", "difference_record")


@dataclass(frozen=True, slots=True)
class Manifest:
    """Entries by path, and the directories that would be empty."""

    entries: Mapping[str, Entry]
    directories: frozenset[str] = frozenset()
    depth: int = 0
    """How many differences lie between the stored record and a complete one."""


def difference_record(
    snapshot_id: str, after: Manifest, parent_id: str | None, before: Manifest | None
) -> SnapshotRecord:
    """Return the record of a snapshot as a difference to another, or to nothing.

    Examples:
        >>> old, new = Manifest({"a": "1", "b": "2"}), Manifest({"b": "2", "c": "3"})
        >>> record = difference_record("new", new, "old", old)
        >>> record["upsert"], record["remove"]
        ({'c': '3'}, ['a'])
    """
    now = after.entries
    was: Mapping[str, Entry] = {} if before is None else before.entries
    return {
        "snapshot_id": snapshot_id,
        "parent_snapshot_id": parent_id,
        "upsert": {path: entry for path, entry in now.items() if was.get(path) != entry},
        "remove": sorted(was.keys() - now.keys()),
        "directories": sorted(after.directories),
    }
