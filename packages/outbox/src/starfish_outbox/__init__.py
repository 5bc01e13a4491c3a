"""A durable, per-identity queue of writes made while offline."""

from starfish_outbox._cache.file_cache import FileCache
from starfish_outbox._cache.local_cache import LocalCache
from starfish_outbox._drain.backoff import Backoff, ExponentialBackoff
from starfish_outbox._drain.drain import drain_outbox
from starfish_outbox._drain.options import DrainProgress, DrainResult
from starfish_outbox._drain.run import run_outbox
from starfish_outbox._outbox_queue import OutboxQueue
from starfish_outbox._queue.backend import Loaded, Outcome, QueueBackend, QueueSession
from starfish_outbox._queue.changes import Change, Rest
from starfish_outbox._queue.entry import (
    Failure,
    FailureKind,
    OutboxEntry,
    OutboxStatus,
    Quarantined,
    reset_sending_to_queued,
)
from starfish_outbox._sqlite.guest import create_tables, enqueue_in
from starfish_outbox._sqlite.outbox import SqliteOutbox
from starfish_outbox._sync_outbox import SyncOutbox
from starfish_outbox.errors import (
    Conflict,
    NotAuthorised,
    NotHydratedError,
    OutboxClosedError,
    OutboxDamagedError,
    OutboxError,
    OutboxForkedError,
    OutboxFullError,
    OutboxLoopError,
    OutboxMovedError,
    OutboxPersistenceError,
    OutboxTimeoutError,
    PermanentSendError,
    Refused,
    RetryAfterError,
    SendError,
    Unreachable,
    UnsupportedSchemaError,
)

__all__ = (
    "Backoff",
    "Change",
    "Conflict",
    "DrainProgress",
    "DrainResult",
    "ExponentialBackoff",
    "Failure",
    "FailureKind",
    "FileCache",
    "Loaded",
    "LocalCache",
    "NotAuthorised",
    "NotHydratedError",
    "OutboxClosedError",
    "OutboxDamagedError",
    "OutboxEntry",
    "OutboxError",
    "OutboxForkedError",
    "OutboxFullError",
    "OutboxLoopError",
    "OutboxMovedError",
    "OutboxPersistenceError",
    "OutboxQueue",
    "OutboxStatus",
    "OutboxTimeoutError",
    "Outcome",
    "PermanentSendError",
    "Quarantined",
    "QueueBackend",
    "QueueSession",
    "Refused",
    "Rest",
    "RetryAfterError",
    "SendError",
    "SqliteOutbox",
    "SyncOutbox",
    "Unreachable",
    "UnsupportedSchemaError",
    "create_tables",
    "drain_outbox",
    "enqueue_in",
    "reset_sending_to_queued",
    "run_outbox",
)

__version__ = "4.0.0"
