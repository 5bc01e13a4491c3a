"""How far a long call is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

__all__ = ("OnProgress", "Progress", "Stage", "bytes_of", "tell")

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


def tell(on_progress: OnProgress | None, stage: Stage, done: int, total: int) -> None:
    """Report a step to a callback, if there is one."""
    if on_progress is not None:
        on_progress(Progress(stage, done, total))


def bytes_of(stage: Stage, on_progress: OnProgress | None) -> Callable[[int, int], None] | None:
    """Return a callback for bytes of a stage, or ``None`` where nobody listens."""
    if on_progress is None:
        return None
    return lambda done, total: on_progress(Progress(stage, done, total))
