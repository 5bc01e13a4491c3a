"""Maps read from outside that must have exactly the fields of a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

__all__ = ("closed_map",)


def closed_map(
    value: object, fields: Mapping[str, type | tuple[type, ...]], what: str
) -> dict[str, Any]:
    """Give the value back if it is a map with these fields, no other, each of its type.

    ``bool`` is not an ``int`` here.

    Raises:
        ValueError: it is not; the message starts with ``what``.

    Examples:
        >>> closed_map({"a": True}, {"a": int}, "the answer")
        Traceback (most recent call last):
        ...
        ValueError: the answer: field 'a' is of type bool, not int
    """
    if type(value) is not dict:
        raise ValueError(f"{what} is a map, not of type {type(value).__qualname__}")
    members = cast("dict[str, Any]", value)
    if members.keys() != fields.keys():
        odd = sorted(map(repr, members.keys() ^ fields.keys()))
        raise ValueError(
            f"{what} has exactly the fields {', '.join(fields)}; at odds: {odd!s:.200}"
        )
    for name, expected in fields.items():
        types = expected if isinstance(expected, tuple) else (expected,)
        if type(members[name]) not in types:
            legal = " or ".join(legal.__qualname__ for legal in types)
            raise ValueError(
                f"{what}: field {name!r} is of type {type(members[name]).__qualname__}, not {legal}"
            )
    return members
