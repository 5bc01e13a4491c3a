"""Merge two versions of a document after a conflict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ("UNSAFE_KEYS", "deep_merge")

UNSAFE_KEYS = frozenset({"__proto__", "constructor", "prototype", "__class__", "__dict__"})
"""Keys that reach into an object's class in JavaScript or Python; dropped wherever they appear."""
