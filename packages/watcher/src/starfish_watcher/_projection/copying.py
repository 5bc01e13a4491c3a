"""Copies of states, as cheap as the state allows.

What cannot change is handed out as it is. Plain containers are copied here, flat ones in one step;
everything else by `copy.deepcopy`, which asks the objects themselves.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final, cast

import msgspec

__all__ = ("isolated",)

_SCALARS: Final = frozenset({type(None), bool, int, float, complex, str, bytes})
_IMMUTABLE_CONTAINERS: Final = (tuple, frozenset)


def isolated(state: Any) -> Any:
    """The state, copied where it could be changed.

    Raises:
        Exception: what the state's own objects raise when they are copied.
    """
    return state if type(state) in _SCALARS else _copied(state, {})


def _is_flat(members: Any) -> bool:
    return set(map(type, members)) <= _SCALARS


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    if type(value) in _SCALARS:
        return value
    if (known := memo.get(id(value))) is not None:
        return known
    kind = cast("Any", type(value))
    if (copying := _COPYING.get(kind)) is not None:
        return copying(value, memo)
    return value if _is_immutable(value, 0) else copy.deepcopy(value, memo)


def _dict_copied(value: dict[Any, Any], memo: dict[int, Any]) -> dict[Any, Any]:
    if _is_flat(value.values()) and _is_flat(value):
        memo[id(value)] = copied = dict(value)
        return copied
    memo[id(value)] = copied = dict[Any, Any]()
    for key, member in value.items():
        copied[_copied(key, memo)] = _copied(member, memo)
    return copied


def _list_copied(value: list[Any], memo: dict[int, Any]) -> list[Any]:
    if _is_flat(value):
        memo[id(value)] = copied = list(value)
        return copied
    memo[id(value)] = copied = list[Any]()
    copied.extend(_copied(member, memo) for member in value)
    return copied


def _set_copied(value: set[Any], memo: dict[int, Any]) -> set[Any]:
    memo[id(value)] = copied = set(value) if _is_flat(value) else copy.deepcopy(value, memo)
    return copied


_COPYING: Final[dict[type[Any], Callable[[Any, dict[int, Any]], Any]]] = {
    dict: _dict_copied,
    list: _list_copied,
    set: _set_copied,
}


def _is_subclass(kind: Any, base: type[Any]) -> bool:
    return issubclass(kind, base)


def _is_immutable(value: Any, depth: int) -> bool:
    kind = cast("Any", type(value))
    if kind in _SCALARS:
        return True
    if depth > 64:
        return False
    if kind in _IMMUTABLE_CONTAINERS or (_is_subclass(kind, tuple) and hasattr(kind, "_fields")):
        return _is_flat(value) or all(_is_immutable(member, depth + 1) for member in value)
    if _is_subclass(kind, msgspec.Struct):
        return kind.__struct_config__.frozen and all(
            _is_immutable(getattr(value, name), depth + 1) for name in kind.__struct_fields__
        )
    if is_dataclass(kind):
        parameters: Any = getattr(kind, "__dataclass_params__", None)
        attributes: Mapping[str, Any] = getattr(value, "__dict__", {})
        declared = {field.name for field in fields(kind)}
        return (
            bool(parameters and parameters.frozen)
            and attributes.keys() <= declared
            and all(_is_immutable(getattr(value, name), depth + 1) for name in declared)
        )
    return False
