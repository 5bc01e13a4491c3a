"""What a user may say about a package: a JSON object that every database and format gives back."""

from __future__ import annotations

import json
from typing import Any, Final, cast

from starfish_artifact_registry.errors import InvalidValueError
from starfish_artifact_registry.limits import MAX_METADATA_BYTES
from starfish_protocol import cbor
from starfish_protocol.address import ContentAddress
from starfish_protocol.hash import stable_stringify

__all__ = ("MAX_METADATA_DEPTH", "check_metadata", "index_entry")

_MAX_INDEXED_BYTES: Final = 512
"""Longest text of an index entry; PostgreSQL takes a third of a page of 8 KiB for a whole entry."""
MAX_METADATA_DEPTH: Final = 32
"""Lists and objects that may enclose a value."""
_LEGAL: Final = (
    f"an object of JSON values, at most {MAX_METADATA_BYTES} bytes long and {MAX_METADATA_DEPTH} "
    "levels deep, its numbers such as a double holds and its texts Unicode without NUL"
)


def check_metadata(metadata: object) -> dict[str, Any]:
    """Return the metadata in the one form that CBOR, RFC 8785 and all databases agree on.

    Whole floats become integers, tuples become lists; nothing else changes.

    Raises:
        InvalidValueError: it is not an object of JSON values, holds a number that a double does not
            hold, a NUL (which PostgreSQL refuses) or a lone surrogate, or is longer than
            `MAX_METADATA_BYTES` as canonical JSON or deeper than `MAX_METADATA_DEPTH`.

    Examples:
        >>> check_metadata({"score": 1.0, "tags": ("a", "b")})
        {'score': 1, 'tags': ['a', 'b']}
    """
    if type(metadata) is not dict:
        raise InvalidValueError("metadata", metadata, _LEGAL)
    try:
        given = _lists(metadata, MAX_METADATA_DEPTH)
        text = stable_stringify(given)
        normal: dict[str, Any] = json.loads(text)
        cbor.encode(normal)
    except (TypeError, ValueError) as error:
        raise InvalidValueError("metadata", f"refused: {error}", _LEGAL) from error
    if len(text.encode()) > MAX_METADATA_BYTES or normal != given:
        raise InvalidValueError("metadata", text, _LEGAL)
    return normal


def index_entry(key: str, value: object) -> tuple[str, str]:
    """What the index of metadata holds for one member: its key and its canonical JSON.

    Equal members, and no others, have equal entries; an address stands for a longer text.

    Examples:
        >>> index_entry("tags", ["b", 1.0])
        ('tags', '["b",1]')
    """
    return _short(key), _short(stable_stringify(value))


def _short(text: str) -> str:
    data = text.encode()
    return text if len(data) <= _MAX_INDEXED_BYTES else str(ContentAddress.of(data))


def _lists(value: Any, depth: int) -> Any:
    """The value with lists for tuples."""
    if type(value) is str and "\0" in value:
        raise ValueError(f"{value!r:.80} has a NUL")
    if type(value) in _CONTAINERS and depth == 0:
        raise ValueError("it is nested too deeply")
    if type(value) in _SEQUENCES:
        return [_lists(member, depth - 1) for member in value]
    if type(value) is dict:
        pairs = cast("dict[object, object]", value)
        return {_lists(key, depth): _lists(member, depth - 1) for key, member in pairs.items()}
    return value


_SEQUENCES: Final[frozenset[object]] = frozenset({list, tuple})
_CONTAINERS: Final = _SEQUENCES | {dict}
