"""Everything an event store does for threads; `EventStore` adds its asyncio face."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import partial
from typing import Final, Literal, Self, TypeVar
from uuid import UUID

from starfish_protocol.clock import Clock
from starfish_protocol.events import PositionLost
from starfish_watcher._delivery.checkpoint import Checkpoint
from starfish_watcher._delivery.cursor import Cursor
from starfish_watcher._delivery.subscription import Subscription
from starfish_watcher._limits import MAX_READ_EVENTS
from starfish_watcher._model.coordinate import check_name
from starfish_watcher._model.event import Event
from starfish_watcher._model.generation import Generation
from starfish_watcher._model.new_event import (
    Durability,
)
from starfish_watcher._model.region import EVERYWHERE, Region
from starfish_watcher._projection.definition import (
    CONSISTENT,
    Change,
    Consistent,
    Freshness,
    MaybeStale,
    Projection,
    name_of,
)
from starfish_watcher._projection.snapshots import SnapshotCache
from starfish_watcher._projection.states import check_token, generation_of
from starfish_watcher._store_writing import StoreWriting
from starfish_watcher._verification import ChainReport, verify
from starfish_watcher._watchers.cursor_watcher import CursorWatcher
from starfish_watcher._watchers.prefix_watcher import PrefixWatcher
from starfish_watcher._watchers.projection_watcher import ProjectionWatcher, WakeUp
from starfish_watcher._watchers.wake_ups import FlagWakeUp, SubscriptionWakeUp
from starfish_watcher.fault_points import FaultPoints
from starfish_watcher.key_ring import KeyRing
from starfish_watcher.log.memory import MemoryEventLog
from starfish_watcher.log.sqlite import SqliteEventLog

__all__ = ("StoreCore",)

S = TypeVar("S")
_POSITION: Final = re.compile(r"([0-9a-f]{32})-(0|[1-9][0-9]{0,18})-((?:[0-9a-f]{2})*)")
_PathLike = str | os.PathLike[str]


class StoreCore(StoreWriting):
    """The methods of `EventStore`, without the asyncio face that stands on them."""

    @classmethod
    def open(
        cls,
        path: _PathLike,
        *,
        check: Literal["quick", "none"] = "quick",
        durability: Durability = "commit",
        clock: Clock | None = None,
        snapshots: SnapshotCache | None = None,
        fault_points: FaultPoints | None = None,
        keys: KeyRing | None = None,
        patience_s: float = 300.0,
    ) -> Self:
        """A store in a SQLite file, made when it is missing; several processes may open it.

        ``check="quick"`` verifies the structure of the file and that it holds as many events as
        were appended, which takes about a second for a million events. ``patience_s`` is how long
        watchers sleep on while the file cannot be read, as when the process has no descriptors left.

        Raises:
            StoreDamagedError: the file is something else, or does not hold what it should.
            StoreFormatError: a later version wrote it.
            StoreUnavailableError: it cannot be opened or written.
        """
        return cls(
            SqliteEventLog(path, check=check, patience_s=patience_s),
            durability=durability,
            clock=clock,
            snapshots=snapshots,
            fault_points=fault_points,
            keys=keys,
        )

    @classmethod
    def memory(
        cls,
        *,
        durability: Durability = "commit",
        clock: Clock | None = None,
        snapshots: SnapshotCache | None = None,
        fault_points: FaultPoints | None = None,
        keys: KeyRing | None = None,
    ) -> Self:
        """A store that ends with the process, whatever the durability; else as `open`."""
        return cls(
            MemoryEventLog(),
            durability=durability,
            clock=clock,
            snapshots=snapshots,
            fault_points=fault_points,
            keys=keys,
        )

    def read(
        self, after: int = 0, limit: int = 1024, *, entity: str | None = None
    ) -> Sequence[Event]:
        """The first ``limit`` events with a sequence above ``after``, of one entity or of all.

        Raises:
            StoreClosed: the store is closed.
            ValueError: ``limit`` is not 1 to 65,536, or ``after`` is negative.
        """
        _check_page(after, limit)
        if entity is not None:
            check_name("entity", entity)
        with self._reading():
            return self._log.read(after, limit, entity=entity)

    def query(
        self, region: Region = EVERYWHERE, after: int = 0, limit: int = 1024
    ) -> Sequence[Event]:
        """The first ``limit`` events of ``region`` with a sequence above ``after``.

        Raises:
            StoreClosed: the store is closed.
            TypeError: ``region`` is not a `Region`.
            ValueError: ``limit`` is not 1 to 65,536, or ``after`` is negative.
        """
        _check_page(after, limit)
        _check_type("region", region, Region)
        with self._reading():
            return self._log.read(after, limit, region=region)

    def get(self, event_id: UUID) -> Event | None:
        """The event, ``None`` when there is none with this id or compaction removed it.

        Raises:
            StoreClosed: the store is closed.
            TypeError: ``event_id`` is not a UUID.
        """
        _check_type("event_id", event_id, UUID)
        with self._reading():
            return self._log.get(event_id.bytes)

    def generation(self, entity: str) -> Generation:
        """How many events of the entity ever became visible; never goes down.

        The number is a `Generation`, which also tells a state from before a compaction.
        """
        check_name("entity", entity)
        with self._reading():
            return generation_of(self._log.head(entity))

    def entities(self, prefix: str | None = None) -> dict[str, Generation]:
        """The entities of a namespace, or all, and their generations; also those without events left."""
        if prefix is not None:
            check_name("prefix", prefix)
        with self._reading():
            return {name: generation_of(head) for name, head in self._log.heads(prefix).items()}

    def last_sequence(self) -> int:
        """Sequence of the newest event that ever became visible, 0 before the first."""
        with self._reading():
            return self._log.last_sequence()

    def position_at(self, sequence: int) -> str:
        """The place after event ``sequence``, bound to the store and to that event's hash.

        Raises:
            PositionLost: there never was such an event.
        """
        with self._reading():
            mark = self._log.mark(sequence) if sequence else b""
            known = mark is not None or 0 < sequence <= self._log.last_sequence()
        text = f"{self.store_id}-{sequence}-{(mark or b'').hex()}"
        if not known or sequence < 0:
            raise PositionLost(text, "the store never had that event")
        return text

    def sequence_of(self, position: str) -> int:
        """The sequence of a position that `position_at` gave.

        Raises:
            PositionLost: it is of another store, or of a history that this one does not have.
        """
        found = _POSITION.fullmatch(position)
        if found is None:
            raise PositionLost(position, "it is not a position of an event store")
        store_id, sequence, mark = found[1], int(found[2]), bytes.fromhex(found[3])
        if store_id != self.store_id:
            raise PositionLost(position, f"it is of another store than {self.store_id}")
        if not sequence:
            return 0
        with self._reading():
            there = self._log.mark(sequence)
            last = self._log.last_sequence()
        if sequence > last:
            raise PositionLost(position, f"the store ends at {last}: it is an older copy")
        if mark and there is not None and there != mark:
            raise PositionLost(position, f"another event stands at {sequence}: it was put back")
        return sequence

    def verify_chain(self, entity: str | None = None) -> ChainReport:
        """Recompute every hash of an entity, or of all; says how many events compaction removed.

        Raises:
            ChainBrokenError: an event is not the one that was written, or is missing; it names the first.
        """
        with self._reading():
            return verify(self._log, entity)

    def project(
        self,
        projection: type[Projection[S]] | Projection[S],
        entity: str,
        *,
        freshness: Freshness = CONSISTENT,
    ) -> S | None:
        """The entity's state, ``None`` when no relevant event was folded.

        Raises:
            ProjectionFailed: the projection raised.
        """
        check_name("entity", entity)
        _check_type("freshness", freshness, (Consistent, MaybeStale))
        with self._reading():
            return self._states.change(projection, entity, freshness).state

    def project_if_changed(
        self, projection: type[Projection[S]] | Projection[S], entity: str, last_generation: int
    ) -> Change[S] | None:
        """Generation and state from one snapshot when that is newer than ``last_generation``.

        Raises:
            ProjectionFailed: the projection raised.
            UnknownGenerationError: the entity never had ``last_generation``.
        """
        check_name("entity", entity)
        _check_generation("last_generation", last_generation)
        with self._reading():
            return self._states.change_since(projection, entity, last_generation)

    def subscribe(
        self, region: Region | None = None, capacity: int = 8192, *, entity: str | None = None
    ) -> Subscription:
        """Receive the events of ``region``, or of exactly ``entity``, that come from now on.

        Raises:
            ValueError: ``capacity`` is below 1, or both a region and an entity are given.
        """
        self._check_open()
        if entity is None:
            region = EVERYWHERE if region is None else region
            _check_type("region", region, Region)
            return Subscription(self._hub, region.entity_prefix, region.matches, capacity)
        if region is not None:
            msg = "a subscription is for a region or for an entity, not for both"
            raise ValueError(msg)
        return Subscription(self._hub, entity, lambda event: event.entity == entity, capacity)

    def cursor(self, region: Region = EVERYWHERE, checkpoint: _PathLike | None = None) -> Cursor:
        """Read the events of ``region`` from the start, or from the checkpoint in that file.

        Raises:
            CheckpointError: the file is damaged, or belongs to another region or store, or to a
                history that the store no longer has.
        """
        self._check_open()
        _check_type("region", region, Region)
        return Cursor(
            self._log, self._hub, region, self._checkpoint(f"cursor {region}", checkpoint)
        )

    def watch_projection(
        self,
        projection: type[Projection[S]] | Projection[S],
        entity: str,
        *,
        include_initial: bool = False,
        since_generation: int | None = None,
        capacity: int | None = None,
    ) -> ProjectionWatcher[S]:
        """Wait for states of ``entity`` that are newer than now, or than ``since_generation``.

        ``include_initial`` makes the first ``recv`` return the state as it is. With ``capacity``
        the watcher sleeps on a lossy subscription and learns when it fell behind; without, it
        sleeps on a flag and never does.

        Raises:
            UnknownGenerationError: the entity never had ``since_generation``.
        """
        self._check_open()
        check_name("entity", entity)
        if since_generation is not None:
            _check_generation("since_generation", since_generation)
            with self._reading():
                check_token(self._log, entity, self._log.head(entity), since_generation)

        def wake_up() -> WakeUp:
            if capacity is None:
                return FlagWakeUp(self._hub, entity)
            subscribe = partial(self.subscribe, entity=entity, capacity=capacity)
            return SubscriptionWakeUp(subscribe)

        return ProjectionWatcher(
            lambda: self._change(projection, entity),
            lambda: self.generation(entity),
            wake_up,
            include_initial=include_initial,
            since_generation=since_generation,
        )

    def watch_projection_cursor(
        self,
        projection: type[Projection[S]] | Projection[S],
        entity: str,
        *,
        checkpoint: _PathLike | None = None,
    ) -> CursorWatcher[S]:
        """Wait for states of ``entity``, beginning with the newest state or with the checkpoint.

        Raises:
            CheckpointError: the file is damaged, or belongs to another entity, projection or store,
                or to a history that the store no longer has.
        """
        self._check_open()
        check_name("entity", entity)
        return CursorWatcher(
            lambda: self._change(projection, entity),
            lambda: self.generation(entity),
            lambda: FlagWakeUp(self._hub, entity),
            self._checkpoint(f"watcher {entity}", checkpoint, name_of(projection)),
            self._log.mark,
        )

    def watch_prefix(
        self,
        projection: type[Projection[S]] | Projection[S],
        prefix: str | None,
        *,
        include_initial: bool = False,
    ) -> PrefixWatcher[S]:
        """Wait for newer states of any entity in a namespace; ``None`` for all entities."""
        self._check_open()
        if prefix is not None:
            check_name("prefix", prefix)
        return PrefixWatcher(
            self._hub,
            prefix,
            lambda entity: self._change(projection, entity),
            lambda: self._log.heads(prefix),
            include_initial=include_initial,
        )

    def _checkpoint(
        self, reader: str, path: _PathLike | None, projection: str | None = None
    ) -> Checkpoint | None:
        if path is None:
            return None
        return Checkpoint(path, store_id=self.store_id, reader=reader, projection=projection)


def _check_type(what: str, value: object, wanted: type | tuple[type, ...]) -> None:
    if not isinstance(value, wanted):
        kinds = wanted if isinstance(wanted, tuple) else (wanted,)
        names = " or ".join(kind.__name__ for kind in kinds)
        msg = f"{what} must be a {names}, not a {type(value).__name__}"
        raise TypeError(msg)


def _check_generation(what: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        msg = f"{what} must be a generation, a whole number, not {type(value).__name__}"
        raise TypeError(msg)
    if value < 0:
        msg = f"{what} must not be negative, but is {int(value)}"
        raise ValueError(msg)


def _check_page(after: int, limit: int) -> None:
    if after < 0:
        msg = f"after is {after}; it must not be negative, sequences begin with 1"
        raise ValueError(msg)
    if not 1 <= limit <= MAX_READ_EVENTS:
        msg = f"limit is {limit}; it must be from 1 to {MAX_READ_EVENTS}"
        raise ValueError(msg)
