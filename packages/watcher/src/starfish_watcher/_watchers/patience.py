"""How long a watcher waits before it folds again what could not be folded."""

from __future__ import annotations

import time
from typing import Final

__all__ = ("Patience",)

FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 1.0


class Patience:
    """A pause after each failure in a row, longer each time; none after a success."""

    __slots__ = ("_pause", "_until")

    def __init__(self) -> None:
        self._pause = 0.0
        self._until = 0.0

    def failed(self) -> None:
        """Wait before the next attempt."""
        self._pause = min(max(2 * self._pause, FIRST_PAUSE_S), LONGEST_PAUSE_S)
        self._until = time.monotonic() + self._pause

    def succeeded(self) -> None:
        """Do not wait any more."""
        self._pause = self._until = 0.0

    @property
    def until(self) -> float:
        """When to try again, by `time.monotonic`; in the past when there is nothing to wait for."""
        return self._until

    def left(self, deadline: float | None) -> float:
        """Seconds to wait, not beyond the deadline."""
        until = self._until if deadline is None else min(self._until, deadline)
        return max(0.0, until - time.monotonic()) if until else 0.0
