"""An event as it is stored.

Rule: fields stand in the order of the columns that every log reads, so that a row becomes an
event without one line of Python; whatever costs time is a property that computes when asked.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from starfish_watcher._model.coordinate import Coordinate
from starfish_watcher._model.event_kind import EventKind, kind_of_code
from starfish_watcher._model.event_types import TYPE_KEY, label_of, typed_bytes, typed_value
from starfish_watcher._model.payload import decode_payload
from starfish_watcher.hash_chain import event_hash, hash_payload

__all__ = ("Event", "RawEvent")


class Event(msgspec.Struct, frozen=True, gc=False):
    """One fact about one entity; also a `starfish_protocol.events.Event`."""

    sequence: int
    """Position in the store, from 1 without holes."""
    entity: str
    """What it is about; the same as ``coordinate.entity``."""
    scope: str
    """Where it happened; the same as ``coordinate.scope``."""
    clock: int
    """Position in its entity, from 0 without holes."""
    kind_code: int
    """``kind`` as a number."""
    id_bytes: bytes
    """``event_id`` as 16 bytes."""
    timestamp_us: int
    """When it was appended by the store's clock, microseconds since the epoch."""
    correlation_bytes: bytes | None
    """``correlation_id`` as 16 bytes."""
    causation_bytes: bytes | None
    """``causation_id`` as 16 bytes."""
    payload_bytes: bytes
    """The payload as msgpack."""
    previous_hash: bytes
    """``event_hash`` of the entity's event before, zeros for the first."""
    event_hash: bytes
    """BLAKE3 over everything else; `starfish_watcher.hash_chain` has the layout."""
    metadata_bytes: bytes | None = None
    """The metadata as msgpack, ``None`` for none."""

    @property
    def event_id(self) -> UUID:
        """UUID version 7 from the store's clock."""
        return UUID(bytes=self.id_bytes)

    @property
    def coordinate(self) -> Coordinate:
        """Entity and scope."""
        return Coordinate(self.entity, self.scope)

    @property
    def kind(self) -> EventKind:
        """What happened."""
        return kind_of_code(self.kind_code)

    @property
    def payload(self) -> Any:
        """The details, decoded anew at each access: what one reader does to it no other sees.

        Of a registered type it is an instance of the class, whatever version was stored.

        Raises:
            EventTypeError: it cannot be brought up to the newest version.
            PayloadErasedError: it was erased, or its key ring is not open.
        """
        return typed_value(self.payload_bytes, self.metadata_bytes)

    @property
    def type_name(self) -> str | None:
        """Name of its event type, ``None`` for an untyped event."""
        label = None if self.metadata_bytes is None else label_of(self.metadata_bytes)
        return None if label is None else label[0]

    @property
    def type_version(self) -> int | None:
        """Version that it was appended with, ``None`` for an untyped event."""
        label = None if self.metadata_bytes is None else label_of(self.metadata_bytes)
        return None if label is None else label[1]

    @property
    def metadata(self) -> dict[str, Any]:
        """What stands beside the payload, a small map; empty for none."""
        if self.metadata_bytes is None:
            return {}
        metadata: dict[str, Any] = decode_payload(self.metadata_bytes)
        metadata.pop(TYPE_KEY, None)
        return metadata

    @property
    def payload_hash(self) -> bytes:
        """BLAKE3 of ``payload_bytes``, 32 bytes."""
        return hash_payload(self.payload_bytes)

    @property
    def correlation_id(self) -> UUID | None:
        """What the event belongs to: a request, a conversation."""
        return None if self.correlation_bytes is None else UUID(bytes=self.correlation_bytes)

    @property
    def causation_id(self) -> UUID | None:
        """The event that caused this one."""
        return None if self.causation_bytes is None else UUID(bytes=self.causation_bytes)

    @property
    def generation(self) -> int:
        """The entity's generation from this event on."""
        return self.clock + 1

    def computed_hash(self) -> bytes:
        """What ``event_hash`` must be for this content, 32 bytes."""
        return event_hash(
            self.previous_hash,
            sequence=self.sequence,
            clock=self.clock,
            kind_code=self.kind_code,
            timestamp_us=self.timestamp_us,
            event_id=self.id_bytes,
            correlation_id=self.correlation_bytes,
            causation_id=self.causation_bytes,
            entity=self.entity,
            scope=self.scope,
            payload_hash=self.payload_hash,
            metadata=self.metadata_bytes,
        )


class RawEvent(Event, frozen=True, gc=False):
    """The same event for a projection in the raw lane: ``payload`` is the msgpack bytes."""

    @property
    def payload(self) -> bytes:
        """The payload as msgpack, not decoded; of an older version only as that of the newest."""
        if self.metadata_bytes is None and self.payload_bytes[:1] < b"\xc7":
            return self.payload_bytes
        return typed_bytes(self.payload_bytes, self.metadata_bytes)
