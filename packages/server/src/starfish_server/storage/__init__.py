"""Where documents live: the contract and the stores that keep it."""

from starfish_server.storage.adapter import OldContractStore, as_object_store
from starfish_server.storage.base import AbstractObjectStore, StoreContext, has_compare_and_swap
from starfish_server.storage.changes import Change, ChangeLog, ChangePage, ChangeRecord
from starfish_server.storage.errors import (
    InvalidPositionError,
    NotSupportedError,
    OutcomeUnknownError,
    PositionLostError,
    PreconditionFailedError,
    ValueTooLargeError,
)
from starfish_server.storage.filesystem import FilesystemObjectStore
from starfish_server.storage.memory import MemoryObjectStore
from starfish_server.storage.object_store import (
    Delete,
    Entry,
    ObjectStore,
    Step,
    Write,
    write_once,
)
from starfish_server.storage.sqlite import SqliteObjectStore
from starfish_server.storage.values import (
    ABSENT,
    ANY,
    Match,
    Metadata,
    Position,
    Precondition,
    Removed,
    Stored,
    StoreLimits,
    Value,
    Written,
)

__all__ = (
    "ABSENT",
    "ANY",
    "AbstractObjectStore",
    "Change",
    "ChangeLog",
    "ChangePage",
    "ChangeRecord",
    "Delete",
    "Entry",
    "FilesystemObjectStore",
    "InvalidPositionError",
    "Match",
    "MemoryObjectStore",
    "Metadata",
    "NotSupportedError",
    "ObjectStore",
    "OldContractStore",
    "OutcomeUnknownError",
    "Position",
    "PositionLostError",
    "Precondition",
    "PreconditionFailedError",
    "Removed",
    "SqliteObjectStore",
    "Step",
    "StoreContext",
    "StoreLimits",
    "Stored",
    "Value",
    "ValueTooLargeError",
    "Write",
    "Written",
    "as_object_store",
    "has_compare_and_swap",
    "write_once",
)
