"""Items to JSON text: what reads back equal is accepted, everything else refused with its path.

The text is ASCII, so that a lone surrogate survives any storage as its escape.
"""

from __future__ import annotations

import json
import math
from typing import Any, cast

MAX_DEPTH = 200
"""Nesting of an item; deeper ones could fail to load where the stack is already deep."""

_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
_decode = json.JSONDecoder().decode


def encode_item(item: Any) -> tuple[str, Any]:
    """The JSON text of an item and the item as it will read back.

    The copy shares nothing with ``item``; tuples are lists in it.

    Raises:
        TypeError: the item has no JSON form; the message names the path of the value.

    Examples:
        >>> encode_item({"a": (1, 2)})
        ('{"a":[1,2]}', {'a': [1, 2]})
        >>> encode_item({"a": [1.5, float("nan")]})
        Traceback (most recent call last):
        TypeError: item["a"][1]: nan has no JSON form
    """
    try:
        text = _encode(item)
        copy = _decode(text)
        shallow = len(text) <= MAX_DEPTH or text.count("[") + text.count("{") <= MAX_DEPTH
        faithful = shallow and copy == item
    except (TypeError, ValueError, RecursionError) as error:
        _refuse(item)
        raise TypeError(f"item has no JSON form: {error}") from error
    if not faithful:
        _refuse(item)
    return text, copy


def _refuse(item: object) -> None:
    """Walk the item without recursion and raise for the first value that has no JSON form."""
    waiting: list[tuple[str, object, int, frozenset[int]]] = [("item", item, 0, frozenset())]
    while waiting:
        path, value, depth, above = waiting.pop()
        if isinstance(value, dict | list | tuple):
            if id(cast("object", value)) in above:
                raise TypeError(f"{path[:200]} contains itself")
            if depth >= MAX_DEPTH:
                raise TypeError(f"{path[:200]} is nested deeper than {MAX_DEPTH}")
            inside = above | {id(cast("object", value))}
            for step, child in _children(path, cast("object", value)):
                waiting.append((path + step, child, depth + 1, inside))
        else:
            _check_scalar(path, value)


def _children(path: str, value: object) -> list[tuple[str, object]]:
    if not isinstance(value, dict):
        items = list(cast("list[object]", value))
        return [(f"[{i}]", items[i]) for i in reversed(range(len(items)))]
    members = cast("dict[object, object]", value)
    for name in members:
        if not isinstance(name, str):
            raise TypeError(f"{path}: key {name!r:.80} is not a text")
    return [(f"[{json.dumps(name)}]", child) for name, child in reversed(members.items())]


def _check_scalar(path: str, value: object) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise TypeError(f"{path}: {value} has no JSON form")
    if value is not None and not isinstance(value, str | int | float):
        raise TypeError(f"{path}: {type(value).__name__} has no JSON form")
    if isinstance(value, int):
        try:
            str(value)
        except ValueError as error:
            raise TypeError(f"{path}: {error}") from None
