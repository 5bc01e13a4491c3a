"""The columns of an event, in the order of the fields of the class `Event`."""

from __future__ import annotations

from typing import Final

__all__ = ("CHECKED_COLUMNS", "COLUMNS")

COLUMNS: Final = (
    "sequence, entity, scope, clock, kind, event_id, timestamp_us, correlation_id, causation_id, "
    "payload, previous_hash, event_hash, metadata"
)
"""What makes an `Event`."""
CHECKED_COLUMNS: Final = f"{COLUMNS}, payload_check"
"""And the check of its payload."""
