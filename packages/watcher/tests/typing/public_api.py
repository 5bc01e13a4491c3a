"""The public surface as a user's type checker sees it; read, never run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_type
from uuid import UUID

from starfish_protocol.events import AsyncEventSource, EventSource
from starfish_watcher import (
    CONSISTENT,
    NEW,
    AsyncSourceWatcher,
    Change,
    Coordinate,
    Cursor,
    CursorWatcher,
    Event,
    EventKind,
    EventStore,
    MaybeStale,
    NewEvent,
    Projection,
    ProjectionWatcher,
    Receipt,
    Region,
    SnapshotCache,
    Subscription,
    watch,
    watch_async,
)

KIND = EventKind.custom(0xF, 1)


class Balance(Projection[int]):
    relevant_kinds = (KIND,)

    def initial(self) -> int:
        return 0

    def apply(self, state: int, event: Event) -> int:
        return state + int(event.payload["amount"])


def sync(store: EventStore) -> None:
    assert_type(EventStore.open("events.db", snapshots=SnapshotCache("cache.db")), EventStore)
    assert_type(EventStore.memory(), EventStore)
    at = Coordinate("a", "eu")
    receipt = store.append(at, KIND, {}, expected=NEW, idempotency_key="k", durability="batched")
    assert_type(receipt, Receipt)
    assert_type(receipt.event_id, UUID)
    assert_type(store.append_batch([(at, KIND, 1), NewEvent(at, KIND)]), tuple[Receipt, ...])
    assert_type(store.read(), Sequence[Event])
    assert_type(store.query(Region(kind=0xF)), Sequence[Event])
    assert_type(store.get(receipt.event_id), Event | None)
    assert_type(store.project(Balance, "a"), int | None)
    assert_type(store.project(Balance(), "a", freshness=MaybeStale(5)), int | None)
    assert_type(store.project(Balance, "a", freshness=CONSISTENT), int | None)
    assert_type(store.project_if_changed(Balance, "a", 0), Change[int] | None)
    watcher = store.watch_projection(Balance, "a", include_initial=True)
    assert_type(watcher, ProjectionWatcher[int])
    assert_type(watcher.recv(1.0), Change[int])
    assert_type(watcher.recv().state, int | None)
    assert_type(store.watch_projection_cursor(Balance, "a"), CursorWatcher[int])
    assert_type(store.watch_prefix(Balance, "a").recv(), tuple[str, Change[int]])
    assert_type(store.subscribe(), Subscription)
    assert_type(store.cursor(), Cursor)
    assert_type(watch(store, Balance, "a"), ProjectionWatcher[int])
    source: EventSource = store
    assert_type(source.generation("a"), int)


async def asynchronous(store: EventStore) -> None:
    aio = store.aio
    assert_type(await aio.append(Coordinate("a", "eu"), KIND, {}), Receipt)
    assert_type(await aio.project(Balance, "a"), int | None)
    watcher = await aio.watch_projection(Balance, "a")
    assert_type(await watcher.recv(1.0), Change[int])
    async for change in watcher:
        assert_type(change, Change[int])
    source: AsyncEventSource = aio
    assert_type(await watch_async(source, Balance, "a"), AsyncSourceWatcher[int])


def untyped(store: EventStore) -> None:
    class Anything(Projection[Any]):
        pass

    assert_type(store.project(Anything, "a"), Any | None)
