"""Names and versions for the classes of events, and the functions that make old shapes new.

Rule 1: a type's name and version stand in the metadata of each event, so that the hash covers them.
Rule 2: a name means one class in a process; stored events of older versions are brought up to it
before anybody sees them. Rule 3: an event whose type nobody registered is read as plain values.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Hashable, Iterable
from dataclasses import is_dataclass
from functools import lru_cache
from typing import Any, ClassVar, Final, Protocol, TypeVar

import msgspec
from blake3 import blake3

from starfish_watcher._model.event_kind import EventKind
from starfish_watcher._model.payload import decode_payload, encode_payload, plain_payload
from starfish_watcher.errors import EventTypeError

__all__ = (
    "TYPE_KEY",
    "EventType",
    "TypedPayload",
    "encode_typed",
    "event",
    "kind_of",
    "known_types",
    "label_of",
    "registrations",
    "relevant",
    "typed_bytes",
    "typed_value",
    "upcast",
)

_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[[Any], Any])
TYPE_KEY: Final = "$type"
"""Key of the metadata under which name and version stand, as ``account.credited@2``."""
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_DERIVED_CATEGORY: Final = 0xE
_CACHED_BYTES: Final = 256
"""Metadata that holds little besides the type is much the same for many events."""


class _DataclassInstance(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


TypedPayload = msgspec.Struct | _DataclassInstance
"""An instance of a class that `event` registered."""


class EventType:
    """One name: the class of its newest version and the steps that lead there."""

    def __init__(self, name: str) -> None:
        self.name = name
        """As it is stored."""
        self.version = 1
        """Newest version; events of it are not changed."""
        self.kind: EventKind | None = None
        """Of its events; ``None`` while only upcasters are known."""
        self.cls: type[Any] | None = None
        """What its events are decoded to; ``None`` for plain values."""
        self.upcasters: dict[int, Callable[[Any], Any]] = {}
        """By the version that they take."""
        self._decoder: msgspec.msgpack.Decoder[Any] | None = None

    def use(self, cls: type[Any], version: int, kind: EventKind) -> None:
        """Decode to ``cls`` from now on."""
        self.cls, self.version, self.kind = cls, version, kind
        self._decoder = msgspec.msgpack.Decoder(cls)

    def decode(self, data: bytes, version: int) -> Any:
        """The value of stored ``data``.

        Raises:
            EventTypeError: the version is newer than this one, a step is missing or fails, or the
                result is not of the class.
        """
        if version == self.version and self._decoder is not None:
            try:
                return self._decoder.decode(data)
            except msgspec.MsgspecError as error:
                raise EventTypeError(self.name, version, str(error)) from error
        value = self._brought_up(decode_payload(data), version)
        if self.cls is None:
            return value
        try:
            return msgspec.convert(value, self.cls)
        except msgspec.MsgspecError as error:
            reason = f"its upcasters do not give version {self.version}: {error}"
            raise EventTypeError(self.name, version, reason) from error

    def _brought_up(self, value: Any, version: int) -> Any:
        if version > self.version:
            reason = f"this program knows versions up to {self.version}; it needs a later release"
            raise EventTypeError(self.name, version, reason)
        for step in range(version, self.version):
            upcaster = self.upcasters.get(step)
            if upcaster is None:
                reason = f"no upcaster leads from version {step} to {step + 1}"
                raise EventTypeError(self.name, version, reason)
            try:
                value = upcaster(value)
            except Exception as error:
                reason = f"the upcaster from version {step} failed: {type(error).__name__}: {error}"
                raise EventTypeError(self.name, version, reason) from error
        return value


_lock = threading.Lock()
_by_name: Final[dict[str, EventType]] = {}
_by_class: Final[dict[type[Any], EventType]] = {}
_registrations: Final[list[int]] = [0]


def event(
    name: str, *, version: int = 1, kind: EventKind | None = None
) -> Callable[[type[_T]], type[_T]]:
    """Register a msgspec struct or a dataclass as the newest version of the event type ``name``.

    Args:
        name: Stored with each event: ASCII letters, digits, ``_``, ``.`` and ``-``, at most 200.
        version: From 1; grows when the shape changes, with an `upcast` from the one before.
        kind: Of its events; derived from the name when it is not given, in category 0xE.

    Raises:
        TypeError: the class is neither a struct nor a dataclass.
        ValueError: the name, the version or the kind is refused; the message says why.

    Examples:
        >>> @event("account.credited", version=2)
        ... class Credited(msgspec.Struct, frozen=True):
        ...     amount: int
        ...     currency: str
        >>> @upcast("account.credited", 1)
        ... def _(old):
        ...     return {**old, "currency": "EUR"}
    """
    _check(name, version)
    given = EventKind.custom(_DERIVED_CATEGORY, _derived(name)) if kind is None else kind

    def register(cls: type[_T]) -> type[_T]:
        if not (issubclass(cls, msgspec.Struct) or is_dataclass(cls)):
            msg = f"event type {name!r} must be a msgspec.Struct or a dataclass, not {cls!r}"
            raise TypeError(msg)
        with _lock:
            known = _by_name.get(name) or EventType(name)
            if known.cls is not None and _path(known.cls) != _path(cls):
                msg = f"event type {name!r} is registered already, as {_path(known.cls)}"
                raise ValueError(msg)
            if late := [step for step in known.upcasters if step >= version]:
                msg = f"event type {name!r} has version {version}, but an upcaster from {late[0]}"
                raise ValueError(msg)
            if kind is None:
                for other in _by_name.values():
                    if other.kind == given and other.name != name:
                        msg = (
                            f"event types {name!r} and {other.name!r} would both have kind {given}:"
                            " give one of them a kind of its own with kind="
                        )
                        raise ValueError(msg)
            if known.cls is not None:
                _by_class.pop(known.cls, None)
            known.use(cls, version, given)
            _by_name[name] = _by_class[cls] = known
            _registrations[0] += 1
        return cls

    return register


def upcast(name: str, version: int) -> Callable[[_F], _F]:
    """Register the function that makes the payload of ``version`` one of ``version + 1``.

    It gets the plain values (dicts, lists, text, …) of the stored payload and returns such values.

    Raises:
        ValueError: the type has no later version, or another function for this one.
    """
    _check(name, version)

    def register(function: _F) -> _F:
        with _lock:
            known = _by_name.get(name) or EventType(name)
            if known.cls is not None and version >= known.version:
                msg = f"event type {name!r} has version {known.version}, nothing follows {version}"
                raise ValueError(msg)
            before = known.upcasters.get(version)
            if before is not None and _path(before) != _path(function):
                msg = f"event type {name!r} has an upcaster from {version}: {_path(before)}"
                raise ValueError(msg)
            known.upcasters[version] = function
            if known.cls is None:
                known.version = max(known.upcasters) + 1
            _by_name[name] = known
            _registrations[0] += 1
        return function

    return register


def kind_of(event_type: object) -> EventKind:
    """The kind of a registered class, or the kind itself.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(event_type, EventKind):
        return event_type
    known = _by_class.get(event_type) if isinstance(event_type, type) else None
    if known is None or known.kind is None:
        msg = f"{event_type!r:.200} is neither an EventKind nor a class registered with event()"
        raise TypeError(msg)
    return known.kind


def relevant(kinds: Iterable[EventKind | type[Any]]) -> frozenset[Hashable]:
    """The kinds of any source, with those of registered classes in place of the classes."""
    found: list[Any] = [kind_of(kind) if kind in _by_class else kind for kind in kinds]
    return frozenset(found)


def registrations() -> int:
    """A number that grows whenever `known_types` changes."""
    return _registrations[0]


def known_types() -> tuple[EventType, ...]:
    """All registered types, by name."""
    with _lock:
        return tuple(_by_name[name] for name in sorted(_by_name))


def encode_typed(value: object) -> tuple[EventKind, bytes, str] | None:
    """Kind, payload bytes and label of an instance of a registered class; ``None`` for others.

    Raises:
        EventTypeError: a field is not of its type.
        TypeError: a field has no msgpack form.
        ValueError: likewise.
    """
    known = _by_class.get(type(value))
    if known is None or known.kind is None:
        return None
    data = encode_payload(msgspec.to_builtins(value, builtin_types=(bytes,)))
    known.decode(data, known.version)
    return known.kind, data, f"{known.name}@{known.version}"


def typed_value(data: bytes, metadata: bytes | None) -> Any:
    """The payload as its reader wants it: of the newest version, decoded.

    Raises:
        EventTypeError: it cannot be brought up to the newest version.
        PayloadErasedError: it was erased, or its key ring is not open.
    """
    label = None if metadata is None else label_of(metadata)
    known = None if label is None else _by_name.get(label[0])
    if known is None or label is None:
        return decode_payload(data)
    return known.decode(plain_payload(data), label[1])


def typed_bytes(data: bytes, metadata: bytes | None) -> bytes:
    """The payload as msgpack bytes of the newest version.

    Raises:
        EventTypeError: it cannot be brought up to the newest version.
        PayloadErasedError: it was erased, or its key ring is not open.
    """
    data = plain_payload(data)
    label = None if metadata is None else label_of(metadata)
    known = None if label is None else _by_name.get(label[0])
    if known is None or label is None or known.version == label[1]:
        return data
    value = known.decode(data, label[1])
    return encode_payload(msgspec.to_builtins(value, builtin_types=(bytes,)))


def label_of(metadata: bytes) -> tuple[str, int] | None:
    """Name and version of the type in an event's metadata; ``None`` for an untyped event."""
    return _label(metadata) if len(metadata) > _CACHED_BYTES else _cached_label(metadata)


def _label(metadata: bytes) -> tuple[str, int] | None:
    label = decode_payload(metadata).get(TYPE_KEY)
    if not isinstance(label, str):
        return None
    name, _, version = label.rpartition("@")
    return (name, int(version)) if version.isdecimal() else None


_cached_label: Final = lru_cache(maxsize=4096)(_label)


def _check(name: object, version: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        msg = (
            f"event type name {name!r:.80} is refused: it must have 1 to 200 ASCII letters, digits,"
            " '_', '.' and '-', and begin with none of the last two"
        )
        raise ValueError(msg)
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        msg = f"version of event type {name!r} must be a whole number from 1, not {version!r:.80}"
        raise ValueError(msg)


def _derived(name: str) -> int:
    return int.from_bytes(blake3(name.encode()).digest(2)) & 0xFFF


def _path(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"
