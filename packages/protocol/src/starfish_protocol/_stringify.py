"""The canonical writer for every document, and the judge of the values that a document holds.

Rule 1: no recursion; a hostile document ends in an error that names a path. Rule 2: `hash` takes a
faster way where it gives the same text; this module alone decides the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

from starfish_protocol._json_text import (
    exact_number_text,
    has_lone_surrogate,
    integer_text,
    join_surrogates,
    number_text,
    string_text,
    utf16_order,
)
from starfish_protocol._path import path_text

__all__ = ("MAX_DEPTH", "write_canonical", "write_interoperable", "write_with_exact_integers")

MAX_DEPTH = 512
"""Lists and objects that may enclose a value; parsers of other languages stop not far above."""

_HELD = "None, bool, int, float, str, list, tuple and dict, and no subclass of these"
_CONSTANTS = {None: "null", True: "true", False: "false"}


_Scalar = Callable[[object, "list[str | int]"], str]
_Order = Callable[[str], Any]


def write_canonical(document: object) -> str:
    """Write a document as ``JSON.stringify`` does, with keys sorted by code point.

    Raises:
        TypeError: a value or a key has no JSON form; the message names its path.
        ValueError: nesting deeper than `MAX_DEPTH`, or two keys that JavaScript cannot tell apart.
    """
    return _write(document, _scalar, str)


def write_with_exact_integers(document: object) -> str:
    """Write a document as the public Python package signs it: see `exact_number_text`.

    Raises:
        TypeError: as `write_canonical`.
        ValueError: as `write_canonical`.
    """
    return _write(document, _exact_scalar, str)


def write_interoperable(document: object) -> str:
    """Write a document as RFC 8785 does: keys sorted by UTF-16 code units, nothing rounded.

    Raises:
        TypeError: as `write_canonical`.
        ValueError: as `write_canonical`; also a number that is not finite, an integer that a double
            does not hold, and a lone surrogate.
    """
    return _write(document, _interoperable_scalar, utf16_order)


def _write(document: object, scalar: _Scalar, order: _Order) -> str:
    out: list[str] = []
    closers: list[str] = []
    levels: list[Iterator[tuple[str | int, object]]] = []
    path: list[str | int] = []
    value = document
    while True:
        kind = type(value)
        if kind is dict or kind is list or kind is tuple:
            if len(levels) == MAX_DEPTH:
                raise ValueError(f"{path_text(path)} is nested deeper than {MAX_DEPTH}")
            if kind is dict:
                levels.append(_members(cast("dict[object, object]", value), path, order))
                closers.append("}")
                out.append("{")
            else:
                levels.append(enumerate(cast("list[object]", value)))
                closers.append("]")
                out.append("[")
            path.append(0)
        else:
            out.append(scalar(value, path))
        step = None
        while levels and (step := next(levels[-1], None)) is None:
            levels.pop()
            path.pop()
            out.append(closers.pop())
        if step is None:
            return "".join(out)
        place, value = step
        path[-1] = place
        if out[-1] not in {"[", "{"}:
            out.append(",")
        if isinstance(place, str):
            out.append(scalar(place, path))
            out.append(":")


def _scalar(value: object, path: list[str | int]) -> str:
    kind = type(value)
    if kind is str:
        return string_text(cast("str", value))
    if value is None or kind is bool:
        return _CONSTANTS[cast("bool | None", value)]
    if kind is int:
        return integer_text(cast("int", value))
    if kind is float:
        return number_text(cast("float", value))
    raise TypeError(f"{path_text(path)} is of type {kind.__qualname__}; JSON holds {_HELD}")


def _exact_scalar(value: object, path: list[str | int]) -> str:
    if type(value) is int or type(value) is float:
        return exact_number_text(value)
    return _scalar(value, path)


def _interoperable_scalar(value: object, path: list[str | int]) -> str:
    text = _scalar(value, path)
    if type(value) is float and text == "null":
        raise ValueError(f"{path_text(path)} is {value}; a number must be finite")
    if type(value) is int and (text == "null" or int(float(value)) != value):
        raise ValueError(f"{path_text(path)} is an integer that a double does not hold")
    if type(value) is str and has_lone_surrogate(value):
        raise ValueError(f"{path_text(path)} holds a lone surrogate; a text must be Unicode")
    return text


def _members(
    value: dict[object, object], path: list[str | int], order: _Order
) -> Iterator[tuple[str | int, object]]:
    members: dict[str, object] = {}
    for key, member in value.items():
        if type(key) is not str:
            raise TypeError(
                f"{path_text(path)} has a key of type {type(key).__qualname__}; "
                "the keys of JSON are str, and no subclass of it"
            )
        members[join_surrogates(key)] = member
    if len(members) != len(value):
        raise ValueError(
            f"{path_text(path)} has two keys that differ only in how their surrogates are paired"
        )
    return iter(sorted(members.items(), key=lambda item: order(item[0])))
