"""Every cap of this package, with its reason."""

from __future__ import annotations

from typing import Final

__all__ = (
    "BUSY_TIMEOUT_S",
    "FLUSH_INTERVAL_S",
    "MAX_BATCH_EVENTS",
    "MAX_COORDINATE_BYTES",
    "MAX_GROUP_BYTES",
    "MAX_GROUP_EVENTS",
    "MAX_IDEMPOTENCY_KEY_BYTES",
    "MAX_KEPT_STATES",
    "MAX_METADATA_BYTES",
    "MAX_PAYLOAD_BYTES",
    "MAX_PAYLOAD_DEPTH",
    "MAX_READ_EVENTS",
)

MAX_COORDINATE_BYTES: Final = 1024
"""UTF-8 bytes of an entity or a scope: they are index keys in every store."""
MAX_PAYLOAD_BYTES: Final = 8 * 1024 * 1024
"""Of one event; larger things belong in a content store, with their address in the event."""
MAX_METADATA_BYTES: Final = 16 * 1024
"""Of one event: it is read with every event, whether a reader wants it or not."""
MAX_PAYLOAD_DEPTH: Final = 128
"""Lists and maps inside each other; below what the decoder's recursion allows."""
MAX_IDEMPOTENCY_KEY_BYTES: Final = 512
"""UTF-8 bytes; room for two URLs, and still an index key."""
MAX_BATCH_EVENTS: Final = 16_384
"""Events of one all-or-nothing batch: it is one transaction and holds up every other writer."""
MAX_GROUP_EVENTS: Final = 2048
"""Events that the writer puts into one commit; more gains nothing and delays the first caller."""
MAX_GROUP_BYTES: Final = 16 * 1024 * 1024
"""Payload bytes in one commit, so that large events do not pile up in memory."""
MAX_READ_EVENTS: Final = 65_536
"""Events of one ``read`` or ``query``: page for more."""
MAX_KEPT_STATES: Final = 16_384
"""States of projections that a store keeps in memory; the least recently used goes first."""
BUSY_TIMEOUT_S: Final = 30.0
"""How long a writer waits for the writers of other processes before it gives up."""
FLUSH_INTERVAL_S: Final = 0.1
"""How long a ``batched`` append may wait for its fsync: what a power failure can take back."""
