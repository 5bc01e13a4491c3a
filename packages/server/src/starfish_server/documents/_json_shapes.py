"""What a decoded JSON value is, in words that a type checker understands."""

from __future__ import annotations

from typing import Any, TypeGuard

__all__ = ("is_list", "is_object")


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether a decoded value was a JSON object: its keys are strings then."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether a decoded value was a JSON array."""
    return isinstance(value, list)
