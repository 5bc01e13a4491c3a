"""Frozen dataclasses as maps of CBOR values and back.

Ids and content addresses become texts, moments integer milliseconds, tuples lists. Reading is
strict: exactly the fields of the class, each of exactly its type, each text in its one form, so
that writing a read value gives the same bytes.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from datetime import datetime
from functools import cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints
from uuid import UUID

from starfish_artifact_registry.model._moment import from_ms, to_ms
from starfish_protocol.address import ContentAddress

__all__ = ("from_plain", "to_plain")

T = TypeVar("T")
_Reader = Callable[[Any], Any]


def to_plain(value: Any) -> Any:
    """Give the CBOR value of a dataclass or of a value in one."""
    if isinstance(value, UUID | ContentAddress):
        return str(value)
    if isinstance(value, datetime):
        return to_ms(value)
    kind = cast("type[object]", type(value))
    if kind is tuple:
        return [to_plain(member) for member in value]
    if is_dataclass(value):
        return {
            field.name: to_plain(member)
            for field in fields(value)
            if (member := getattr(value, field.name)) or not field.metadata.get("omit_empty")
        }
    return value


def from_plain(cls: type[T], value: Any) -> T:
    """Make a dataclass of a map.

    Raises:
        ValueError: the map is not what `to_plain` gives for the class; the message names the field.
    """
    read: Callable[[Any], T] = _reader_of(cast("Any", cls))
    return read(value)


@cache
def _reader_of(hint: Any) -> _Reader:
    if hint in _READERS:
        return _READERS[hint]
    if is_dataclass(hint):
        return _dataclass_reader(cast("type[Any]", hint))
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple:
        member = _reader_of(arguments[0])
        return lambda value: tuple(map(member, _exactly(list, value)))
    if origin in {Union, types.UnionType}:
        (inner,) = (_reader_of(argument) for argument in arguments if argument is not type(None))
        return lambda value: None if value is None else inner(value)
    if origin is Literal:
        return lambda value: _one_of(arguments, value)
    return lambda value: _exactly(origin or hint, value)


def _dataclass_reader(cls: type[Any]) -> _Reader:
    hints = get_type_hints(cls)
    readers = {field.name: _reader_of(hints[field.name]) for field in fields(cls)}
    optional = {field.name for field in fields(cls) if field.metadata.get("omit_empty")}

    def read(value: Any) -> Any:
        if (
            type(value) is not dict
            or cast("dict[str, Any]", value).keys() | optional != readers.keys()
        ):
            raise ValueError(f"not a map of exactly {', '.join(readers)}")
        values: dict[str, Any] = {}
        for name, reader in readers.items():
            if name in optional and name not in value:
                continue
            try:
                values[name] = reader(value[name])
                if name in optional and not values[name]:
                    raise ValueError("it is empty, so it must be left out")  # noqa: TRY301
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        return cls(**values)

    return read


def _exactly(kind: type[Any], value: Any) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{value!r:.80} is not of type {kind.__name__}")
    return value


def _one_of(legal: tuple[Any, ...], value: Any) -> Any:
    if type(value) is not str or value not in legal:
        raise ValueError(f"{value!r:.80} is none of {', '.join(map(repr, legal))}")
    return value


def _uuid(value: Any) -> UUID:
    found = UUID(_exactly(str, value))
    if str(found) != value:
        raise ValueError(f"{value!r:.80} is not the canonical form of an id")
    return found


_READERS: dict[Any, _Reader] = {
    UUID: _uuid,
    ContentAddress: ContentAddress.parse,
    datetime: lambda value: from_ms(_exactly(int, value)),
}
