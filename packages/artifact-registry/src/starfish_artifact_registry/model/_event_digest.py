"""The digests that tie events into one chain; pure, so that a proof is checked without a database.

Two steps: the record digest covers an event's own fields, the event digest covers the record digest
and the event before. So 32 bytes stand for an event in a proof that does not disclose it. All
digests are BLAKE3 of deterministic CBOR of one array:

* record digest of ``["starfish-registry-record-v1", sequence, event_id, package_id, event_type,
  payload_digest, actor, created_at]``: both ids as lowercase text with hyphens, the payload digest
  as 32 bytes, the time as integer milliseconds since the epoch
* event digest of ``["starfish-registry-event-v1", prev_digest, record_digest]``: 32 bytes each
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from blake3 import blake3

from starfish_protocol import cbor

__all__ = ("GENESIS_DIGEST", "event_digest", "payload_digest", "record_bytes", "record_digest")

GENESIS_DIGEST: Final = bytes(32)
"""What stands before the first event."""
_RECORD: Final = "starfish-registry-record-v1"
_EVENT: Final = "starfish-registry-event-v1"
_BYTES_32: Final = b"\x58\x20"
_EVENT_HEAD: Final = cbor.encode([_EVENT, bytes(32), bytes(32)])[:-66]
"""The array of the event digest up to its first digest; both have 32 bytes, so the rest is known."""


def payload_digest(payload: bytes) -> bytes:
    """BLAKE3 of a payload, 32 bytes.

    Examples:
        >>> payload_digest(b"").hex()[:16]
        'af1349b9f5f9a1a6'
    """
    return blake3(payload).digest()


def record_bytes(
    *,
    sequence: int,
    event_id: UUID,
    package_id: UUID,
    event_type: str,
    payload_digest: bytes,
    actor: str,
    created_at_ms: int,
) -> bytes:
    """What one event says, as the deterministic CBOR that its record digest covers.

    It is a leaf of the Merkle tree of the log, too.
    """
    return cbor.encode(
        [
            *(_RECORD, sequence, str(event_id), str(package_id), event_type),
            *(payload_digest, actor, created_at_ms),
        ]
    )


def record_digest(
    *,
    sequence: int,
    event_id: UUID,
    package_id: UUID,
    event_type: str,
    payload_digest: bytes,
    actor: str,
    created_at_ms: int,
) -> bytes:
    """BLAKE3 of what one event says, 32 bytes.

    Examples:
        >>> record_digest(
        ...     sequence=1,
        ...     event_id=UUID(int=1),
        ...     package_id=UUID(int=2),
        ...     event_type="v1.package.created",
        ...     payload_digest=bytes(32),
        ...     actor="ada",
        ...     created_at_ms=0,
        ... ).hex()[:16]
        'c1898eff183ef38d'
    """
    record = record_bytes(
        sequence=sequence,
        event_id=event_id,
        package_id=package_id,
        event_type=event_type,
        payload_digest=payload_digest,
        actor=actor,
        created_at_ms=created_at_ms,
    )
    return blake3(record).digest()


def event_digest(prev_digest: bytes, record_digest: bytes) -> bytes:
    """BLAKE3 of the chain up to and with an event, 32 bytes.

    Args:
        prev_digest: event digest of the event before, `GENESIS_DIGEST` for the first.
        record_digest: of the event itself.

    Examples:
        >>> event_digest(GENESIS_DIGEST, bytes(32)).hex()[:16]
        '4bfa4852776237c3'
    """
    if len(prev_digest) != 32 or len(record_digest) != 32:  # a damaged row
        return blake3(cbor.encode([_EVENT, prev_digest, record_digest])).digest()
    return blake3(_EVENT_HEAD + prev_digest + _BYTES_32 + record_digest).digest()
