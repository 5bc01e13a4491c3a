"""Fetch, push and clone content-addressed history as one verified pack."""

from typing import TYPE_CHECKING

from starfish_mpack_wire._apply import ApplyResult, apply_mpack
from starfish_mpack_wire._verification import RejectedRecord
from starfish_mpack_wire.errors import (
    DamagedHistoryError,
    GitError,
    IncompleteHistoryError,
    InvalidMessageError,
    LocalChangesError,
    MPackError,
    MPackFormatError,
    MPackIntegrityError,
    MPackLimitError,
    NonFastForwardError,
    ObjectNotFoundError,
    RefConflictError,
    RemoteNotFoundError,
    RemoteProtocolError,
    RemoteRefusedError,
    RemoteUnavailableError,
    StoreError,
    UnsafePathError,
    UnsupportedFilesError,
    WireError,
)
from starfish_mpack_wire.limits import Limits
from starfish_mpack_wire.object_ids import blob_id, commit_id
from starfish_mpack_wire.pack import (
    MPackReader,
    WrittenPack,
    build_mpack,
    parse_wire_mpack,
    write_mpack,
)
from starfish_mpack_wire.snapshot_tree import SnapshotTree, snapshot_id
from starfish_mpack_wire.store import LocalStore

if TYPE_CHECKING:
    from starfish_mpack_wire.client import WireClient

__all__ = (
    "ApplyResult",
    "DamagedHistoryError",
    "GitError",
    "IncompleteHistoryError",
    "InvalidMessageError",
    "Limits",
    "LocalChangesError",
    "LocalStore",
    "MPackError",
    "MPackFormatError",
    "MPackIntegrityError",
    "MPackLimitError",
    "MPackReader",
    "NonFastForwardError",
    "ObjectNotFoundError",
    "RefConflictError",
    "RejectedRecord",
    "RemoteNotFoundError",
    "RemoteProtocolError",
    "RemoteRefusedError",
    "RemoteUnavailableError",
    "SnapshotTree",
    "StoreError",
    "UnsafePathError",
    "UnsupportedFilesError",
    "WireClient",
    "WireError",
    "WrittenPack",
    "apply_mpack",
    "blob_id",
    "build_mpack",
    "commit_id",
    "parse_wire_mpack",
    "snapshot_id",
    "write_mpack",
)


def __getattr__(name: str) -> object:
    # The one name that needs an extra; whoever asks for it is told which.
    if name == "WireClient":
        from starfish_mpack_wire.client import WireClient

        return WireClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
