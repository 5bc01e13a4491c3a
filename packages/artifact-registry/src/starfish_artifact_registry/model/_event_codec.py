"""Events as bytes: payload to deterministic CBOR and back, and the envelope around it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from starfish_artifact_registry.errors import LogDamagedError, UnknownEventTypeError
from starfish_artifact_registry.model import _event_digest as digests
from starfish_artifact_registry.model import _manifest as manifests
from starfish_artifact_registry.model._catalogue import (
    EVENT_TYPES,
    EventPayload,
    PackageFinalized,
    check_text,
)
from starfish_artifact_registry.model._moment import from_ms, to_ms
from starfish_artifact_registry.model._plain_values import from_plain, to_plain
from starfish_protocol import cbor

__all__ = ("EncodedPayload", "Event", "NewEvent", "chain_event", "decode_payload", "encode_payload")


@dataclass(frozen=True, slots=True)
class EncodedPayload:
    """A payload as its bytes, where reading it would only make them again."""

    event_type: str
    """A type of the catalogue."""
    data: bytes
    """Its deterministic CBOR."""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event that has no place in the log yet."""

    package_id: UUID
    """What it is about."""
    payload: EventPayload | EncodedPayload
    """What happened."""
    actor: str
    """Who did it."""
    created_at: datetime | None = None
    """When, aware UTC, for a fact from elsewhere; ``None`` is the time of the append."""

    def __post_init__(self) -> None:
        check_text("actor", self.actor)


@dataclass(frozen=True, slots=True)
class Event:
    """An event of the log; also an event of `starfish_protocol.events`."""

    sequence: int
    """Position in the log, from 1 without holes."""
    event_id: UUID
    """Its id."""
    package_id: UUID
    """The package that it is about."""
    event_type: str
    """What happened: a type of the catalogue."""
    payload: bytes
    """The details as deterministic CBOR; `decoded` reads them."""
    payload_digest: bytes
    """BLAKE3 of the payload, 32 bytes."""
    prev_digest: bytes
    """Digest of the event before, 32 zero bytes for the first."""
    event_digest: bytes
    """Digest of this event and, through the one before, of all before it."""
    actor: str
    """Who did it."""
    created_at: datetime
    """When, aware UTC, to the millisecond."""

    @property
    def entity(self) -> str:
        """``package:<id>``."""
        return f"package:{self.package_id}"

    @property
    def kind(self) -> str:
        """The same as `event_type`."""
        return self.event_type

    def undecoded(self) -> EncodedPayload:
        """The payload as its bytes."""
        return EncodedPayload(self.event_type, self.payload)

    def decoded(self) -> EventPayload:
        """Read the payload.

        Raises:
            LogDamagedError: it is not what its type says.
            UnknownEventTypeError: a newer version wrote it.
        """
        try:
            return decode_payload(self.event_type, self.payload)
        except ValueError as error:
            raise LogDamagedError(self.sequence, f"its payload is refused: {error}") from error


class _WrittenEvent(Event):
    """An event that was encoded just now: its payload need not be read again."""

    __slots__ = ("_payload",)
    _payload: EventPayload

    @classmethod
    def of(cls, payload: EventPayload, *columns: Any) -> Event:
        event = cls(*columns)
        object.__setattr__(event, "_payload", payload)
        return event

    def decoded(self) -> EventPayload:
        """The payload."""
        return self._payload


def encode_payload(payload: EventPayload | EncodedPayload) -> bytes:
    """Encode what happened; for a finalized package these are the bytes of its manifest."""
    if isinstance(payload, EncodedPayload):
        return payload.data
    if isinstance(payload, PackageFinalized):
        return manifests.encode(payload.manifest)
    return cbor.encode(to_plain(payload))


def decode_payload(event_type: str, payload: bytes) -> EventPayload:
    """Read what happened; encoding it again gives the same bytes.

    Raises:
        UnknownEventTypeError: there is no such type in this version.
        ValueError: the bytes are not what the type says.
    """
    cls = EVENT_TYPES.get(event_type)
    if cls is None:
        raise UnknownEventTypeError(event_type, tuple(EVENT_TYPES))
    if cls is PackageFinalized:
        return PackageFinalized(manifest=manifests.decode(payload))
    return from_plain(cls, cbor.decode(payload))


def chain_event(
    new: NewEvent, *, sequence: int, prev_digest: bytes, event_id: UUID, now: datetime
) -> Event:
    """Give an event its place: the sequence, and the digests that tie it to the event before."""
    created_at = from_ms(to_ms(new.created_at or now))
    payload = encode_payload(new.payload)
    payload_digest = digests.payload_digest(payload)
    record = digests.record_digest(
        sequence=sequence,
        event_id=event_id,
        package_id=new.package_id,
        event_type=new.payload.event_type,
        payload_digest=payload_digest,
        actor=new.actor,
        created_at_ms=to_ms(created_at),
    )
    columns = (
        sequence,
        event_id,
        new.package_id,
        new.payload.event_type,
        payload,
        payload_digest,
        prev_digest,
        digests.event_digest(prev_digest, record),
        new.actor,
        created_at,
    )
    if isinstance(new.payload, EncodedPayload):
        return Event(*columns)
    return _WrittenEvent.of(new.payload, *columns)
