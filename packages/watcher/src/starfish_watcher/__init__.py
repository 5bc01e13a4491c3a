"""An event store, projections over it, and watchers that wake on change and never show an old state."""

from starfish_watcher._delivery.cursor import Cursor
from starfish_watcher._delivery.subscription import Subscription
from starfish_watcher._model.coordinate import Coordinate
from starfish_watcher._model.event import Event, RawEvent
from starfish_watcher._model.event_kind import EventKind
from starfish_watcher._model.event_types import event, kind_of, upcast
from starfish_watcher._model.generation import Generation
from starfish_watcher._model.new_event import NEW, NewEvent
from starfish_watcher._model.receipt import Receipt
from starfish_watcher._model.region import Region
from starfish_watcher._projection.definition import CONSISTENT, Change, MaybeStale, Projection
from starfish_watcher._projection.snapshots import SnapshotCache
from starfish_watcher._runner.memory_sink import MemorySink, MemoryTable, MemoryTables
from starfish_watcher._runner.records import Member, ParkedEvent
from starfish_watcher._runner.runner import AsyncRunner, Runner, RunnerStats
from starfish_watcher._runner.sqlite_sink import SqliteSink
from starfish_watcher._runner.view import Retry, View
from starfish_watcher._store import EventStore
from starfish_watcher._verification import ChainReport
from starfish_watcher._watchers.cursor_watcher import CursorWatcher
from starfish_watcher._watchers.prefix_watcher import PrefixWatcher
from starfish_watcher._watchers.projection_watcher import ProjectionWatcher
from starfish_watcher._watchers.source_watcher import AsyncSourceWatcher, watch, watch_async
from starfish_watcher.aio import AsyncEventStore
from starfish_watcher.errors import (
    AppendUncertainError,
    ChainBrokenError,
    CheckpointDamagedError,
    CheckpointError,
    CheckpointMismatchError,
    EventTypeError,
    IdempotencyConflictError,
    ImportRefusedError,
    LimitExceededError,
    PayloadErasedError,
    ProjectionFailed,
    ReaderClosed,
    RunnerError,
    SequenceConflictError,
    SourcePositionLost,
    StoreClosed,
    StoreDamagedError,
    StoreFormatError,
    StoreFullError,
    StoreMovedError,
    StoreUnavailableError,
    SubscriptionPruned,
    UnknownGenerationError,
    ViewFailed,
    ViewMismatchError,
    WatcherError,
)
from starfish_watcher.key_ring import KeyRing

__version__ = "0.1.0"

__all__ = (
    "CONSISTENT",
    "NEW",
    "AppendUncertainError",
    "AsyncEventStore",
    "AsyncRunner",
    "AsyncSourceWatcher",
    "ChainBrokenError",
    "ChainReport",
    "Change",
    "CheckpointDamagedError",
    "CheckpointError",
    "CheckpointMismatchError",
    "Coordinate",
    "Cursor",
    "CursorWatcher",
    "Event",
    "EventKind",
    "EventStore",
    "EventTypeError",
    "Generation",
    "IdempotencyConflictError",
    "ImportRefusedError",
    "KeyRing",
    "LimitExceededError",
    "MaybeStale",
    "Member",
    "MemorySink",
    "MemoryTable",
    "MemoryTables",
    "NewEvent",
    "ParkedEvent",
    "PayloadErasedError",
    "PrefixWatcher",
    "Projection",
    "ProjectionFailed",
    "ProjectionWatcher",
    "RawEvent",
    "ReaderClosed",
    "Receipt",
    "Region",
    "Retry",
    "Runner",
    "RunnerError",
    "RunnerStats",
    "SequenceConflictError",
    "SnapshotCache",
    "SourcePositionLost",
    "SqliteSink",
    "StoreClosed",
    "StoreDamagedError",
    "StoreFormatError",
    "StoreFullError",
    "StoreMovedError",
    "StoreUnavailableError",
    "Subscription",
    "SubscriptionPruned",
    "UnknownGenerationError",
    "View",
    "ViewFailed",
    "ViewMismatchError",
    "WatcherError",
    "__version__",
    "event",
    "kind_of",
    "upcast",
    "watch",
    "watch_async",
)
