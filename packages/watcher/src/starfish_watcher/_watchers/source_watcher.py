"""Watch an entity of any source of events, not only of this package's store.

Rule 1: the generation is read before the events, so that the token of a change is never newer than
its state. Rule 2: a page may be short although more follows. Events are read until as many were seen
as the generation says, or until none come: so a batch is in a state whole or not yet.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, Generic, TypeVar

from starfish_protocol import events
from starfish_protocol.events import AsyncEventSource, AsyncEventSubscription, EventSource
from starfish_watcher._model.event_types import relevant
from starfish_watcher._projection.definition import Change, Projection, resolve
from starfish_watcher._projection.fold import failure, handed_out
from starfish_watcher._watchers.patience import Patience
from starfish_watcher._watchers.progress import Progress
from starfish_watcher._watchers.projection_watcher import GLANCE_S, ProjectionWatcher, timed_out
from starfish_watcher._watchers.wake_ups import SubscriptionWakeUp
from starfish_watcher.errors import ProjectionFailed, ReaderClosed, StoreClosed, SubscriptionPruned

__all__ = ("AsyncSourceWatcher", "watch", "watch_async")

S = TypeVar("S")
PAGE: Final = 1024


class _SourceState(Generic[S]):
    """The state of one entity up to one position of a source; each look works on a copy."""

    def __init__(self, projection: type[Projection[S]] | Projection[S], entity: str) -> None:
        self._projection: Projection[S] = resolve(projection)
        if self._projection.lane == "raw":
            msg = "the raw lane is for event stores; another source's payloads are its own values"
            raise TypeError(msg)
        self.entity = entity
        self._kinds = relevant(self._projection.relevant_kinds)
        self.position = 0
        self.count = 0
        """Events of the entity that were read."""
        self._folded = False
        self._state: Any = None

    def copy(self) -> _SourceState[S]:
        other: _SourceState[S] = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._state = handed_out(self._projection, self.entity, self._state)
        return other

    def fold(self, page: Sequence[events.Event]) -> None:
        event: events.Event | None = None
        try:
            for event in page:
                if self._kinds and event.kind not in self._kinds:
                    continue
                if not self._folded:
                    self._state = self._projection.initial()
                    self._folded = True
                self._state = self._projection.apply(self._state, event)
        except Exception as error:
            raise failure(self._projection, self.entity, error, event) from error
        self.count += len(page)
        if page:
            self.position = page[-1].sequence

    def change(self, generation: int) -> Change[S]:
        if not self._folded:
            return Change(generation, None)
        return Change(generation, handed_out(self._projection, self.entity, self._state))


def watch(
    source: EventSource,
    projection: type[Projection[S]] | Projection[S],
    entity: str,
    *,
    capacity: int = 8192,
    include_initial: bool = False,
    since_generation: int | None = None,
) -> ProjectionWatcher[S]:
    """Watch ``entity`` of ``source`` through a subscription that holds ``capacity`` events.

    The watcher works as that of a store; when it is so slow that the subscription is pruned, it
    returns the newest state, then raises `SubscriptionPruned` until `resubscribe`.

    Raises:
        TypeError: ``projection`` is not one, or wants the raw lane.
    """
    kept = _SourceState(projection, entity)
    turn = threading.Lock()

    def look() -> Change[S]:
        nonlocal kept
        with turn:
            generation = source.generation(entity)
            state = kept.copy()
            while state.count != generation and (
                page := source.read(state.position, PAGE, entity=entity)
            ):
                state.fold(page)
            kept = state
            return state.change(generation)

    return ProjectionWatcher(
        look,
        lambda: source.generation(entity),
        lambda: SubscriptionWakeUp(lambda: source.subscribe(entity=entity, capacity=capacity)),
        include_initial=include_initial,
        since_generation=since_generation,
    )


async def watch_async(
    source: AsyncEventSource,
    projection: type[Projection[S]] | Projection[S],
    entity: str,
    *,
    capacity: int = 8192,
    include_initial: bool = False,
    since_generation: int | None = None,
) -> AsyncSourceWatcher[S]:
    """As `watch`, for a source that is asynchronous; the projection folds on the event loop.

    Raises:
        TypeError: ``projection`` is not one, or wants the raw lane.
    """
    progress = Progress(
        await source.generation(entity),
        include_initial=include_initial,
        since_generation=since_generation,
    )
    subscription = await source.subscribe(entity=entity, capacity=capacity)
    progress.subscribed(await source.generation(entity))
    return AsyncSourceWatcher(
        source, _SourceState(projection, entity), progress, subscription, capacity
    )


class AsyncSourceWatcher(Generic[S]):
    """Returns states of one entity of an asynchronous source, each newer than the one before."""

    def __init__(
        self,
        source: AsyncEventSource,
        state: _SourceState[S],
        progress: Progress,
        subscription: AsyncEventSubscription,
        capacity: int,
    ) -> None:
        self._source = source
        self._kept = state
        self._entity = state.entity
        self._progress = progress
        self._subscription = subscription
        self._capacity = capacity
        self._turn = asyncio.Lock()
        self._patience = Patience()
        self._closed = False

    @property
    def generation(self) -> int:
        """Of the change returned last; until then, where the watch began."""
        return self._progress.seen

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    async def try_recv(self) -> Change[S] | None:
        """As `ProjectionWatcher.try_recv`; a cancelled call has taken nothing."""
        try:
            return await self.recv(0)
        except TimeoutError:
            return None

    async def recv(self, timeout: float | None = None) -> Change[S]:
        """As `ProjectionWatcher.recv`; a cancelled call has taken nothing."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (pause := self._patience.left(deadline)) > 0:
            self._check_open()
            await asyncio.sleep(min(pause, GLANCE_S))
        while True:
            self._check_open()
            if self._progress.due:
                try:
                    change = await self._look()
                except BaseException as error:
                    if isinstance(error, ProjectionFailed):
                        self._patience.failed()
                    self._progress.woken()
                    raise
                self._patience.succeeded()
                if self._progress.accept(change):
                    return change
            remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
            await self._sleep(remaining)
            if remaining == 0 and not self._progress.due:
                raise timed_out(timeout, self.generation)

    def _check_open(self) -> None:
        if self._closed:
            raise ReaderClosed("watcher")

    async def _sleep(self, timeout: float | None) -> None:
        came = False
        subscription = self._subscription
        try:
            while await subscription.pull_batch(1024, 0 if came else timeout):
                came = True
            if timeout is None and not came and subscription is self._subscription:
                # Nothing, without a time-out: it was closed by a source that does not say so.
                await asyncio.sleep(GLANCE_S)
        except events.SubscriptionPruned as error:
            if not came:
                raise SubscriptionPruned(error.capacity) from error
        except events.SubscriptionClosed as error:
            self._check_open()
            if subscription is self._subscription and not came:
                if isinstance(error, StoreClosed) and not isinstance(error, ReaderClosed):
                    raise
                msg = f"its source ended the subscription: {error}"
                raise StoreClosed(msg) from error
        finally:
            # Last: another task's older look may end, and settle it all, while this one awaits.
            if came:
                self._progress.woken()

    async def _look(self) -> Change[S]:
        async with self._turn:
            generation = await self._source.generation(self._entity)
            state = self._kept.copy()
            while state.count != generation and (
                page := await self._source.read(state.position, PAGE, entity=self._entity)
            ):
                state.fold(page)
            self._kept = state
            return state.change(generation)

    async def resubscribe(self) -> None:
        """After `SubscriptionPruned`: subscribe anew and go on from the last generation.

        Another task that waits in `recv` goes on over the new subscription.
        """
        # In this order, so that it finds the new one when the old one wakes it.
        subscription = await self._source.subscribe(entity=self._entity, capacity=self._capacity)
        before, self._subscription = self._subscription, subscription
        before.close()
        if await self._source.generation(self._entity) > self._progress.seen:
            self._progress.woken()

    def close(self) -> None:
        """Let nothing more come, and wake all calls that wait; may be called twice."""
        self._closed = True
        self._subscription.close()

    async def __aiter__(self) -> AsyncIterator[Change[S]]:
        """Changes until the watcher is closed."""
        while not self._closed:
            try:
                change = await self.recv()
            except StoreClosed:
                if self._closed:
                    return
                raise
            yield change

    async def __aenter__(self) -> AsyncSourceWatcher[S]:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
