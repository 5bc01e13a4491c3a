"""What the protocol layer refuses.

* ServerError
  - DamagedDocumentError        key
  - AppendRefusedError
    - NonMonotonicTimestampError  timestamp, latest
    - TimestampTooFarAheadError   timestamp, latest_allowed
    - AppendLimitExceededError    limit
  - PullBoundError              code
  - ContentionError             key, attempts
"""

from __future__ import annotations

from typing import Literal

from starfish_server.errors import ServerError

__all__ = (
    "AppendLimitExceededError",
    "AppendRefusedError",
    "ContentionError",
    "DamagedDocumentError",
    "NonMonotonicTimestampError",
    "PullBoundError",
    "PullBoundProblem",
    "TimestampTooFarAheadError",
)

PullBoundProblem = Literal[
    "pull_bound_required", "full_with_bounds", "full_not_allowed", "checkpoint_too_old"
]
"""Why a pull of an append-only document is refused, as it travels on the wire."""


class DamagedDocumentError(ServerError):
    """The value that a store holds under a key is not a document of this server; it is left as it is."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(
            f"the value stored under {key!r} is not a document of this server: {reason}"
        )
        self.key = key
        """Where it is stored."""


class AppendRefusedError(ServerError):
    """An element cannot be appended; the document is unchanged."""


class NonMonotonicTimestampError(AppendRefusedError):
    """An element's own time is not after the latest element's."""

    def __init__(self, timestamp: int, latest: int) -> None:
        super().__init__(f"ts {timestamp} is refused: it must be greater than the latest, {latest}")
        self.timestamp = timestamp
        self.latest = latest


class TimestampTooFarAheadError(AppendRefusedError):
    """An element's own time is further in the future than clocks differ."""

    def __init__(self, timestamp: int, latest_allowed: int) -> None:
        super().__init__(f"ts {timestamp} is refused: it must be at most {latest_allowed}")
        self.timestamp = timestamp
        self.latest_allowed = latest_allowed


class AppendLimitExceededError(AppendRefusedError):
    """A document has all the elements it may have."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the document is full: it may have {limit} elements")
        self.limit = limit


class PullBoundError(ServerError):
    """A pull of an append-only document does not bound itself as the collection wants."""

    def __init__(self, code: PullBoundProblem) -> None:
        super().__init__(code)
        self.code: PullBoundProblem = code


class ContentionError(ServerError):
    """Other writers were faster so often that the write was given up; nothing was written."""

    def __init__(self, key: str, attempts: int) -> None:
        super().__init__(f"{key!r} changed under each of {attempts} attempts to write it")
        self.key = key
        self.attempts = attempts
