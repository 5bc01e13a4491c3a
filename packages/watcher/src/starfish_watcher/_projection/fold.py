"""Fold events into a state, all of them or only the newer ones.

Rule: a state that is kept is never changed and never handed out; copies are. So a projection that
changes its argument, or raises half-way, harms nobody.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

from starfish_watcher._model.event import Event
from starfish_watcher._projection.definition import Projection, name_of
from starfish_watcher.errors import ProjectionFailed, StoreDamagedError
from starfish_watcher.log.base import EntityHead, EventLog

__all__ = ("Folded", "fold", "isolated", "kind_codes")

CHUNK: Final = 1024
"""Events read before they are folded: an error of the log is told from one of the projection."""
_UNCHANGING: Final = frozenset({type(None), bool, int, float, complex, str, bytes})


class Folded(NamedTuple):
    """What folding an entity up to its head gave."""

    head: EntityHead
    """The entity as it was."""
    watermark: int
    """Sequence of the newest relevant event folded in; 0 when there was none."""
    state: Any
    """The state; meaningless while the watermark is 0."""


def isolated(state: Any) -> Any:
    """The state, copied when it could be changed."""
    return state if type(state) in _UNCHANGING else copy.deepcopy(state)


def kind_codes(projection: Projection[Any]) -> tuple[int, ...]:
    """The codes of the relevant kinds, each once, ascending; empty for all kinds."""
    return tuple(sorted({kind.code for kind in projection.relevant_kinds}))


def fold(log: EventLog, projection: Projection[Any], entity: str, kept: Folded | None) -> Folded:
    """Fold what is new since ``kept``, or everything; head and events are from one snapshot.

    Raises:
        ProjectionFailed: the projection raised; ``kept`` is as it was.
        StoreDamagedError: the log gave fewer events than the entity has.
    """
    kinds = kind_codes(projection)
    raw = projection.lane == "raw"
    after = 0 if kept is None else kept.head.sequence
    with log.history(entity, after=after, kinds=kinds, raw=raw) as (head, events):
        if kept is not None and kept.head.removed == head.removed:
            if head.generation == kept.head.generation:
                return kept
            if head.generation > kept.head.generation:
                watermark, state, _ = _apply(projection, entity, events, kept)
                return Folded(head, watermark, state)
    # Nothing is kept, or compaction took events out of what is kept.
    with log.history(entity, after=0, kinds=kinds, raw=raw) as (head, events):
        watermark, state, count = _apply(projection, entity, events, None)
    if not kinds and count != head.generation - head.removed:
        raise StoreDamagedError(
            log.location,
            f"entity {entity!r} has {head.generation} events of which {head.removed} were "
            f"removed, but {count} were read",
        )
    return Folded(head, watermark, state)


def _apply(
    projection: Projection[Any], entity: str, events: Iterator[Event], kept: Folded | None
) -> tuple[int, Any, int]:
    watermark = 0 if kept is None else kept.watermark
    chunk = list(islice(events, CHUNK))
    if not chunk:
        return watermark, None if kept is None else kept.state, 0
    count = 0
    from_events = getattr(projection, "from_events", None)
    if watermark == 0 and from_events is not None:
        chunk += events
        try:
            return chunk[-1].sequence, from_events(chunk), len(chunk)
        except Exception as error:
            raise _failure(projection, entity, error) from error
    try:
        state = projection.initial() if watermark == 0 or kept is None else isolated(kept.state)
    except Exception as error:
        raise _failure(projection, entity, error) from error
    apply = projection.apply
    while chunk:
        try:
            for event in chunk:
                state = apply(state, event)
        except Exception as error:
            raise _failure(projection, entity, error) from error
        count += len(chunk)
        watermark = chunk[-1].sequence
        chunk = list(islice(events, CHUNK))
    return watermark, state, count


def _failure(projection: Projection[Any], entity: str, error: Exception) -> ProjectionFailed:
    return ProjectionFailed(name_of(projection), entity, f"{type(error).__name__}: {error}")
