"""Records as they travel: plain maps with text keys, so that unknown keys survive a copy.

A record is what msgpack gives back; nothing here checks it. The parser does, once, at the border.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict

from starfish_mpack_wire._model.entries import Entry

__all__ = (
    "BlobRecord",
    "ChunkedRecord",
    "CommitRecord",
    "PackContents",
    "SnapshotRecord",
    "TagRecord",
)


class CommitRecord(TypedDict):
    """A commit; keys that are not listed here are kept and are part of its id."""

    commit_id: str
    branch: str
    snapshot_id: str
    parent_ids: list[str]
    message: str
    author: str
    committed_at: str
    metadata: NotRequired[dict[str, str]]


class SnapshotRecord(TypedDict):
    """A snapshot as a difference: to its parent, or to nothing when that is ``None``."""

    snapshot_id: str
    parent_snapshot_id: str | None
    upsert: dict[str, Entry]
    """Path to entry: new or different ones."""
    remove: list[str]
    """Paths that are gone, sorted."""
    directories: list[str]
    """All directories that would be empty, sorted: the whole list, not a difference."""


class BlobRecord(TypedDict):
    """A blob with its bytes."""

    object_id: str
    content: bytes


class ChunkedRecord(TypedDict):
    """A large blob of which a pack has the list of chunks and not all chunks."""

    object_id: str
    chunks: list[tuple[str, int]]
    """Id and length in bytes of each chunk, first to last."""


class TagRecord(TypedDict):
    """A name for a commit that does not move."""

    name: str
    commit_id: str


class PackContents(TypedDict):
    """The contents of a pack."""

    commits: list[CommitRecord]
    snapshots: list[SnapshotRecord]
    blobs: list[BlobRecord]
    tags: list[TagRecord]
    chunked: NotRequired[list[ChunkedRecord]]
    """Large blobs with chunks that are elsewhere; absent where there is none."""
