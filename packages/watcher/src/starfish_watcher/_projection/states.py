"""States of projections, kept in memory so that only new events are folded."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeVar

from starfish_protocol.clock import Clock
from starfish_watcher._limits import MAX_KEPT_STATES
from starfish_watcher._model.generation import Generation
from starfish_watcher._projection.definition import (
    CONSISTENT,
    Change,
    Freshness,
    MaybeStale,
    Projection,
    resolve,
)
from starfish_watcher._projection.fold import Folded, fold, handed_out
from starfish_watcher._projection.snapshots import SnapshotCache
from starfish_watcher.errors import UnknownGenerationError
from starfish_watcher.log.base import MARK_BYTES, EntityHead, EventLog

__all__ = ("ProjectionStates", "check_token", "generation_of")

S = TypeVar("S")
_Key = tuple[int, str]


class _Kept(NamedTuple):
    projection: object  # held, so that the id in the key stays its own
    folded: Folded
    read_ms: int


def generation_of(head: EntityHead) -> Generation:
    """The token of states that include everything up to ``head``."""
    return Generation(
        head.generation,
        epoch=head.removed,
        sequence=head.sequence,
        mark=head.event_hash[:MARK_BYTES] if head.sequence else b"",
    )


def check_token(log: EventLog, entity: str, head: EntityHead, generation: int) -> None:
    """Return when the entity had that generation, in this history.

    Raises:
        UnknownGenerationError: it did not.
    """
    known = int(generation) <= head.generation
    if known and isinstance(generation, Generation):
        known = generation.epoch <= head.removed
        if known and generation.mark:
            mark = log.mark(generation.sequence)
            known = mark is None or mark == generation.mark
    if not known:
        raise UnknownGenerationError(entity, int(generation), head.generation)


class ProjectionStates:
    """Projects entities of one log, incrementally; safe to use from many threads.

    A projection is told from others by the class or the instance that was given.
    """

    def __init__(
        self,
        log: EventLog,
        clock: Clock,
        *,
        snapshots: SnapshotCache | None = None,
        max_states: int = MAX_KEPT_STATES,
    ) -> None:
        self._log = log
        self._clock = clock
        self._snapshots = snapshots
        self._max_states = max_states
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        self._instances: dict[type[Projection[Any]], Projection[Any]] = {}

    def change(
        self,
        projection: type[Projection[S]] | Projection[S],
        entity: str,
        freshness: Freshness = CONSISTENT,
    ) -> Change[S]:
        """The entity's generation and state, from one snapshot.

        Raises:
            ProjectionFailed: the projection raised.
        """
        kept = self._find((id(projection), entity))
        if (
            kept is not None
            and isinstance(freshness, MaybeStale)
            and 0 <= self._clock.now_ms() - kept.read_ms <= freshness.ms
        ):
            return self._handed_out(projection, entity, kept.folded)
        folded = self._folded(projection, entity, kept)
        return self._handed_out(projection, entity, folded)

    def _handed_out(
        self, projection: type[Projection[S]] | Projection[S], entity: str, folded: Folded
    ) -> Change[S]:
        generation = generation_of(folded.head)
        if folded.watermark == 0:
            return Change(generation, None)
        state = handed_out(self._instance(projection), entity, folded.state)
        return Change(generation, state)

    def change_since(
        self, projection: type[Projection[S]] | Projection[S], entity: str, generation: int
    ) -> Change[S] | None:
        """The change when the entity's generation is newer than ``generation``, else nothing.

        Raises:
            ProjectionFailed: the projection raised.
            UnknownGenerationError: the entity never had that generation.
        """
        head = self._log.head(entity)
        check_token(self._log, entity, head, generation)
        if not generation_of(head).is_newer_than(generation):
            return None
        return self.change(projection, entity)

    def forget(self, entities: Iterable[str]) -> None:
        """Keep no state of these entities."""
        gone = frozenset(entities)
        with self._lock:
            for key in [key for key in self._kept if key[1] in gone]:
                del self._kept[key]

    def _folded(
        self, projection: type[Projection[Any]] | Projection[Any], entity: str, kept: _Kept | None
    ) -> Folded:
        instance = self._instance(projection)
        read_ms = self._clock.now_ms()
        before = kept.folded if kept is not None else None
        # Instances of one class may differ; only a name says that two are the same.
        named = isinstance(projection, type) or getattr(projection, "name", None) is not None
        snapshots = self._snapshots if named else None
        if before is None and snapshots is not None:
            before = snapshots.load(self._log, instance, entity)
        folded = fold(self._log, instance, entity, before)
        self._keep((id(projection), entity), _Kept(projection, folded, read_ms))
        if snapshots is not None and folded is not before:
            snapshots.save(self._log, instance, entity, folded)
        return folded

    def _instance(self, projection: type[Projection[Any]] | Projection[Any]) -> Projection[Any]:
        if not isinstance(projection, type):
            return resolve(projection)
        with self._lock:
            instance = self._instances.get(projection)
        if instance is None:
            instance = resolve(projection)
            with self._lock:
                self._instances[projection] = instance
        return instance

    def _find(self, key: _Key) -> _Kept | None:
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
            return kept

    def _keep(self, key: _Key, kept: _Kept) -> None:
        with self._lock:
            other = self._kept.get(key)
            if other is not None and other.folded.head.generation > kept.folded.head.generation:
                return
            self._kept[key] = kept
            self._kept.move_to_end(key)
            if len(self._kept) > self._max_states:
                self._kept.popitem(last=False)
