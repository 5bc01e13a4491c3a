"""What writes to an event store: appends, the loop of load, decide and append, and removals."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal, TypeVar
from uuid import UUID

from starfish_watcher._append_writer import PendingAppend
from starfish_watcher._compaction import compact
from starfish_watcher._model.coordinate import Coordinate, check_name
from starfish_watcher._model.event import Event
from starfish_watcher._model.event_kind import EventKind
from starfish_watcher._model.event_types import TypedPayload
from starfish_watcher._model.new_event import (
    NEW,
    BatchItem,
    Durability,
    Expected,
    NewEvent,
    check_durability,
    new_event,
    prepare_batch,
)
from starfish_watcher._model.payload import plain_payload
from starfish_watcher._model.receipt import Receipt
from starfish_watcher._projection.definition import Change, Projection
from starfish_watcher._store_life import StoreLife
from starfish_watcher.errors import (
    PayloadErasedError,
    SequenceConflictError,
    StoreUnavailableError,
)

__all__ = ("BatchItem", "StoreWriting")

S = TypeVar("S")


class StoreWriting(StoreLife):
    """The methods of `EventStore` that change the stored log."""

    def append(
        self,
        coordinate: Coordinate,
        kind: EventKind | TypedPayload,
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

        ``kind`` may be an instance of a class registered with `event`, which is kind and payload.
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
            EventTypeError: the payload does not fit its event type.
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
        prepared = prepare_batch(items, None if self._keys is None else self._keys.seal)
        self._check_open()
        pending = PendingAppend(prepared, durability, answered)
        if prepared:
            self._writer.submit(pending)
        else:
            pending.answer(())
        return pending

    def update(
        self,
        projection: type[Projection[S]] | Projection[S],
        entity: str,
        decide: Callable[[S | None], Iterable[BatchItem]],
        *,
        attempts: int = 100,
        durability: Durability | None = None,
    ) -> tuple[Receipt, ...]:
        """Load the state, let ``decide`` make events of it, and append them unless somebody was first.

        When another event of the entity came in between, all of it is done again, with the newer
        state. The events are one batch; those of other entities are appended with them.

        Args:
            projection: Gives the state; ``None`` where no relevant event was folded.
            entity: At least the first event of a batch that is not empty must belong to it.
            decide: Gets the state and returns the items of `append_batch`; called once an attempt.
            attempts: How often at most.
            durability: As `append`.

        Returns:
            A receipt for each event; empty when there was nothing to append.

        Raises:
            SequenceConflictError: somebody else was first each time.
            ProjectionFailed: the projection raised.
            ValueError: the first event is of another entity, or has an ``expected`` of its own.

        Examples:
            >>> from starfish_watcher import Coordinate, EventKind, EventStore, Projection
            >>> SPENT = EventKind.custom(0xF, 2)
            >>> class Spent(Projection[int]):
            ...     name = "spent"
            ...     def initial(self): return 0
            ...     def apply(self, state, event): return state + event.payload
            >>> def spend(spent):
            ...     return [(Coordinate("card:1", "eu"), SPENT, 5)] if (spent or 0) + 5 <= 8 else []
            >>> with EventStore.memory() as store:
            ...     [len(store.update(Spent, "card:1", spend)) for _ in range(2)]
            [1, 0]
        """
        if attempts < 1:
            msg = f"attempts is {attempts}; it must be at least 1"
            raise ValueError(msg)
        check_name("entity", entity)
        for attempt in range(attempts):
            change = self._change(projection, entity)
            items = [new_event(item) for item in decide(change.state)]
            if not items:
                return ()
            items[0] = _expecting(items[0], entity, int(change.generation))
            try:
                return self.append_batch(items, durability=durability)
            except SequenceConflictError as error:
                if error.entity != entity or attempt == attempts - 1:
                    raise
        raise AssertionError("unreachable")

    def _change(self, projection: type[Projection[S]] | Projection[S], entity: str) -> Change[S]:
        with self._reading():
            return self._states.change(projection, entity)

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

    def erase(self, entity: str) -> int:
        """Remove the payloads of an entity for good; says how many events lost theirs.

        With a key ring its key is destroyed first, so that copies of the store cannot be read
        either. Then its events are removed as by `compact`: its generation, the hash that later
        events build on and its idempotency keys stay, its state is ``None``, and those who wait
        for it are woken. When this returns, the files of the store, and its snapshot cache, do
        not hold the payloads. An event that is appended meanwhile may be erased as well.

        Raises:
            StoreUnavailableError: the storage refused; call it again.
        """
        check_name("entity", entity)
        self._check_open()
        sealed = self._keys is not None and self._keys.destroy(entity)
        with self._reading():
            removed = compact(self._log, lambda _: False, entity).events
            while sealed and (late := compact(self._log, _is_readable, entity).events):
                removed += late
        if removed or sealed:
            self._forget([entity])
        return removed

    def _forget(self, entities: Iterable[str]) -> None:
        self._states.forget(entities)
        if self._snapshots is not None:
            self._snapshots.forget(self._log, entities)
        with contextlib.suppress(StoreUnavailableError):  # the listener tells of it as well
            self._hub.removed()


def _expecting(item: NewEvent, entity: str, generation: int) -> NewEvent:
    if item.coordinate.entity != entity:
        msg = f"the first event must be of entity {entity!r}, not of {item.coordinate.entity!r}"
        raise ValueError(msg)
    if item.expected is not None:
        msg = "expected must not be given in an update, which sets it for its first event"
        raise ValueError(msg)
    return replace(item, expected=NEW if generation == 0 else generation - 1)


def _is_readable(event: Event) -> bool:
    """Whether it is not one that was sealed with a key which was destroyed meanwhile."""
    try:
        plain_payload(event.payload_bytes)
    except PayloadErasedError:
        return False
    return True
