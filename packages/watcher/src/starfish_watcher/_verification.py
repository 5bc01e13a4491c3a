"""Recompute the hash chains of a log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from starfish_watcher.errors import ChainBrokenError
from starfish_watcher.hash_chain import NO_HASH
from starfish_watcher.log.base import NO_EVENTS, EntityHead, EventLog, HistoryMovedError

__all__ = ("ChainReport", "verify")

ATTEMPTS: Final = 5
"""At an entity that compaction keeps disturbing."""


@dataclass(frozen=True, slots=True)
class ChainReport:
    """How much was verified; that there is a report at all means that nothing is broken."""

    entities: int
    """Entities whose chain was followed from its first event to its head."""
    events: int
    """Events whose hash was computed anew."""
    removed: int
    """Events that compaction removed: gaps over which only the stored hashes lead."""


def verify(log: EventLog, entity: str | None) -> ChainReport:
    """Follow the chain of one entity, or of all.

    Raises:
        ChainBrokenError: it names the first event that does not fit.
    """
    names = sorted(log.heads(None)) if entity is None else [entity]
    events = removed = 0
    for name in names:
        head, count = _followed(log, name)
        events += count
        removed += head.removed
    return ChainReport(len(names), events, removed)


def _followed(log: EventLog, entity: str) -> tuple[EntityHead, int]:
    """As `_follow`, again when compaction takes events out of the history meanwhile."""
    for _ in range(ATTEMPTS - 1):
        try:
            return _follow(log, entity)
        except HistoryMovedError:
            continue
    return _follow(log, entity)


def _follow(log: EventLog, entity: str) -> tuple[EntityHead, int]:
    def broken(sequence: int, reason: str) -> ChainBrokenError:
        return ChainBrokenError(log.location, entity, sequence, reason)

    count, clock, previous = 0, -1, NO_HASH
    with log.history(entity, after=0, kinds=(), raw=False) as (head, events):
        for event in events:
            if event.clock <= clock:
                raise broken(event.sequence, f"clock {event.clock} follows clock {clock}")
            if event.clock == clock + 1 and event.previous_hash != previous:
                raise broken(event.sequence, "it does not follow from the event before it")
            if event.computed_hash() != event.event_hash:
                raise broken(event.sequence, "its content does not have its hash")
            count, clock, previous = count + 1, event.clock, event.event_hash
    if head == NO_EVENTS:
        return head, 0
    if clock + 1 == head.generation and previous != head.event_hash:
        raise broken(head.sequence, "the newest event is not the one that the head names")
    if count != head.generation - head.removed:
        reason = (
            f"{head.generation} events were appended and {head.removed} removed, "
            f"but {count} are there"
        )
        raise broken(0, reason)
    return head, count
