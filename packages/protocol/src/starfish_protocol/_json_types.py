"""Tell the types of JSON apart, for a reader and for a type checker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

__all__ = ("is_list", "is_list_of_texts", "is_object", "is_whole_number")


def is_object(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Tell whether this is an object."""
    return isinstance(value, Mapping)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Tell whether this is a list."""
    return isinstance(value, list)


def is_list_of_texts(value: object) -> TypeGuard[list[str]]:
    """Tell whether this is a list that holds nothing but texts."""
    return is_list(value) and all(type(item) is str for item in value)


def is_whole_number(value: object) -> TypeGuard[int | float]:
    """Tell whether this is a number without a fraction; ``1e9`` counts, a boolean does not."""
    return type(value) is int or (type(value) is float and value.is_integer())
