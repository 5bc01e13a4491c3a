"""Fold events into a state, all of them or only the newer ones.

Rule: a state that is kept is never changed and never handed out; copies are. So a projection that
changes its argument, or raises half-way, harms nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

from starfish_watcher._model.event import Event
from starfish_watcher._model.event_types import kind_of
from starfish_watcher._projection.copying import isolated
from starfish_watcher._projection.definition import Projection, name_of
from starfish_watcher.errors import ProjectionFailed, StoreDamagedError
from starfish_watcher.log.base import EntityHead, EventLog, HistoryMovedError

__all__ = ("Folded", "failure", "fold", "handed_out", "kind_codes")

CHUNK: Final = 1024
"""Events read before they are folded: an error of the log is told from one of the projection."""
ATTEMPTS: Final = 5
"""Of a fold that compaction keeps disturbing."""


class Folded(NamedTuple):
    """What folding an entity up to its head gave."""

    head: EntityHead
    """The entity as it was."""
    watermark: int
    """Sequence of the newest relevant event folded in; 0 when there was none."""
    state: Any
    """The state; meaningless while the watermark is 0."""


def kind_codes(projection: Projection[Any]) -> tuple[int, ...]:
    """The codes of the relevant kinds, each once, ascending; empty for all kinds."""
    return tuple(sorted({kind_of(kind).code for kind in projection.relevant_kinds}))


def handed_out(projection: Projection[Any], entity: str, state: Any) -> Any:
    """The state for somebody who may change it.

    Raises:
        ProjectionFailed: it cannot be copied.
    """
    if getattr(projection, "frozen", False):
        return state
    try:
        return isolated(state)
    except Exception as error:
        reason = f"its state cannot be copied: {type(error).__name__}: {error}"
        raise ProjectionFailed(name_of(projection), entity, reason) from error


def failure(
    projection: Projection[Any], entity: str, error: Exception, event: Any = None
) -> ProjectionFailed:
    """What a projection raised, and at which event."""
    return ProjectionFailed(
        name_of(projection),
        entity,
        f"{type(error).__name__}: {error}",
        sequence=getattr(event, "sequence", None),
        event_id=getattr(event, "event_id", None),
        kind=getattr(event, "kind", None),
    )


def fold(log: EventLog, projection: Projection[Any], entity: str, kept: Folded | None) -> Folded:
    """As `_fold`, again when compaction takes events out of the history meanwhile."""
    for _ in range(ATTEMPTS - 1):
        try:
            return _fold(log, projection, entity, kept)
        except HistoryMovedError:
            continue
    return _fold(log, projection, entity, kept)


def _fold(log: EventLog, projection: Projection[Any], entity: str, kept: Folded | None) -> Folded:
    """Fold the new events since ``kept``, or everything; head and events are from one snapshot.

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
    # Nothing is kept, or compaction took events out of the kept state.
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
        chunk += events  # an error of the log is told from one of the projection
        try:
            return chunk[-1].sequence, from_events(chunk), len(chunk)
        except Exception as error:
            raise failure(projection, entity, error) from error
    if watermark == 0 or kept is None:
        try:
            state = projection.initial()
        except Exception as error:
            raise failure(projection, entity, error) from error
    else:
        state = handed_out(projection, entity, kept.state)
    apply = projection.apply
    event: Event | None = None
    while chunk:
        try:
            for event in chunk:
                state = apply(state, event)
        except Exception as error:
            raise failure(projection, entity, error, event) from error
        count += len(chunk)
        watermark = chunk[-1].sequence
        chunk = list(islice(events, CHUNK))
    return watermark, state, count
