"""Payloads as msgpack, one byte form for equal values.

Maps are written with sorted keys, so that the same content gives the same bytes and the same
hash whatever order a dict was filled in. A sealed payload is an extension of msgpack, which no
application can write: `key_rings` opens it.
"""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec

from starfish_watcher._limits import MAX_PAYLOAD_BYTES, MAX_PAYLOAD_DEPTH
from starfish_watcher._model.sealing import SEALED, opened

__all__ = ("decode_payload", "encode_payload", "plain_payload", "sealed_payload")

_ENCODER: Final = msgspec.msgpack.Encoder(order="deterministic")
_EXTENSIONS: Final = frozenset({0xC7, 0xC8, 0xC9})
"""First bytes of an extension whose length stands in the data."""
_SCALARS: Final = frozenset({type(None), bool, int, float, str, bytes})
_LEGAL: Final = "it must be None, bool, int, float, str, bytes, list, tuple or dict with str keys"


def _open(code: int, data: memoryview) -> Any:
    if code != SEALED:
        msg = f"extension {code} is unknown"
        raise ValueError(msg)
    return _DECODER.decode(opened(bytes(data)))


_DECODER: Final = msgspec.msgpack.Decoder(ext_hook=_open)
decode_payload = _DECODER.decode


def sealed_payload(sealed: bytes) -> bytes:
    """The stored form of a payload that a key ring has sealed."""
    return _ENCODER.encode(msgspec.msgpack.Ext(SEALED, sealed))


def plain_payload(data: bytes) -> bytes:
    """The msgpack bytes of a payload, opened where it is sealed.

    Raises:
        PayloadErasedError: its key was destroyed, or its key ring is not open.
    """
    if data[:1] and data[0] in _EXTENSIONS:
        extension = msgspec.msgpack.decode(data)
        if isinstance(extension, msgspec.msgpack.Ext) and extension.code == SEALED:
            return opened(bytes(extension.data))
    return data


def encode_payload(payload: Any, name: str = "payload") -> bytes:
    """The msgpack bytes of ``payload``; a tuple is written as a list.

    Raises:
        TypeError: a value has no msgpack form of its own; the message names its path.
        ValueError: it is nested too deeply, an integer has more than 64 bits, a text is not
            Unicode, or the bytes are too many.

    Examples:
        >>> encode_payload({"when": {1, 2}})
        Traceback (most recent call last):
        TypeError: payload.when is a set; it must be None, bool, int, float, str, bytes, list, tuple or dict with str keys
    """
    _check(payload, name, MAX_PAYLOAD_DEPTH)
    try:
        data = _ENCODER.encode(payload)
    except OverflowError:
        msg = f"{name} holds an integer outside of -2**63 to 2**64 - 1; write it as a string"
        raise ValueError(msg) from None
    except UnicodeEncodeError as error:
        msg = f"{name} holds a text with a lone surrogate, {error.object[:80]!r}"
        raise ValueError(msg) from None
    if len(data) > MAX_PAYLOAD_BYTES:
        msg = f"{name} has {len(data)} bytes, it must have at most {MAX_PAYLOAD_BYTES}"
        raise ValueError(msg)
    return data


def _check(value: object, path: str, depth: int) -> None:
    kind = type(value)
    if kind in _SCALARS:
        return
    if depth == 0:
        msg = f"{path[:200]} is nested deeper than {MAX_PAYLOAD_DEPTH}"
        raise ValueError(msg)
    if kind is dict:
        for key, member in cast("dict[Any, Any]", value).items():
            if type(key) is not str:
                msg = f"{path} has the key {key!r:.80}, a {type(key).__name__}; {_LEGAL}"
                raise TypeError(msg)
            if type(member) not in _SCALARS:
                _check(member, f"{path}.{key}", depth - 1)
    elif kind is list or kind is tuple:
        for index, member in enumerate(cast("list[Any]", value)):
            if type(member) not in _SCALARS:
                _check(member, f"{path}[{index}]", depth - 1)
    else:
        msg = f"{path} is a {kind.__name__}; {_LEGAL}"
        raise TypeError(msg)
