"""An event store, projections over it, and watchers that wake on change and never show an old state."""

from importlib.metadata import version

from starfish_watcher._delivery.cursor import Cursor
from starfish_watcher._delivery.subscription import Subscription
from starfish_watcher._model.coordinate import Coordinate
from starfish_watcher._model.event import Event, RawEvent
from starfish_watcher._model.event_kind import EventKind
from starfish_watcher._model.new_event import NEW, NewEvent
from starfish_watcher._model.receipt import Receipt
from starfish_watcher._model.region import Region
from starfish_watcher._projection.definition import CONSISTENT, Change, MaybeStale, Projection
from starfish_watcher._projection.snapshots import SnapshotCache
from starfish_watcher._store import EventStore
from starfish_watcher._verification import ChainReport
from starfish_watcher._watchers.cursor_watcher import CursorWatcher
from starfish_watcher._watchers.prefix_watcher import PrefixWatcher
from starfish_watcher._watchers.projection_watcher import ProjectionWatcher
from starfish_watcher._watchers.source_watcher import AsyncSourceWatcher, watch, watch_async
from starfish_watcher.errors import (
    AppendUncertainError,
    ChainBrokenError,
    CheckpointDamagedError,
    CheckpointError,
    CheckpointMismatchError,
    IdempotencyConflictError,
    ProjectionFailed,
    SequenceConflictError,
    StoreClosed,
    StoreDamagedError,
    StoreFullError,
    StoreUnavailableError,
    SubscriptionPruned,
    WatcherError,
)

__version__ = version("starfish-watcher")

__all__ = (
    "CONSISTENT",
    "NEW",
    "AppendUncertainError",
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
    "IdempotencyConflictError",
    "MaybeStale",
    "NewEvent",
    "PrefixWatcher",
    "Projection",
    "ProjectionFailed",
    "ProjectionWatcher",
    "RawEvent",
    "Receipt",
    "Region",
    "SequenceConflictError",
    "SnapshotCache",
    "StoreClosed",
    "StoreDamagedError",
    "StoreFullError",
    "StoreUnavailableError",
    "Subscription",
    "SubscriptionPruned",
    "WatcherError",
    "__version__",
    "watch",
    "watch_async",
)
