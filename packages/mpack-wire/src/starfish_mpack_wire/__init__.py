"""Fetch, push and clone content-addressed history as one verified pack."""

from starfish_mpack_wire.errors import (
    MPackError,
    MPackFormatError,
    MPackIntegrityError,
    MPackLimitError,
    ObjectNotFoundError,
)
from starfish_mpack_wire.limits import Limits
from starfish_mpack_wire.object_ids import blob_id, commit_id
from starfish_mpack_wire.pack import (
    MPackReader,
    StoredBlob,
    WrittenPack,
    build_mpack,
    parse_wire_mpack,
    write_mpack,
)
from starfish_mpack_wire.snapshot_tree import SnapshotTree, snapshot_id

__all__ = (
    "Limits",
    "MPackError",
    "MPackFormatError",
    "MPackIntegrityError",
    "MPackLimitError",
    "MPackReader",
    "ObjectNotFoundError",
    "SnapshotTree",
    "StoredBlob",
    "WrittenPack",
    "blob_id",
    "build_mpack",
    "commit_id",
    "parse_wire_mpack",
    "snapshot_id",
    "write_mpack",
)
