"""Merge two versions of a document after a conflict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard, cast

__all__ = ("UNSAFE_KEYS", "deep_merge", "drop_unsafe_keys")

UNSAFE_KEYS = frozenset({"__proto__", "constructor", "prototype", "__class__", "__dict__"})
"""Keys that reach into an object's class in JavaScript or Python; dropped wherever they appear."""


def deep_merge(local: Mapping[str, Any], remote: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two documents: objects key by key, for everything else the remote value wins.

    A list is one value: the remote list replaces the local one. `UNSAFE_KEYS` are dropped at every
    depth of both, objects in lists included. The arguments are unchanged and share no list or
    object with the result. Any depth is safe; a document that contains itself is not.

    Raises:
        TypeError: an argument is not an object (a mapping).

    Examples:
        >>> deep_merge({"a": {"x": 1, "y": 1}, "b": [1]}, {"a": {"y": 2}, "b": [], "c": None})
        {'a': {'x': 1, 'y': 2}, 'b': [], 'c': None}
        >>> deep_merge({"a": 1}, {"a": {"__proto__": {"admin": True}}})
        {'a': {}}
    """
    for name, value in (("local", local), ("remote", remote)):
        if not _is_object(value):
            raise TypeError(f"{name} is of type {type(value).__qualname__}; it must be an object")
    merged: dict[str, Any] = {}
    pending = [(merged, local, remote)]
    while pending:
        target, ours, theirs = pending.pop()
        for key in dict.fromkeys((*ours, *theirs)):
            if key in UNSAFE_KEYS:
                continue
            value = theirs[key] if key in theirs else ours[key]
            if key in theirs and _is_object(value) and _is_object(ours.get(key)):
                target[key] = {}
                pending.append((target[key], ours[key], value))
            else:
                target[key] = drop_unsafe_keys(value)
    return merged


def drop_unsafe_keys(value: Any) -> Any:
    """Copy a JSON value without `UNSAFE_KEYS`, at every depth, objects in lists included.

    The argument is unchanged and shares no list or object with the result; tuples become lists.
    Any depth is safe; a value that contains itself is not.

    Examples:
        >>> drop_unsafe_keys({"a": [{"__class__": 1, "b": 2}], "prototype": 3})
        {'a': [{'b': 2}]}
    """
    top = [value]
    pending: list[tuple[Any, Iterable[Any]]] = [(top, [0])]
    while pending:
        container, places = pending.pop()
        for place in places:
            member = container[place]
            if _is_object(member):
                fields = {k: v for k, v in member.items() if k not in UNSAFE_KEYS}
                container[place] = fields
                pending.append((fields, fields))
            elif isinstance(member, list | tuple):
                items = [*cast("Iterable[Any]", member)]
                container[place] = items
                pending.append((items, range(len(items))))
    return top[0]


def _is_object(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)
