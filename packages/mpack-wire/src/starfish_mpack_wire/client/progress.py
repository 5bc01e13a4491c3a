"""How far a long call is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

__all__ = ("OnProgress", "Progress", "Stage")

Stage = Literal["download", "apply", "build", "upload", "checkout"]


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a stage."""

    stage: Stage
    done: int
    """Bytes of a download or upload, otherwise objects."""
    total: int
    """All of them; 0 when that is not known."""


OnProgress = Callable[[Progress], None]
