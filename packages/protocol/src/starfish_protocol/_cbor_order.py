"""A copy of a value in the order of deterministic CBOR, and the judge of the values CBOR holds here.

cbor2 writes shortest integers and definite lengths by itself; it leaves to us the order of keys,
which costs its own canonical mode more than all the rest, and the refusal of types and integers
for which it would write a tag. Rule: no recursion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Never

from starfish_protocol._json_types import is_object
from starfish_protocol._path import path_text

__all__ = ("MAX_DEPTH", "in_order")

MAX_DEPTH = 512
"""Lists and maps that may enclose a value, as in canonical JSON."""

_HELD = "None, bool, int, float, str, bytes, list, tuple and dict, and no subclass of these"
_type: Callable[[Any], type[Any]] = type  # so that a type checker follows
_PLAIN = frozenset({type(None), bool, bytes})
_TEXT = frozenset({str})
_CONTAINERS = frozenset({dict, list, tuple})
_Orders = dict[tuple[str, ...], list[str]]
"""The order of the keys that maps have; rows of one table share theirs."""
# A container whose members are still to be looked at: its copy, the step that leads to it from the
# container above, that container, and how many containers enclose its members.
_Node = tuple[Any, "str | int", "_Node | None", int]


def in_order(document: object, max_depth: int = MAX_DEPTH) -> tuple[Any, int, bool]:
    """Copy a document with its keys in order; tell its depth, and whether it holds a float.

    Raises:
        TypeError: a value or a key of another type; the message names its path.
        ValueError: an integer outside [-2**64, 2**64 - 1], a text with a lone surrogate, or
            nesting deeper than ``max_depth``; the message names its path.
    """
    top = [document]
    deepest = 0
    has_float = False
    orders: _Orders = {}
    pending: list[_Node] = [(top, 0, None, 0)]
    while pending:
        node = pending.pop()
        container, _, _, depth = node
        deepest = max(deepest, depth)
        for place, member in _members(container):
            kind = _type(member)
            if kind in _PLAIN or (kind is str and member.isascii()):
                continue
            if kind is int and -(2**64) <= member < 2**64:
                continue
            if kind in _CONTAINERS:
                if depth == max_depth:
                    _refuse(ValueError, f"is nested deeper than {max_depth}", node, place)
                copy: Any = _copy(member, orders, node, place) if kind is dict else [*member]
                container[place] = copy
                pending.append((copy, place, node, depth + 1))
            elif kind is float:
                has_float = True
            else:
                _check_scalar(member, node, place)
    return top[0], deepest, has_float


def _members(container: Any) -> Iterable[tuple[Any, Any]]:
    if is_object(container):
        return container.items()
    items: enumerate[Any] = enumerate(container)
    return items


def _copy(
    members: dict[Any, Any], orders: _Orders, node: _Node, place: str | int
) -> dict[str, Any]:
    if not {*map(type, members)} <= _TEXT:
        kind = next(_type(key) for key in members if _type(key) is not str).__qualname__
        reason = f"has a key of type {kind}; keys are str, and no subclass of it"
        _refuse(TypeError, reason, node, place)
    order = orders.get(keys := tuple(members))
    if order is None:
        orders[keys] = order = _keys_in_order(keys, node, place)
    return {key: members[key] for key in order}


def _keys_in_order(keys: tuple[str, ...], above: _Node, place: str | int) -> list[str]:
    if all(map(str.isascii, keys)):
        return sorted(sorted(keys), key=len)
    for key in keys:
        _check_text(key, above, place)
    return sorted(keys, key=lambda key: (len(encoded := key.encode()), encoded))


def _check_scalar(member: Any, node: _Node, place: str | int) -> None:
    kind = _type(member)
    if kind is str:
        _check_text(member, node, place)
    elif kind is int:
        _refuse(ValueError, "is an integer outside [-2**64, 2**64 - 1]", node, place)
    else:
        _refuse(TypeError, f"is of type {kind.__qualname__}; CBOR holds {_HELD}", node, place)


def _check_text(text: str, node: _Node, place: str | int) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        _refuse(ValueError, "holds a lone surrogate; CBOR text is UTF-8", node, place)


def _refuse(kind: type[Exception], reason: str, node: _Node, place: str | int) -> Never:
    path = [place]
    step: _Node | None = node
    while step is not None:
        path.append(step[1])
        step = step[2]
    path.reverse()
    raise kind(f"{path_text(path[2:])} {reason}") from None
