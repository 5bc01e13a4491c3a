"""Errors that pulls, pushes and appends raise."""

from starfish_server.documents._errors import (
    AppendLimitExceededError,
    AppendRefusedError,
    ContentionError,
    DamagedDocumentError,
    NonMonotonicTimestampError,
    PullBoundError,
    TimestampTooFarAheadError,
)

__all__ = (
    "AppendLimitExceededError",
    "AppendRefusedError",
    "ContentionError",
    "DamagedDocumentError",
    "NonMonotonicTimestampError",
    "PullBoundError",
    "TimestampTooFarAheadError",
)
