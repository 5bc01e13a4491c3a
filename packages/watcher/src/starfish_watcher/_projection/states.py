"""States of projections, kept in memory so that only what is new is folded."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any, NamedTuple, TypeVar

from starfish_protocol.clock import Clock
from starfish_watcher._limits import MAX_KEPT_STATES
from starfish_watcher._projection.definition import (
    CONSISTENT,
    Change,
    Freshness,
    MaybeStale,
    Projection,
    resolve,
)
from starfish_watcher._projection.fold import Folded, fold, isolated
from starfish_watcher._projection.snapshots import SnapshotCache
from starfish_watcher.log.base import EventLog

__all__ = ("ProjectionStates",)

S = TypeVar("S")
_Key = tuple[int, str]


class _Kept(NamedTuple):
    projection: object  # held, so that the id in the key stays its own
    folded: Folded
    read_ms: int


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
            return _handed_out(kept.folded)
        folded = self._folded(projection, entity, kept)
        return _handed_out(folded)

    def change_since(
        self, projection: type[Projection[S]] | Projection[S], entity: str, generation: int
    ) -> Change[S] | None:
        """The change when the entity's generation is above ``generation``, else nothing.

        Raises:
            ProjectionFailed: the projection raised.
        """
        if self._log.head(entity).generation <= generation:
            return None
        return self.change(projection, entity)

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


def _handed_out(folded: Folded) -> Change[Any]:
    if folded.watermark == 0:
        return Change(folded.head.generation, None)
    return Change(folded.head.generation, isolated(folded.state))
