"""What a `JetStreamEventLog` writes into its stream: subjects and bodies.

A stream ``NAME`` takes the subjects ``NAME.>``:

=======================  ==========================================================================
subject                  body
=======================  ==========================================================================
``NAME.event.<entity>``  one event
``NAME.removal``         a part of a compaction: which events are gone, and what outlives them
``NAME.closing``         every handle that is open now is to close
=======================  ==========================================================================

Namespaces of an entity are tokens of the subject: ``account:1`` is ``NAME.event.account.1``, so
``NAME.event.account.>`` is everything below ``account``. Whatever NATS or its tools could
misunderstand is written as ``%XX``, and an empty part as ``%``.

Bodies are msgpack arrays whose first member names the kind and its version. ``more`` counts the
messages that belong to the same atomic batch and come after this one; a reader shows nothing of
a batch before it has all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple
from urllib.parse import quote

import msgspec

from starfish_watcher._model.event import Event
from starfish_watcher.log.base import EntityHead
from starfish_watcher.log.plan import AppendPlan

__all__ = (
    "ClosingMessage",
    "EventMessage",
    "KeyResidue",
    "RemovalMessage",
    "Removed",
    "StreamMessage",
    "check_stream_name",
    "decode_message",
    "encode_message",
    "entity_subject",
    "event_messages",
    "removal_messages",
)

EventFields = tuple[
    int, str, str, int, int, bytes, int, bytes | None, bytes | None, bytes, bytes, bytes
]
_STREAM_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")


class EventMessage(msgspec.Struct, frozen=True, array_like=True, tag="event1"):
    """One event."""

    writer: bytes
    """Which handle wrote it, 16 bytes."""
    more: int
    fields: EventFields
    """The event, in the order of `Event`, without its metadata."""
    key: str | None
    """Its idempotency key."""
    content: bytes
    """`PreparedEvent.content`, where there is a key."""
    metadata: bytes | None = None
    """`Event.metadata_bytes`; missing in messages of the first version."""


def _fields(event: Event) -> EventFields:
    fields: EventFields = msgspec.structs.astuple(event)[:12]
    return fields


class KeyResidue(msgspec.Struct, frozen=True, array_like=True):
    """All that is kept of the idempotency key of a removed event."""

    key: str
    content: bytes
    receipt: tuple[bytes, int, int, bytes]
    """The fields of `Receipt`."""


class RemovalMessage(msgspec.Struct, frozen=True, array_like=True, tag="removal1"):
    """Events that are gone, with all that a reader needs who never saw them."""

    writer: bytes
    more: int
    last_sequence: int
    """Of the store."""
    steps: list[int]
    """Sequences: the first one, then the distance of each from the one before."""
    heads: dict[str, tuple[int, int, bytes, int]]
    """`EntityHead` of each entity that lost events, its ``removed`` already counted up."""
    keys: list[KeyResidue]

    @property
    def sequences(self) -> list[int]:
        """All that is gone, in order."""
        sequences: list[int] = []
        last = 0
        for step in self.steps:
            last += step
            sequences.append(last)
        return sequences


class ClosingMessage(msgspec.Struct, frozen=True, array_like=True, tag="closing1"):
    """All handles that are open when it is written are to close."""

    writer: bytes
    more: int = 0


StreamMessage = EventMessage | RemovalMessage | ClosingMessage
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder[StreamMessage](StreamMessage)


def encode_message(message: StreamMessage) -> bytes:
    """The body of a message."""
    return _encoder.encode(message)


def decode_message(body: bytes) -> StreamMessage:
    """The message of a body.

    Raises:
        ValueError: no log of this version wrote it.
    """
    try:
        message: StreamMessage = _decoder.decode(body)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from error
    return message


def check_stream_name(stream: str) -> None:
    """Return when ``stream`` may name a stream.

    Raises:
        ValueError: it may not; the message says which names may.
    """
    if not _STREAM_NAME.fullmatch(stream):
        msg = (
            f"stream {stream[:80]!r} is refused: 1 to 128 ASCII letters, digits, '_' and '-' "
            "are allowed"
        )
        raise ValueError(msg)


def entity_subject(stream: str, entity: str) -> str:
    """The subject of an entity's events; two entities never share one.

    Examples:
        >>> entity_subject("bank", "account:1"), entity_subject("bank", "a.b: *")
        ('bank.event.account.1', 'bank.event.a%2Eb.%20%2A')
    """
    parts = (quote(part, safe="").replace(".", "%2E") or "%" for part in entity.split(":"))
    return f"{stream}.event.{'.'.join(parts)}"


def event_messages(plan: AppendPlan, writer: bytes) -> list[EventMessage]:
    """The messages of a plan, one an event."""
    keys: dict[int, tuple[str | None, bytes]] = {
        record.receipt.sequence: (key, record.content) for key, record in plan.records.items()
    }
    last = len(plan.events) - 1
    return [
        EventMessage(
            writer,
            last - index,
            _fields(event),
            *(*keys.get(event.sequence, (None, b"")), event.metadata_bytes),
        )
        for index, event in enumerate(plan.events)
    ]


class Removed(NamedTuple):
    """An event that a removal takes away, and what it leaves behind."""

    sequence: int
    entity: str
    head: EntityHead
    """The entity's head after the removal."""
    key: KeyResidue | None


def removal_messages(
    writer: bytes, last_sequence: int, removed: Iterable[Removed], max_bytes: int
) -> list[RemovalMessage]:
    """The parts of a removal, in order of sequence, each of about ``max_bytes`` at most."""
    parts: list[RemovalMessage] = []
    size, last = max_bytes, 0
    for sequence, entity, head, key in removed:
        if size >= max_bytes:
            parts.append(RemovalMessage(writer, 0, last_sequence, [], {}, []))
            size, last = 0, 0
        part = parts[-1]
        part.steps.append(sequence - last)
        last = sequence
        size += 9
        if entity not in part.heads:
            part.heads[entity] = (head.generation, head.sequence, head.event_hash, head.removed)
            size += 80 + 4 * len(entity)
        if key is not None:
            part.keys.append(key)
            size += 160 + 4 * len(key.key)
    return [
        msgspec.structs.replace(part, more=len(parts) - 1 - index)
        for index, part in enumerate(parts)
    ]
