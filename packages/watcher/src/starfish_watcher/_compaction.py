"""Remove what is no longer wanted from a log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starfish_watcher._model.event import Event
from starfish_watcher.log.base import EventLog

__all__ = ("compact",)

PAGE: Final = 4096
"""Events that are looked at at once; what is kept in memory of the others is a number each."""


def compact(log: EventLog, keep: Callable[[Event], bool]) -> int:
    """Remove the events for which ``keep`` is false, all at one moment; says how many.

    Events that come meanwhile are kept.
    """
    unwanted: list[int] = []
    after, last = 0, log.last_sequence()
    while after < last and (page := log.read(after, PAGE)):
        unwanted += [event.sequence for event in page if event.sequence <= last and not keep(event)]
        after = page[-1].sequence
    return log.remove(unwanted) if unwanted else 0
