"""Deterministic CBOR: one sequence of bytes for each value.

Source: RFC 8949 section 4.2.1, core deterministic encoding: shortest integers and floats, definite
lengths, map keys sorted by their encoded bytes. Here keys are text only and there are no tags, so
a value of JSON, or of JSON and bytes, is all that can travel.
"""

from __future__ import annotations

import marshal
import struct
from collections.abc import Callable, Iterable, Iterator, Sized
from io import BytesIO
from typing import Any, Final, Never

import cbor2

from starfish_protocol._cbor_order import MAX_DEPTH, in_order
from starfish_protocol._json_types import is_list, is_object
from starfish_protocol.errors import CborDecodeError

__all__ = ("MAX_BYTES", "MAX_DEPTH", "decode", "encode")

MAX_BYTES = 16 * 1024 * 1024
"""Size `decode` accepts unless told otherwise; a hostile megabyte becomes up to 64 in memory."""

_dumps: Callable[..., bytes] = cbor2.dumps

_SAFE_DEPTH = 64
"""Lists and maps that cbor2's writer, which recurses, may enter on the stack of a small thread."""


def encode(value: object) -> bytes:
    """Encode a value; equal values give equal bytes.

    ``1`` and ``1.0`` are two values in CBOR. A tuple is a list. Every NaN is the same NaN.

    Raises:
        TypeError: a value or key of another type, subclasses included; the message names its path.
        ValueError: an integer outside [-2**64, 2**64 - 1], a text with a lone surrogate, or
            nesting deeper than `MAX_DEPTH`; the message names its path.

    Examples:
        >>> encode({"bb": 1.5, "a": [None, b"x"]}).hex(" ")
        'a2 61 61 82 f6 41 78 62 62 62 f9 3e 00'
    """
    return _encode(value, MAX_DEPTH)


def decode(
    data: bytes | bytearray | memoryview,
    *,
    max_depth: int = MAX_DEPTH,
    max_bytes: int = MAX_BYTES,
    strict: bool = True,
) -> Any:
    """Decode exactly one value.

    Refused: trailing bytes, duplicate keys, indefinite lengths, tags, keys that are not text,
    simple values other than true, false and null, and what exceeds the limits. A length that
    promises more bytes than there are allocates nothing.

    Args:
        data: the encoded value.
        max_depth: lists and maps that may enclose a value; above `MAX_DEPTH` has no effect.
        max_bytes: size of ``data`` that is accepted, in bytes.
        strict: whether an encoding that is not the deterministic one is refused. With ``False``
            longer integers and floats and unsorted keys pass.

    Raises:
        CborDecodeError: the bytes are refused.

    Examples:
        >>> decode(encode({"a": [1, 2.5, b"x"]}))
        {'a': [1, 2.5, b'x']}
        >>> decode(bytes.fromhex("1801"))
        Traceback (most recent call last):
        ...
        starfish_protocol.errors.CborDecodeError: not the deterministic encoding of its value
        >>> decode(bytes.fromhex("1801"), strict=False)
        1
    """
    size = memoryview(data).nbytes
    if size > max_bytes:
        raise CborDecodeError(f"{size} bytes of CBOR; at most {max_bytes} are accepted")
    max_depth = min(max(max_depth, 0), MAX_DEPTH)
    encoded = bytes(data)
    stream = BytesIO(encoded)
    try:
        value = cbor2.CBORDecoder(
            stream,
            semantic_decoders=_NO_TAGS,
            max_depth=max_depth,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
        ).decode()
        exact = strict or not _is_of_our_types(value)  # then the writer names the place
        again = _encode(value, max_depth) if exact else encoded
    except (cbor2.CBORDecodeError, TypeError, ValueError) as error:
        raise CborDecodeError(f"not CBOR of one value: {error.__cause__ or error}") from error
    if stream.tell() != size:
        raise CborDecodeError(f"{size - stream.tell()} bytes follow the value")
    if again != encoded:
        raise CborDecodeError("not the deterministic encoding of its value")
    return value


def _encode(value: object, max_depth: int) -> bytes:
    ordered, depth, has_float = in_order(value, max_depth)
    if depth > _SAFE_DEPTH:
        return b"".join(_write_deep(ordered))
    return _dumps(ordered, canonical=has_float)  # only that mode shortens floats


def _write_deep(ordered: Any) -> Iterator[bytes]:
    """Write a value of any depth, one scalar after the other, keys as they stand."""
    levels: list[Iterator[Any]] = [iter([ordered])]
    while levels:
        member = next(levels[-1], levels)
        if member is levels:
            levels.pop()
        elif is_object(member):
            yield _head(5, member)
            levels.append(iter([part for item in member.items() for part in item]))
        elif is_list(member):
            yield _head(4, member)
            levels.append(iter(member))
        else:
            yield _dumps(member, canonical=True)


def _head(major: int, container: Sized) -> bytes:
    length = len(container)
    if length < 24:
        return bytes([major << 5 | length])
    for info, form in enumerate((">BB", ">BH", ">BI", ">BQ"), 24):
        if length < 1 << 8 * (struct.calcsize(form) - 1):
            return struct.pack(form, major << 5 | info, length)
    raise AssertionError  # a container of 2**64 members does not fit into memory


_CONTAINERS: Final = frozenset({dict, list})


def _is_of_our_types(value: Any) -> bool:
    """Tell whether a decoded value has text keys only, and no simple value but our three."""
    try:
        marshal.dumps(value)  # the fastest walk: it refuses the types for simple values
    except ValueError:
        return False
    pending: list[Any] = [value]
    while pending:
        container = pending.pop()
        members: Iterable[Any] = ()
        if is_object(container):
            if not {*map(type, container)} <= {str}:
                return False
            members = container.values()
        elif is_list(container):
            members = container
        # Only dict and list come out of the decoder, so no function is called for each member.
        pending += [member for member in members if type(member) in _CONTAINERS]
    return True


class _NoTags(dict[int, Any]):
    """Refuses a tag when it is looked up: before its content is read, whatever its number."""

    def __missing__(self, tag: int) -> Never:
        raise ValueError(f"tag {tag}; no tag is accepted")


_NO_TAGS = _NoTags()
