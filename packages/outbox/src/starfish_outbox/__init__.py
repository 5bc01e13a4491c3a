"""A durable, per-identity queue of writes made while offline."""

from importlib.metadata import version

from starfish_outbox._backend import Loaded, Outcome, QueueBackend, QueueSession
from starfish_outbox._backoff import Backoff, ExponentialBackoff
from starfish_outbox._cache_backend import LocalCache
from starfish_outbox._changes import Change
from starfish_outbox._drain import DrainProgress, DrainResult, drain_outbox
from starfish_outbox._entry import (
    OutboxEntry,
    OutboxStatus,
    Quarantined,
    reset_sending_to_queued,
)
from starfish_outbox._file_cache import FileCache
from starfish_outbox._queue import OutboxQueue
from starfish_outbox._run import run_outbox
from starfish_outbox._sqlite_outbox import SqliteOutbox
from starfish_outbox.errors import (
    NotHydratedError,
    OutboxClosedError,
    OutboxDamagedError,
    OutboxError,
    OutboxPersistenceError,
    PermanentSendError,
    RetryAfterError,
    SendError,
    UnsupportedSchemaError,
)

__all__ = (
    "Backoff",
    "Change",
    "DrainProgress",
    "DrainResult",
    "ExponentialBackoff",
    "FileCache",
    "Loaded",
    "LocalCache",
    "NotHydratedError",
    "OutboxClosedError",
    "OutboxDamagedError",
    "OutboxEntry",
    "OutboxError",
    "OutboxPersistenceError",
    "OutboxQueue",
    "OutboxStatus",
    "Outcome",
    "PermanentSendError",
    "Quarantined",
    "QueueBackend",
    "QueueSession",
    "RetryAfterError",
    "SendError",
    "SqliteOutbox",
    "UnsupportedSchemaError",
    "drain_outbox",
    "reset_sending_to_queued",
    "run_outbox",
)

__version__ = version("starfish-outbox")
