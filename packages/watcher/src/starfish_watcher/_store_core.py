"""Everything an event store does for threads; `EventStore` adds its asyncio face."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
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
from starfish_watcher._fork_guard import ForkGuard
from starfish_watcher._limits import MAX_READ_EVENTS
from starfish_watcher._model.coordinate import Coordinate, check_name
from starfish_watcher._model.event import Event
from starfish_watcher._model.event_id import EventIdSource
from starfish_watcher._model.event_kind import EventKind
from starfish_watcher._model.generation import Generation
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
from starfish_watcher._projection.states import ProjectionStates, check_token, generation_of
from starfish_watcher._verification import ChainReport, verify
from starfish_watcher._watchers.cursor_watcher import CursorWatcher
from starfish_watcher._watchers.lookers import Lookers
from starfish_watcher._watchers.prefix_watcher import PrefixWatcher
from starfish_watcher._watchers.projection_watcher import ProjectionWatcher, WakeUp
from starfish_watcher._watchers.wake_ups import FlagWakeUp, SubscriptionWakeUp
from starfish_watcher.errors import (
    ProjectionFailed,
    StoreClosed,
    StoreUnavailableError,
    WatcherError,
)
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
        self._guard = ForkGuard()
        self._closing = threading.Lock()
        self._closed: BaseException | None = None
        self._snapshots = snapshots
        clock = clock or SystemClock()
        self._states = ProjectionStates(log, clock, snapshots=snapshots)
        self.lookers = Lookers()
        """Where asyncio watchers look; their face starts them."""
        self._hub = Hub(log)
        ended = weakref.WeakMethod(self._end)

        def end(reason: BaseException) -> None:
            # The threads of a store must not keep it: one that nobody holds lets go.
            if (method := ended()) is not None:
                method(reason)

        self._hub.on_failure(end)
        ids = EventIdSource(clock)
        self._writer = AppendWriter(
            log,
            Stamp(ids.next, lambda: max(0, clock.now_ms()) * 1000, ids.seen),
            publish=self._hub.publish,
            catch_up=self._hub.catch_up,
            died=end,
            fault_points=fault_points or FaultPoints(),
        )
        self._finalizer = weakref.finalize(
            self, _let_go, log, self._hub, self._writer, self.lookers, snapshots, self._guard
        )
        self._finalizer.atexit = False

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
        """32 hex digits that tell this store from all others, made with it."""
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
        metadata: Mapping[str, Any] | None = None,
        durability: Durability | None = None,
    ) -> Receipt:
        """Append one event; visible to every reader when this returns, and durable as asked.

        The same ``idempotency_key`` with the same coordinate, kind and payload returns the first
        receipt and appends nothing, whatever ``expected`` says.

        Raises:
            SequenceConflictError: the entity is not where ``expected`` says.
            IdempotencyConflictError: the key was used for other content.
            StoreUnavailableError: the storage refused; nothing was written.
            StoreMovedError: the file of the store is not in its place any more.
            LimitExceededError: the storage can never take it.
            StoreClosed: the store is closed; where it ended with an error, the event may have
                been written.
            TypeError: a value has no msgpack form; the message names its path.
            ValueError: an argument is refused; the message names the rule.
        """
        new = NewEvent(
            coordinate,
            kind,
            payload,
            expected,
            idempotency_key,
            correlation_id,
            causation_id,
            metadata=metadata,
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
            ValueError: an item is refused, or there are too many; the message names the item.
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

    def last_sequence(self) -> int:
        """Sequence of the newest event that ever became visible, 0 before the first."""
        with self._reading():
            return self._log.last_sequence()

    def verify_chain(self, entity: str | None = None) -> ChainReport:
        """Recompute every hash of an entity, or of all; says how many events compaction removed.

        Raises:
            ChainBrokenError: an event is not the one that was written, or is missing; it names the first.
        """
        with self._reading():
            return verify(self._log, entity)

    def compact(self, keep: Callable[[Event], bool]) -> int:
        """Remove the events for which ``keep`` is false, all at one moment; says how many.

        Generations, sequences and idempotency keys stay, and the hashes of the other events still
        verify. Events that come meanwhile are kept. Entities that lose events get newer tokens of
        the same number: their watchers are woken, here and in other processes. When this returns,
        the files of the store, and its snapshot cache, do not hold the removed payloads.
        """
        self._check_open()
        compacted = compact(self._log, keep)
        if compacted.events:
            self._forget(compacted.entities)
        return compacted.events

    def _forget(self, entities: Iterable[str]) -> None:
        self._states.forget(entities)
        if self._snapshots is not None:
            self._snapshots.forget(self._log, entities)
        with contextlib.suppress(StoreUnavailableError):  # the listener tells of it as well
            self._hub.removed()

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

    def _change(self, projection: type[Projection[S]] | Projection[S], entity: str) -> Change[S]:
        with self._reading():
            return self._states.change(projection, entity)

    def _checkpoint(
        self, reader: str, path: _PathLike | None, projection: str | None = None
    ) -> Checkpoint | None:
        if path is None:
            return None
        return Checkpoint(path, store_id=self.store_id, reader=reader, projection=projection)

    def close(self, *, everywhere: bool = False) -> None:
        """Write the appends that were taken, flush, release the log, and wake every blocked reader.

        With ``everywhere`` the stores of the same log in other processes close too, if anything
        waits in them. May be called twice and from any thread.
        """
        if self._guard.is_inherited:
            self._closed = self._closed or StoreClosed()
            self._finalizer.detach()
            return
        if everywhere and self._closed is None:
            self._log.announce_close()
        self._end(StoreClosed())

    def _end(self, reason: BaseException) -> None:
        self._finalizer.detach()
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
        self._guard.check()
        if self._closed is not None:
            raise StoreClosed.because_of(self._closed)

    @contextmanager
    def _reading(self) -> Generator[None]:
        """A read that is under way when the store ends is told of that, not of what it broke."""
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


def _let_go(  # noqa: PLR0917 - called by a finalizer, without keywords
    log: EventLog,
    hub: Hub,
    writer: AppendWriter,
    lookers: Lookers,
    snapshots: SnapshotCache | None,
    guard: ForkGuard,
) -> None:
    """What `close` does, for a store that nobody closed and nobody holds any more."""
    if guard.is_inherited:
        return

    def release() -> None:
        reason = StoreClosed("nobody held it any more")
        with contextlib.suppress(WatcherError):
            hub.fail(reason)
            writer.close(reason)
            lookers.close()
            log.close()
            if snapshots is not None:
                snapshots.close()

    # In a thread: this runs wherever the garbage collector does, which may hold a lock of ours.
    with contextlib.suppress(RuntimeError):
        threading.Thread(target=release, name="starfish-release", daemon=True).start()
    warnings.warn(f"event store {log.location} was never closed", ResourceWarning, stacklevel=2)


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
