"""The event store for asyncio.

Waiting is the event loop's: no thread is blocked and nothing is polled. Reads run in the loop's
default executor, the looks of watchers in threads of the store's own. A cancelled call has taken nothing from its watcher,
subscription or cursor; a cancelled append may have been written.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Self, TypeVar
from uuid import UUID

from starfish_watcher._delivery.cursor import AsyncCursor
from starfish_watcher._delivery.subscription import AsyncSubscription
from starfish_watcher._model.coordinate import Coordinate
from starfish_watcher._model.event import Event
from starfish_watcher._model.event_kind import EventKind
from starfish_watcher._model.event_types import TypedPayload
from starfish_watcher._model.generation import Generation
from starfish_watcher._model.new_event import BatchItem, Durability, Expected, NewEvent
from starfish_watcher._model.receipt import Receipt
from starfish_watcher._model.region import EVERYWHERE, Region
from starfish_watcher._projection.definition import CONSISTENT, Change, Freshness, Projection
from starfish_watcher._projection.snapshots import SnapshotCache
from starfish_watcher._store_core import StoreCore
from starfish_watcher._verification import ChainReport
from starfish_watcher._watchers.cursor_watcher import AsyncCursorWatcher
from starfish_watcher._watchers.prefix_watcher import AsyncPrefixWatcher
from starfish_watcher._watchers.projection_watcher import AsyncProjectionWatcher
from starfish_watcher.key_ring import KeyRing

__all__ = ("AsyncEventStore",)

_S = TypeVar("_S")


class AsyncEventStore:
    """`EventStore` with the same methods to await; also an `AsyncEventSource`."""

    def __init__(self, store: StoreCore) -> None:
        """Stand on ``store``, an `EventStore`; closing either closes both."""
        self._store = store
        self._lookers = store.lookers

    @classmethod
    async def open(
        cls,
        path: str | os.PathLike[str],
        *,
        check: Literal["quick", "none"] = "quick",
        durability: Durability = "commit",
        snapshots: SnapshotCache | None = None,
        keys: KeyRing | None = None,
    ) -> Self:
        """As `EventStore.open`, in a thread.

        Raises:
            StoreDamagedError: the file is something else, or does not hold what it should.
            StoreUnavailableError: it cannot be opened or written.
        """
        made = await _made(
            lambda: StoreCore.open(
                path, check=check, durability=durability, snapshots=snapshots, keys=keys
            ),
            lambda store: store.close(),
        )
        return cls(made)

    async def append(
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
        """As `EventStore.append`."""
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
        return (await self.append_batch((new,), durability=durability))[0]

    async def append_batch(
        self, items: Iterable[BatchItem], *, durability: Durability | None = None
    ) -> tuple[Receipt, ...]:
        """As `EventStore.append_batch`."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not answered.done():
                answered.set_result(None)

        pending = self._store.submit(
            items, durability=durability, answered=lambda: loop.call_soon_threadsafe(wake)
        )
        await answered
        return pending.result()

    async def update(
        self,
        projection: type[Projection[_S]] | Projection[_S],
        entity: str,
        decide: Callable[[_S | None], Iterable[BatchItem]],
        *,
        attempts: int = 100,
        durability: Durability | None = None,
    ) -> tuple[Receipt, ...]:
        """As `EventStore.update`; ``decide`` runs in a thread, and a cancelled call may have written."""
        return await asyncio.to_thread(
            self._store.update,
            projection,
            entity,
            decide,
            attempts=attempts,
            durability=durability,
        )

    async def erase(self, entity: str) -> int:
        """As `EventStore.erase`."""
        return await asyncio.to_thread(self._store.erase, entity)

    async def read(
        self, after: int = 0, limit: int = 1024, *, entity: str | None = None
    ) -> Sequence[Event]:
        """As `EventStore.read`."""
        return await asyncio.to_thread(self._store.read, after, limit, entity=entity)

    async def query(
        self, region: Region = EVERYWHERE, after: int = 0, limit: int = 1024
    ) -> Sequence[Event]:
        """As `EventStore.query`."""
        return await asyncio.to_thread(self._store.query, region, after, limit)

    async def get(self, event_id: UUID) -> Event | None:
        """As `EventStore.get`."""
        return await asyncio.to_thread(self._store.get, event_id)

    async def generation(self, entity: str) -> Generation:
        """As `EventStore.generation`."""
        return await asyncio.to_thread(self._store.generation, entity)

    async def entities(self, prefix: str | None = None) -> dict[str, Generation]:
        """As `EventStore.entities`."""
        return await asyncio.to_thread(self._store.entities, prefix)

    async def last_sequence(self) -> int:
        """As `EventStore.last_sequence`."""
        return await asyncio.to_thread(self._store.last_sequence)

    async def position_at(self, sequence: int) -> str:
        """As `EventStore.position_at`."""
        return await asyncio.to_thread(self._store.position_at, sequence)

    async def sequence_of(self, position: str) -> int:
        """As `EventStore.sequence_of`."""
        return await asyncio.to_thread(self._store.sequence_of, position)

    async def verify_chain(self, entity: str | None = None) -> ChainReport:
        """As `EventStore.verify_chain`."""
        return await asyncio.to_thread(self._store.verify_chain, entity)

    async def compact(self, keep: Callable[[Event], bool]) -> int:
        """As `EventStore.compact`; ``keep`` runs in a thread."""
        return await asyncio.to_thread(self._store.compact, keep)

    async def project(
        self,
        projection: type[Projection[_S]] | Projection[_S],
        entity: str,
        *,
        freshness: Freshness = CONSISTENT,
    ) -> _S | None:
        """As `EventStore.project`; the projection runs in a thread."""
        return await asyncio.to_thread(self._store.project, projection, entity, freshness=freshness)

    async def project_if_changed(
        self, projection: type[Projection[_S]] | Projection[_S], entity: str, last_generation: int
    ) -> Change[_S] | None:
        """As `EventStore.project_if_changed`; the projection runs in a thread."""
        return await asyncio.to_thread(
            self._store.project_if_changed, projection, entity, last_generation
        )

    async def subscribe(
        self, region: Region | None = None, capacity: int = 8192, *, entity: str | None = None
    ) -> AsyncSubscription:
        """As `EventStore.subscribe`; on return the subscription is in place."""
        made = await _made(
            lambda: self._store.subscribe(region, capacity, entity=entity),
            lambda subscription: subscription.close(),
        )
        return AsyncSubscription(made)

    async def cursor(
        self, region: Region = EVERYWHERE, checkpoint: str | os.PathLike[str] | None = None
    ) -> AsyncCursor:
        """As `EventStore.cursor`."""
        made = await _made(
            lambda: self._store.cursor(region, checkpoint), lambda cursor: cursor.close()
        )
        return AsyncCursor(made)

    async def watch_projection(
        self,
        projection: type[Projection[_S]] | Projection[_S],
        entity: str,
        *,
        include_initial: bool = False,
        since_generation: int | None = None,
        capacity: int | None = None,
    ) -> AsyncProjectionWatcher[_S]:
        """As `EventStore.watch_projection`."""
        made = await _made(
            lambda: self._store.watch_projection(
                projection,
                entity,
                include_initial=include_initial,
                since_generation=since_generation,
                capacity=capacity,
            ),
            lambda watcher: watcher.close(),
        )
        return AsyncProjectionWatcher(made, self._lookers)

    async def watch_projection_cursor(
        self,
        projection: type[Projection[_S]] | Projection[_S],
        entity: str,
        *,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> AsyncCursorWatcher[_S]:
        """As `EventStore.watch_projection_cursor`."""
        made = await _made(
            lambda: self._store.watch_projection_cursor(projection, entity, checkpoint=checkpoint),
            lambda watcher: watcher.close(),
        )
        return AsyncCursorWatcher(made, self._lookers)

    async def watch_prefix(
        self,
        projection: type[Projection[_S]] | Projection[_S],
        prefix: str | None,
        *,
        include_initial: bool = False,
    ) -> AsyncPrefixWatcher[_S]:
        """As `EventStore.watch_prefix`."""
        made = await _made(
            lambda: self._store.watch_prefix(projection, prefix, include_initial=include_initial),
            lambda watcher: watcher.close(),
        )
        return AsyncPrefixWatcher(made, self._lookers)

    async def close(self, *, everywhere: bool = False) -> None:
        """As `EventStore.close`."""
        await asyncio.to_thread(self._store.close, everywhere=everywhere)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


_Made = TypeVar("_Made")


async def _made(make: Callable[[], _Made], undo: Callable[[_Made], None]) -> _Made:
    """Make something in a thread; when the caller is cancelled meanwhile, undo it there."""
    making = asyncio.ensure_future(asyncio.to_thread(make))
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:
        making.add_done_callback(lambda done: _undo(done, undo))
        raise


def _undo(making: asyncio.Future[_Made], undo: Callable[[_Made], None]) -> None:
    with contextlib.suppress(Exception, asyncio.CancelledError):
        undo(making.result())
