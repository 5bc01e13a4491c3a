"""The OpenAPI description of every collection (placeholder)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ("Operation", "operations")

@dataclass(frozen=True, slots=True)
class Operation:
    path: str
    method: str
    name: str
    summary: str
    operation_id: str
    tag: str
    responses: dict[int | str, dict[str, Any]] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

def operations(collections, has_config):
    return []
