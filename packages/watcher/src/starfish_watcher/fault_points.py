"""Named places in the append path where a test can make something go wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal, get_args

__all__ = ("FaultPoint", "FaultPoints")

FaultPoint = Literal["before_write", "mid_batch", "after_write", "after_commit"]
"""Before anything of a group is written; when some of it is; when all is and nothing is committed;
when all is committed and nobody was woken or answered."""


class FaultPoints:
    """Does nothing until a point is armed.

    Examples:
        >>> points = FaultPoints()
        >>> points.arm("after_write", lambda: print("here"))
        >>> points.reach("after_write"), points.reach("after_write")
        here
        (None, None)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed: dict[str, tuple[int, Callable[[], object]]] = {}

    def arm(self, point: FaultPoint, action: Callable[[], object], *, skip: int = 0) -> None:
        """Call ``action`` once when the point is reached for the time after ``skip`` times.

        Raises:
            ValueError: there is no such point.
        """
        if point not in get_args(FaultPoint):
            msg = (
                f"there is no point {point!r}; it must be one of {', '.join(get_args(FaultPoint))}"
            )
            raise ValueError(msg)
        with self._lock:
            self._armed[point] = (skip, action)

    def reach(self, point: FaultPoint) -> None:
        """Say that the point is reached; what an armed action raises goes through."""
        if not self._armed:
            return
        with self._lock:
            armed = self._armed.get(point)
            if armed is None:
                return
            skip, action = armed
            if skip:
                self._armed[point] = (skip - 1, action)
                return
            del self._armed[point]
        action()
