"""Retention classes to begin with."""

from __future__ import annotations

from typing import Any, Final

__all__ = ("RETENTION_CLASS_SEEDS",)

RETENTION_CLASS_SEEDS: Final[list[dict[str, Any]]] = [
    {
        "name": "raw-evidence",
        "description": "Recorded and unchanged; findings rest on it",
        "duration_days": 3650,
    },
    {
        "name": "derived",
        "description": "Made from other packages and could be made again",
        "duration_days": 365,
    },
    {
        "name": "working",
        "description": "Needed while somebody works on it",
        "duration_days": 30,
    },
    {
        "name": "permanent",
        "description": "Kept for ever",
        "duration_days": None,
    },
]
"""Rows of the table ``retention_classes``, to be inserted once by the program that makes the tables."""
