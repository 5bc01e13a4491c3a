"""Everything an event store does for threads; `EventStore` adds its asyncio face."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, Self, TypeVar
from uuid import UUID

from starfish_protocol.clock import Clock, SystemClock
from starfish_watcher._append_writer import AppendWriter, PendingAppend
from starfish_watcher._compaction import compact
from starfish_watcher._delivery.checkpoint import Checkpoint
from starfish_watcher._delivery.cursor import Cursor
from starfish_watcher._delivery.hub import Hub
from starfish_watcher._delivery.subscription import Subscription
from starfish_watcher._limits import MAX_READ_EVENTS
from starfish_watcher._model.coordinate import Coordinate, check_name
from starfish_watcher._model.event import Event
from starfish_watcher._model.event_id import EventIdSource
from starfish_watcher._model.event_kind import EventKind
from starfish_watcher._model.new_event import (
    BatchItem,
    Durability,
    Expected,
    NewEvent,
    check_durability,
    prepare_batch,
)
from starfish_watcher._model.receipt import Receipt
from starfish_watcher._model.region import EVERYWHERE, Region
from starfish_watcher._projection.definition import CONSISTENT, Change, Freshness, Projection
from starfish_watcher._projection.snapshots import SnapshotCache
from starfish_watcher._projection.states import ProjectionStates
from starfish_watcher._verification import ChainReport, verify
from starfish_watcher._watchers.cursor_watcher import CursorWatcher
from starfish_watcher._watchers.lookers import Lookers
from starfish_watcher._watchers.prefix_watcher import PrefixWatcher
from starfish_watcher._watchers.projection_watcher import ProjectionWatcher, WakeUp
from starfish_watcher._watchers.wake_ups import FlagWakeUp, SubscriptionWakeUp
from starfish_watcher.errors import ProjectionFailed, StoreClosed, WatcherError
from starfish_watcher.fault_points import FaultPoints
from starfish_watcher.log.base import EventLog, Stamp
from starfish_watcher.log.memory import MemoryEventLog
from starfish_watcher.log.sqlite import SqliteEventLog

__all__ = ("BatchItem", "StoreCore")

S = TypeVar("S")
_PathLike = str | os.PathLike[str]


class StoreCore:
    """The methods of `EventStore`, without the asyncio face that stands on them."""

    def __init__(
        self,
        log: EventLog,
        *,
        durability: Durability = "commit",
        clock: Clock | None = None,
        snapshots: SnapshotCache | None = None,
        fault_points: FaultPoints | None = None,
    ) -> None:
        """Take over ``log``, which `close` closes.

        Args:
            log: Where the events are kept.
            durability: When an append returns that does not say so itself.
            clock: Where ids and timestamps come from.
            snapshots: Where states of projections outlive the process.
            fault_points: For tests: where the append path may be made to fail.
        """
        check_durability(durability)
        self._log = log
        self._durability: Durability = durability
        self._pid = os.getpid()
        self._closing = threading.Lock()
        self._closed: BaseException | None = None
        self._snapshots = snapshots
        clock = clock or SystemClock()
        self._states = ProjectionStates(log, clock, snapshots=snapshots)
        self.lookers = Lookers()
        """Where asyncio watchers look; their face starts them."""
        self._hub = Hub(log)
        self._hub.on_failure(self._end)
        self._writer = AppendWriter(
            log,
            Stamp(EventIdSource(clock).next, lambda: max(0, clock.now_ms()) * 1000),
            publish=self._hub.publish,
            died=self._end,
            fault_points=fault_points or FaultPoints(),
        )

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
    ) -> Self:
        """A store in a SQLite file, made when it is missing; several processes may open it.

        ``check="quick"`` verifies the structure of the file and that it holds as many events as
        were appended, which takes about a second for a million events.

        Raises:
            StoreDamagedError: the file is something else, or does not hold what it should.
            StoreUnavailableError: it cannot be opened or written.
        """
        return cls(
            SqliteEventLog(path, check=check),
            durability=durability,
            clock=clock,
            snapshots=snapshots,
            fault_points=fault_points,
        )

    @classmethod
    def memory(
        cls,
        *,
        durability: Durability = "commit",
        clock: Clock | None = None,
        snapshots: SnapshotCache | None = None,
        fault_points: FaultPoints | None = None,
    ) -> Self:
        """A store that ends with the process, whatever the durability; else as `open`."""
        return cls(
            MemoryEventLog(),
            durability=durability,
            clock=clock,
            snapshots=snapshots,
            fault_points=fault_points,
        )

    @property
    def store_id(self) -> str:
        """What tells this store from all others, made with it."""
        return self._log.store_id

    @property
    def location(self) -> str:
        """Where the events are kept: a path or a name."""
        return self._log.location

    def append(
        self,
        coordinate: Coordinate,
        kind: EventKind,
        payload: Any = None,
        *,
        expected: Literal[Expected.NEW] | int | None = None,
        idempotency_key: str | None = None,
        correlation_id: UUID | None = None,
        causation_id: UUID | None = None,
        durability: Durability | None = None,
    ) -> Receipt:
        """Append one event; visible to every reader when this returns, and durable as asked.

        The same ``idempotency_key`` with the same coordinate, kind and payload returns the first
        receipt and appends nothing, whatever ``expected`` says.

        Raises:
            SequenceConflictError: the entity is not where ``expected`` says.
            IdempotencyConflictError: the key was used for other content.
            StoreUnavailableError: the storage refused; nothing was written.
            StoreClosed: the store is closed; where it ended with an error, the event may have
                been written.
            TypeError: a value has no msgpack form; the message names its path.
            ValueError: an argument is not legal; the message says what is.
        """
        new = NewEvent(
            coordinate, kind, payload, expected, idempotency_key, correlation_id, causation_id
        )
        return self.append_batch((new,), durability=durability)[0]

    def append_batch(
        self, items: Iterable[BatchItem], *, durability: Durability | None = None
    ) -> tuple[Receipt, ...]:
        """Append all of ``items`` at one moment, or none; a receipt each, in order.

        Raises:
            SequenceConflictError: an entity is not where an item expects it.
            IdempotencyConflictError: a key was used for other content.
            StoreUnavailableError: the storage refused; nothing was written.
            StoreClosed: as `append`.
            TypeError: an item or a payload is of the wrong type.
            ValueError: an item is not legal, or there are too many.
        """
        answered = threading.Lock()
        answered.acquire()
        pending = self.submit(items, durability=durability, answered=answered.release)
        with answered:
            return pending.result()

    def submit(
        self,
        items: Iterable[BatchItem],
        *,
        durability: Durability | None,
        answered: Callable[[], object],
    ) -> PendingAppend:
        """Hand items to the writer, which calls ``answered`` from its thread when it is done.

        Raises:
            StoreClosed: the store is closed.
            TypeError: as `append_batch`.
            ValueError: as `append_batch`.
        """
        if durability is None:
            durability = self._durability
        else:
            check_durability(durability)
        prepared = prepare_batch(items)
        self._check_open()
        pending = PendingAppend(prepared, durability, answered)
        if prepared:
            self._writer.submit(pending)
        else:
            pending.answer(())
        return pending

    def read(
        self, after: int = 0, limit: int = 1024, *, entity: str | None = None
    ) -> Sequence[Event]:
        """The first ``limit`` events with a sequence above ``after``, of one entity or of all.

        Raises:
            StoreClosed: the store is closed.
            ValueError: ``limit`` is not 1 to 65,536, or ``after`` is negative.
        """
        _check_page(after, limit)
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

    def generation(self, entity: str) -> int:
        """How many events of the entity ever became visible; never goes down."""
        with self._reading():
            return self._log.head(entity).generation

    def last_sequence(self) -> int:
        """Sequence of the newest event that ever became visible, 0 before the first."""
        with self._reading():
            return self._log.last_sequence()

    def verify_chain(self, entity: str | None = None) -> ChainReport:
        """Recompute every hash of an entity, or of all; says how many events compaction removed.

        Raises:
            ChainBrokenError: an event is not what was written, or is missing; it names the first.
        """
        with self._reading():
            return verify(self._log, entity)

    def compact(self, keep: Callable[[Event], bool]) -> int:
        """Remove the events for which ``keep`` is false, all at one moment; says how many.

        Generations, sequences and idempotency keys stay, and the hashes of what is left still
        verify. Events that come meanwhile are kept. Watchers are not woken.
        """
        self._check_open()
        return compact(self._log, keep)

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
        with self._reading():
            return self._states.change(projection, entity, freshness).state

    def project_if_changed(
        self, projection: type[Projection[S]] | Projection[S], entity: str, last_generation: int
    ) -> Change[S] | None:
        """Generation and state from one snapshot when the generation is above ``last_generation``.

        Raises:
            ProjectionFailed: the projection raised.
        """
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
            CheckpointError: the file is damaged, or belongs to another region or store.
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
        """
        self._check_open()
        check_name("entity", entity)

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
        """Wait for states of ``entity``, beginning with what is there or with the checkpoint.

        Raises:
            CheckpointError: the file is damaged, or belongs to another entity or store.
        """
        self._check_open()
        check_name("entity", entity)
        return CursorWatcher(
            lambda: self._change(projection, entity),
            lambda: self.generation(entity),
            lambda: FlagWakeUp(self._hub, entity),
            self._checkpoint(f"watcher {entity}", checkpoint),
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

    def _change(self, projection: type[Projection[S]] | Projection[S], entity: str) -> Change[S]:
        with self._reading():
            return self._states.change(projection, entity)

    def _checkpoint(self, reader: str, path: _PathLike | None) -> Checkpoint | None:
        return None if path is None else Checkpoint(path, store_id=self.store_id, reader=reader)

    def close(self, *, everywhere: bool = False) -> None:
        """Write what was taken, flush, release the log, and wake every blocked reader.

        With ``everywhere`` the stores of the same log in other processes close too, if anything
        waits in them. May be called twice and from any thread.
        """
        if everywhere and self._closed is None:
            self._log.announce_close()
        self._end(StoreClosed())

    def _end(self, reason: BaseException) -> None:
        with self._closing:
            if self._closed is not None:
                return
            self._closed = reason
        # First, so that nobody waits for a disk that does not answer.
        self._hub.fail(reason)
        self._writer.close(reason)
        self.lookers.close()
        self._log.close()
        if self._snapshots is not None:
            self._snapshots.close()

    def _check_open(self) -> None:
        if self._closed is not None:
            raise StoreClosed.because_of(self._closed)
        if os.getpid() != self._pid:
            msg = f"it was opened in process {self._pid}; open it again after a fork"
            raise StoreClosed(msg)

    @contextmanager
    def _reading(self) -> Generator[None]:
        """Who still reads when the store ends is told of that, not of what it broke."""
        self._check_open()
        try:
            yield
        except ProjectionFailed:
            raise
        except WatcherError:
            if self._closed is not None:
                raise StoreClosed.because_of(self._closed)  # noqa: B904 - its cause is set
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_type(what: str, value: object, wanted: type) -> None:
    if not isinstance(value, wanted):
        msg = f"{what} must be a {wanted.__name__}, not a {type(value).__name__}"
        raise TypeError(msg)


def _check_page(after: int, limit: int) -> None:
    if after < 0:
        msg = f"after is {after}; sequences begin with 1"
        raise ValueError(msg)
    if not 1 <= limit <= MAX_READ_EVENTS:
        msg = f"limit is {limit}; 1 to {MAX_READ_EVENTS} are legal"
        raise ValueError(msg)
