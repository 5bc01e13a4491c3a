"""What a watcher has returned and whether it must look again: its rules without I/O.

A watcher looks when it is due, and says `Progress.accept` only when it hands a change to its
caller. So a look that failed, or that was cancelled before the caller got anything, leaves the
watcher due, and nothing is lost.
"""

from __future__ import annotations

import threading
from typing import Any

from starfish_watcher._model.generation import Generation
from starfish_watcher._projection.definition import Change

__all__ = ("Progress", "is_newer")


def is_newer(generation: int, seen: int) -> bool:
    """Whether a state of ``generation`` may differ from one of ``seen``."""
    if isinstance(generation, Generation):
        return generation.is_newer_than(seen)
    return generation > seen


class Progress:
    """The position of one watcher; safe to use from many threads."""

    def __init__(
        self, baseline: int, *, include_initial: bool = False, since_generation: int | None = None
    ) -> None:
        self._lock = threading.Lock()
        self._baseline = baseline
        self._seen = baseline if since_generation is None else since_generation
        self._due = is_newer(baseline, self._seen)
        # The first state may have the generation that counts as seen; no later one may.
        self._initial = include_initial and since_generation is None
        if self._initial:
            self._due = True

    @property
    def seen(self) -> int:
        """The generation that was returned last, or where the watch began."""
        return self._seen

    @property
    def due(self) -> bool:
        """Whether to look without waiting for a wake-up."""
        return self._due

    def subscribed(self, generation: int) -> None:
        """The generation read again after subscribing: what came in between must be looked at."""
        if is_newer(generation, self._baseline):
            self._due = True

    def woken(self) -> None:
        """Something came, or a look failed: look before waiting again."""
        self._due = True

    def accept(self, change: Change[Any]) -> bool:
        """Whether to return this change; if so it counts as returned, else as seen before."""
        with self._lock:
            self._due = False
            if is_newer(change.generation, self._seen):
                self._initial = False
                self._seen = change.generation
                return True
            if self._initial:
                self._initial = False
                return True
            return False
