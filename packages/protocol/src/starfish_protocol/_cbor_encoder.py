"""Deterministic CBOR writer.

Written here because cbor2's canonical mode is no faster, tags what it should refuse, and recurses
until a small thread stack overflows. Rule: no recursion.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sized
from operator import itemgetter
from typing import Never, cast

from starfish_protocol._path import path_text

__all__ = ("MAX_DEPTH", "encode_value")

MAX_DEPTH = 512
"""Lists and maps that may enclose a value, as in canonical JSON."""

_LEGAL = "None, bool, int, float, str, bytes, list, tuple and dict, and no subclass of these"
_CONTAINERS = frozenset({dict, list, tuple})
_SIMPLE = {None: b"\xf6", False: b"\xf4", True: b"\xf5"}
_NAN = b"\xf9\x7e\x00"
_ARGUMENT_FORMS = [
    (24 + i, struct.Struct(form)) for i, form in enumerate((">BB", ">BH", ">BI", ">BQ"))
]
_FLOAT_FORMS = [
    (b"\xf9", struct.Struct(">e")),
    (b"\xfa", struct.Struct(">f")),
    (b"\xfb", struct.Struct(">d")),
]


def _new_head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes([major << 5 | argument])
    for info, form in _ARGUMENT_FORMS:
        if argument < 1 << 8 * (form.size - 1):
            return form.pack(major << 5 | info, argument)
    raise AssertionError  # the callers know that 64 bits suffice


_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP = range(6)
_SHORT_HEADS = [[_new_head(major, argument) for argument in range(256)] for major in range(6)]


def _head(major: int, argument: int) -> bytes:
    return _SHORT_HEADS[major][argument] if argument < 256 else _new_head(major, argument)


def encode_value(document: object, max_depth: int = MAX_DEPTH) -> bytes:
    """Encode a document; the errors are those of `starfish_protocol.cbor.encode`."""
    out: list[bytes] = []
    levels: list[Iterator[tuple[bytes, str | int, object]]] = [iter([(b"", 0, document)])]
    path: list[str | int] = [0]  # of the first level, that holds the document, and so on
    try:
        while levels:
            for key, place, member in levels[-1]:
                out.append(key)
                path[-1] = place
                if type(member) in _CONTAINERS:
                    if len(levels) > max_depth:
                        _refuse_depth(max_depth)
                    levels.append(_members(member))
                    path.append(0)
                    major = _MAP if type(member) is dict else _ARRAY
                    out.append(_head(major, len(cast("Sized", member))))
                    break
                out.append(_scalar(member))
            else:
                levels.pop()
                path.pop()
    except (TypeError, ValueError) as error:
        raise type(error)(f"{path_text(path[1:])} {error}") from None
    return b"".join(out)


def _refuse_depth(max_depth: int) -> Never:
    raise ValueError(f"is nested deeper than {max_depth}")


def _members(container: object) -> Iterator[tuple[bytes, str | int, object]]:
    if type(container) is not dict:
        values = cast("list[object]", container)
        return ((b"", index, member) for index, member in enumerate(values))
    members = cast("dict[str, object]", container)
    for key in members:
        if type(key) is not str:
            raise TypeError(
                f"has a key of type {type(key).__qualname__}; keys are str, and no subclass of it"
            )
    pairs = [(_text(key), key, member) for key, member in members.items()]
    pairs.sort(key=itemgetter(0))
    return iter(pairs)


def _scalar(value: object) -> bytes:
    if type(value) is str:
        return _text(value)
    if type(value) is int:
        if not -(2**64) <= value < 2**64:
            raise ValueError("is an integer outside [-2**64, 2**64 - 1]")
        return _head(_UNSIGNED, value) if value >= 0 else _head(_NEGATIVE, -1 - value)
    if type(value) is float:
        return _float(value)
    if type(value) is bytes:
        return b"".join((_head(_BYTES, len(value)), value))
    if value is None or type(value) is bool:
        return _SIMPLE[value]
    raise TypeError(f"is of type {type(value).__qualname__}; CBOR holds {_LEGAL}")


def _text(text: str) -> bytes:
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        raise ValueError("holds a lone surrogate; CBOR text is UTF-8") from None
    return _head(_TEXT, len(encoded)) + encoded


def _float(value: float) -> bytes:
    if math.isnan(value):
        return _NAN
    for initial, form in _FLOAT_FORMS[:2]:
        try:
            packed = form.pack(value)
        except OverflowError:
            continue
        if form.unpack(packed)[0] == value:
            return initial + packed
    initial, form = _FLOAT_FORMS[2]
    return initial + form.pack(value)
