"""Fetch, push and clone content-addressed history as one verified pack."""

from typing import TYPE_CHECKING

from starfish_mpack_wire._model.entries import Entry, EntryRecord
from starfish_mpack_wire._model.object_ids import blob_id, commit_id
from starfish_mpack_wire._model.records import (
    BlobRecord,
    ChunkedRecord,
    CommitRecord,
    PackContents,
    SnapshotRecord,
    TagRecord,
)
from starfish_mpack_wire._model.snapshot_tree import SnapshotTree, snapshot_id
from starfish_mpack_wire._pack import (
    MPackReader,
    WrittenPack,
    build_mpack,
    parse_wire_mpack,
    write_mpack,
)
from starfish_mpack_wire._store import LocalStore, RepackReport, StoreState, VerifyReport
from starfish_mpack_wire._store.apply import ApplyResult, apply_mpack
from starfish_mpack_wire._store.verification import RejectedRecord
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
    OpenConflictsError,
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

if TYPE_CHECKING:
    from starfish_mpack_wire.client import WireClient

__all__ = (
    "ApplyResult",
    "BlobRecord",
    "ChunkedRecord",
    "CommitRecord",
    "DamagedHistoryError",
    "Entry",
    "EntryRecord",
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
    "OpenConflictsError",
    "PackContents",
    "RefConflictError",
    "RejectedRecord",
    "RemoteNotFoundError",
    "RemoteProtocolError",
    "RemoteRefusedError",
    "RemoteUnavailableError",
    "RepackReport",
    "SnapshotRecord",
    "SnapshotTree",
    "StoreError",
    "StoreState",
    "TagRecord",
    "UnsafePathError",
    "UnsupportedFilesError",
    "VerifyReport",
    "WireClient",
    "WireError",
    "WrittenPack",
    "__version__",
    "apply_mpack",
    "blob_id",
    "build_mpack",
    "commit_id",
    "parse_wire_mpack",
    "snapshot_id",
    "write_mpack",
)


__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # The one name that needs an extra; its import names the extra.
    if name == "WireClient":
        from starfish_mpack_wire.client import WireClient

        return WireClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
