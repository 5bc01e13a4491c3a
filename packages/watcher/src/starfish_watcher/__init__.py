"""An event store, projections over it, and watchers that wake on change and never show an old state."""

from importlib.metadata import version

from starfish_watcher.delivery.cursor import Cursor
from starfish_watcher.delivery.subscription import Subscription
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
from starfish_watcher.model.coordinate import Coordinate
from starfish_watcher.model.event import Event, RawEvent
from starfish_watcher.model.event_kind import EventKind
from starfish_watcher.model.new_event import NEW, NewEvent
from starfish_watcher.model.receipt import Receipt
from starfish_watcher.model.region import Region
from starfish_watcher.projection.definition import CONSISTENT, Change, MaybeStale, Projection
from starfish_watcher.projection.snapshots import SnapshotCache
from starfish_watcher.store import EventStore
from starfish_watcher.verification import ChainReport
from starfish_watcher.watchers.cursor_watcher import CursorWatcher
from starfish_watcher.watchers.prefix_watcher import PrefixWatcher
from starfish_watcher.watchers.projection_watcher import ProjectionWatcher
from starfish_watcher.watchers.source_watcher import AsyncSourceWatcher, watch, watch_async

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
