"""Remove unwanted events from a log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from starfish_watcher._model.event import Event
from starfish_watcher.log.base import EventLog

__all__ = ("Compacted", "compact")

PAGE: Final = 4096
"""Events that are looked at at once; of the others a number each is kept in memory."""


class Compacted(NamedTuple):
    """What a compaction took away."""

    events: int
    """Events that are gone."""
    entities: frozenset[str]
    """The entities that they belonged to."""


def compact(log: EventLog, keep: Callable[[Event], bool], entity: str | None = None) -> Compacted:
    """Remove the events of ``entity``, or of all, for which ``keep`` is false, all at one moment.

    Events that come meanwhile are kept.
    """
    unwanted: list[int] = []
    entities: set[str] = set()
    after, last = 0, log.last_sequence()
    while after < last and (page := log.read(after, PAGE, entity=entity)):
        for event in page:
            if event.sequence <= last and not keep(event):
                unwanted.append(event.sequence)
                entities.add(event.entity)
        after = page[-1].sequence
    removed = log.remove(unwanted) if unwanted else 0
    return Compacted(removed, frozenset(entities))
