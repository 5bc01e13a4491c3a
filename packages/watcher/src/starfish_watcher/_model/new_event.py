"""What an append asks for, checked and encoded before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, is_dataclass
from enum import Enum
from typing import Any, Final, Literal, cast, get_args
from uuid import UUID

import msgspec
from blake3 import blake3

from starfish_watcher._limits import MAX_BATCH_EVENTS, MAX_IDEMPOTENCY_KEY_BYTES, MAX_METADATA_BYTES
from starfish_watcher._model.coordinate import Coordinate
from starfish_watcher._model.event_kind import EventKind
from starfish_watcher._model.event_types import TYPE_KEY, TypedPayload, encode_typed
from starfish_watcher._model.payload import encode_payload, sealed_payload
from starfish_watcher.errors import EventTypeError
from starfish_watcher.hash_chain import hash_payload

__all__ = (
    "NEW",
    "BatchItem",
    "Durability",
    "Expected",
    "NewEvent",
    "PreparedEvent",
    "Seal",
    "check_durability",
    "new_event",
    "prepare",
    "prepare_batch",
)

Durability = Literal["commit", "batched", "none"]
"""When an append returns: after fsync, or before it with a flush soon, or before it."""


class Expected(Enum):
    """What an append expects that is not a number."""

    NEW = "no event"


NEW: Final = Expected.NEW
"""``expected=NEW``: the entity must not have had any event; not the same as being at clock 0."""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An item of `EventStore.append_batch` that needs more than coordinate, kind and payload."""

    coordinate: Coordinate
    """Where the event belongs."""
    kind: EventKind | TypedPayload
    """What happened: a kind, or an instance of a class registered with `event`."""
    payload: Any = None
    """The details, in msgpack's types; not given beside such an instance."""
    expected: Literal[Expected.NEW] | int | None = None
    """`NEW`, the clock that the entity's newest event must have, or no expectation."""
    idempotency_key: str | None = None
    """The same key with the same coordinate, kind and payload is appended once."""
    correlation_id: UUID | None = None
    """What the event belongs to."""
    causation_id: UUID | None = None
    """The event that caused it."""
    caused_by: int | None = None
    """Index of an earlier item of the same batch that caused it, instead of ``causation_id``."""
    metadata: Mapping[str, Any] | None = None
    """What stands beside the payload: a map of at most 16 KiB with str keys, in msgpack's types."""


BatchItem = NewEvent | tuple[Coordinate, EventKind, Any] | tuple[Coordinate, TypedPayload]
"""What `EventStore.append_batch` takes: a new event, or its first fields."""
Seal = Callable[[str, bytes], bytes]
"""Encrypts a payload of an entity."""


class PreparedEvent(msgspec.Struct, frozen=True, gc=False):
    """A new event whose every field was checked; what a log gets."""

    entity: str
    scope: str
    kind_code: int
    payload_bytes: bytes
    payload_hash: bytes
    expected: Literal[Expected.NEW] | int | None
    idempotency_key: str | None
    correlation_bytes: bytes | None
    causation_bytes: bytes | None
    caused_by: int | None
    metadata_bytes: bytes | None = None

    @property
    def content(self) -> bytes:
        """32 bytes that are equal for what an idempotency key takes as the same content."""
        parts = (self.entity.encode(), self.scope.encode())
        framed = b"".join(len(part).to_bytes(2) + part for part in parts)
        return blake3(framed + self.kind_code.to_bytes(2) + self.payload_hash).digest()


def check_durability(durability: str) -> None:
    """Return when ``durability`` is one.

    Raises:
        ValueError: it is not.
    """
    if durability not in get_args(Durability):
        msg = f"durability must be one of {', '.join(get_args(Durability))}, not {durability!r}"
        raise ValueError(msg)


def prepare_batch(items: Iterable[BatchItem], seal: Seal | None = None) -> list[PreparedEvent]:
    """Check and encode the items of one batch, and seal them when there is something to do it.

    Raises:
        TypeError: as `prepare`, or an item is something else.
        ValueError: as `prepare`, or there are too many.
    """
    items = list(items)
    if len(items) > MAX_BATCH_EVENTS:
        msg = f"a batch of {len(items)} events is refused; it must have at most {MAX_BATCH_EVENTS}"
        raise ValueError(msg)
    if len(items) == 1:
        return [prepare(new_event(items[0]), seal=seal)]
    prepared: list[PreparedEvent] = []
    for index, item in enumerate(items):
        try:
            prepared.append(prepare(new_event(item), index, seal))
        except EventTypeError as error:
            raise EventTypeError(error.name, error.version, error.reason, index) from error
        except (TypeError, ValueError) as error:
            raise type(error)(f"item {index} of the batch: {error}") from error
    return prepared


def new_event(item: object) -> NewEvent:
    """The item with all its fields.

    Raises:
        TypeError: it is not an item.
    """
    if isinstance(item, NewEvent):
        return item
    if isinstance(item, tuple):
        fields: tuple[Any, ...] = tuple(cast("Any", item))
        if len(fields) == 3 or (len(fields) == 2 and not isinstance(fields[1], EventKind)):
            return NewEvent(*fields)  # prepare() checks the members
    msg = (
        "an item is a NewEvent or a tuple (coordinate, kind, payload) or (coordinate, typed event),"
        f" not {item!r:.200}"
    )
    raise TypeError(msg)


def prepare(new: NewEvent, index: int = 0, seal: Seal | None = None) -> PreparedEvent:
    """Check and encode item ``index`` of a batch.

    Raises:
        EventTypeError: the payload does not fit its event type.
        TypeError: a field has another type than its own; the message says which.
        ValueError: a field's value is refused; the message names the rule.
    """
    _require("coordinate", new.coordinate, Coordinate)
    typed = None if isinstance(new.kind, EventKind) else encode_typed(new.kind)
    if typed is not None:
        kind, payload, label = typed
        if new.payload is not None:
            msg = f"payload must not be given beside the typed event {type(new.kind).__name__}"
            raise TypeError(msg)
    else:
        kind, payload, label = _checked_kind(new.kind), b"", None
    _check_expected(new.expected)
    if new.idempotency_key is not None:
        _check_key(new.idempotency_key)
    if new.caused_by is not None:
        if new.causation_id is not None:
            msg = "causation_id and caused_by exclude each other"
            raise ValueError(msg)
        if not 0 <= new.caused_by < index:
            msg = f"caused_by is {new.caused_by}, but it names an earlier item than item {index}"
            raise ValueError(msg)
    if label is None:
        payload = encode_payload(new.payload)
    if seal is not None:
        payload = sealed_payload(seal(new.coordinate.entity, payload))
    return PreparedEvent(
        new.coordinate.entity,
        new.coordinate.scope,
        kind.code,
        payload,
        hash_payload(payload),
        new.expected,
        new.idempotency_key,
        _id_bytes("correlation_id", new.correlation_id),
        _id_bytes("causation_id", new.causation_id),
        new.caused_by,
        _metadata_bytes(new.metadata, label),
    )


def _checked_kind(kind: object) -> EventKind:
    if isinstance(kind, EventKind):
        return kind
    if isinstance(kind, msgspec.Struct) or (is_dataclass(kind) and not isinstance(kind, type)):
        msg = f"{type(kind).__name__} is not an event type: register the class with event()"
        raise TypeError(msg)
    msg = f"kind must be an EventKind or a typed event, not a {type(kind).__name__}"
    raise TypeError(msg)


def _metadata_bytes(metadata: Mapping[str, Any] | None, label: str | None) -> bytes | None:
    whole: dict[str, Any] = {}
    if metadata:
        _require("metadata", metadata, Mapping)
        whole = dict(metadata)
    for key in whole:
        if str(key).startswith("$"):
            msg = f"metadata has the key {key!r:.80}; keys must not begin with '$'"
            raise ValueError(msg)
    if label is not None:
        whole[TYPE_KEY] = label
    if not whole:
        return None
    data = encode_payload(whole, "metadata")
    if len(data) > MAX_METADATA_BYTES:
        msg = f"metadata has {len(data)} bytes, it must have at most {MAX_METADATA_BYTES}"
        raise ValueError(msg)
    return data


def _require(what: str, value: object, wanted: type) -> None:
    if not isinstance(value, wanted):
        msg = f"{what} must be a {wanted.__name__}, not a {type(value).__name__}"
        raise TypeError(msg)


def _check_expected(expected: object) -> None:
    if expected is None or expected is NEW:
        return
    if isinstance(expected, bool) or not isinstance(expected, int):
        msg = f"expected must be None, NEW or a clock, not {type(expected).__name__}"
        raise TypeError(msg)
    if expected < 0:
        msg = f"expected is {expected}; a clock counts from 0, and NEW says that there is no event"
        raise ValueError(msg)


def _check_key(key: str) -> None:
    _require("idempotency_key", key, str)
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        size = 0
    if not 1 <= size <= MAX_IDEMPOTENCY_KEY_BYTES:
        msg = f"idempotency_key must have 1 to {MAX_IDEMPOTENCY_KEY_BYTES} UTF-8 bytes"
        raise ValueError(msg)


def _id_bytes(what: str, value: UUID | None) -> bytes | None:
    if value is None:
        return None
    _require(what, value, UUID)
    return value.bytes
