"""Deterministic CBOR: one sequence of bytes for each value.

Source: RFC 8949 section 4.2.1, core deterministic encoding: shortest integers and floats, definite
lengths, map keys sorted by their encoded bytes. Here keys are text only and there are no tags, so
a value of JSON, or of JSON and bytes, is all that can travel.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, Never

import cbor2

from starfish_protocol._cbor_encoder import MAX_DEPTH, encode_value
from starfish_protocol.errors import CborDecodeError

__all__ = ("MAX_BYTES", "MAX_DEPTH", "decode", "encode")

MAX_BYTES = 16 * 1024 * 1024
"""Size `decode` accepts unless told otherwise; a hostile megabyte becomes up to 64 in memory."""


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
    return encode_value(value)


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
        again = encode_value(value, max_depth)
    except (cbor2.CBORDecodeError, TypeError, ValueError) as error:
        raise CborDecodeError(f"not CBOR of one value: {error.__cause__ or error}") from error
    if stream.tell() != size:
        raise CborDecodeError(f"{size - stream.tell()} bytes follow the value")
    if strict and again != encoded:
        raise CborDecodeError("not the deterministic encoding of its value")
    return value


class _NoTags(dict[int, Any]):
    """Refuses a tag when it is looked up: before its content is read, whatever its number."""

    def __missing__(self, tag: int) -> Never:
        raise ValueError(f"tag {tag}; no tag is accepted")


_NO_TAGS = _NoTags()
