"""The hash that ties an event to everything before it in its entity.

The hash is BLAKE3 over these bytes, integers big-endian, nothing between them:

====================  ==================================================================
bytes                 what
====================  ==================================================================
18                    ``starfish-event-v1`` and a newline
32                    ``event_hash`` of the entity's previous event, zeros for the first
8, 8                  sequence, clock
2                     kind
8                     timestamp in microseconds since the epoch
16                    event id
1 + 16, 1 + 16        correlation id, causation id: 1 and the id, or 0 and zeros
2 + n                 length of the entity in UTF-8, the entity
2 + n                 length of the scope in UTF-8, the scope
32                    BLAKE3 of the payload's bytes
32                    BLAKE3 of the metadata's bytes; only where an event has metadata
====================  ==================================================================

An event with metadata begins with ``starfish-event-v2`` instead.
"""

from __future__ import annotations

import struct
from typing import Final

from blake3 import blake3

__all__ = ("NO_HASH", "event_hash", "hash_payload")

NO_HASH: Final = bytes(32)
"""Stands where an entity has no event yet."""
_DOMAIN: Final = b"starfish-event-v1\n"
_DOMAIN_WITH_METADATA: Final = b"starfish-event-v2\n"
_NO_ID: Final = bytes(17)
_HEADER: Final = struct.Struct(">QQHQ")


def hash_payload(payload: bytes) -> bytes:
    """BLAKE3 of a payload's msgpack bytes, 32 bytes."""
    return blake3(payload).digest()


def event_hash(
    previous: bytes,
    *,
    sequence: int,
    clock: int,
    kind_code: int,
    timestamp_us: int,
    event_id: bytes,
    correlation_id: bytes | None,
    causation_id: bytes | None,
    entity: str,
    scope: str,
    payload_hash: bytes,
    metadata: bytes | None = None,
) -> bytes:
    """The event's hash as this module's table says, 32 bytes."""
    entity_bytes, scope_bytes = entity.encode(), scope.encode()
    return blake3(
        b"".join(
            (
                _DOMAIN if metadata is None else _DOMAIN_WITH_METADATA,
                previous,
                _HEADER.pack(sequence, clock, kind_code, timestamp_us),
                event_id,
                b"\x01" + correlation_id if correlation_id is not None else _NO_ID,
                b"\x01" + causation_id if causation_id is not None else _NO_ID,
                len(entity_bytes).to_bytes(2),
                entity_bytes,
                len(scope_bytes).to_bytes(2),
                scope_bytes,
                payload_hash,
                b"" if metadata is None else blake3(metadata).digest(),
            )
        )
    ).digest()
