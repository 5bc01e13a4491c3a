"""Wait until an entity's state is newer than the one returned last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Generic, Protocol, TypeVar

from starfish_watcher.errors import StoreClosed
from starfish_watcher.projection.definition import Change
from starfish_watcher.watchers.progress import Progress

__all__ = ("AsyncProjectionWatcher", "ProjectionWatcher", "WakeUp", "timed_out")

S = TypeVar("S")


class WakeUp(Protocol):
    """What a watcher sleeps on: the flag of a store, or a bounded subscription."""

    def take_down(self) -> bool:
        """Whether something came since the last call.

        Raises:
            StoreClosed: nothing more comes.
            SubscriptionPruned: something was missed, and was said so before.
        """
        ...

    def put_up(self) -> None:
        """Wake whoever waits."""
        ...

    def wait(self, timeout: float | None) -> bool:
        """Block until something came; false when the time is up."""
        ...

    async def wait_async(self) -> None:
        """As `wait`, for asyncio; a cancelled call leaves everything as it is."""
        ...

    def renew(self) -> None:
        """After a pruned subscription: subscribe anew."""
        ...

    def close(self) -> None:
        """Let nothing more come."""
        ...


class ProjectionWatcher(Generic[S]):
    """Returns states of one entity, each newer than the one before.

    Generations strictly increase; whatever came since the last call is one change with the newest
    state. Several threads may call `recv`; each change goes to one of them.
    """

    def __init__(
        self,
        look: Callable[[], Change[S]],
        generation: Callable[[], int],
        wake_up: Callable[[], WakeUp],
        *,
        include_initial: bool,
        since_generation: int | None,
    ) -> None:
        self._look = look
        self._read_generation = generation
        self._progress = Progress(
            generation(), include_initial=include_initial, since_generation=since_generation
        )
        self._wake_up = wake_up()
        self._closed = False
        try:
            self._progress.subscribed(generation())
        except BaseException:
            self._wake_up.close()
            raise

    @property
    def generation(self) -> int:
        """Of the change returned last; until then, where the watch began."""
        return self._progress.seen

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def try_recv(self) -> Change[S] | None:
        """A newer state if there is one, without waiting.

        Raises:
            StoreClosed: the store, or this watcher, is closed.
            SubscriptionPruned: its subscription missed an event, and the newest state was returned.
            ProjectionFailed: the projection raised; the next call tries again.
        """
        if not self.is_due():
            return None
        return self.delivered(self.look())

    def recv(self, timeout: float | None = None) -> Change[S]:
        """The newest state, as soon as it is newer than the one returned last.

        Raises:
            TimeoutError: that did not happen within ``timeout`` seconds.
            StoreClosed: the store, or this watcher, is closed, also while this waits.
            SubscriptionPruned: its subscription missed an event, and the newest state was returned.
            ProjectionFailed: the projection raised; the next call tries again.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            if (change := self.try_recv()) is not None:
                return change
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining <= 0:
                raise timed_out(timeout, self.generation)
            self._wake_up.wait(remaining)

    def is_due(self) -> bool:
        """Whether to look now; what `try_recv` asks first, without blocking."""
        if self._closed:
            msg = "the watcher was closed"
            raise StoreClosed(msg)
        # Who is due already looks first: the error of a pruned subscription comes after that.
        if not self._progress.due and self._wake_up.take_down():
            self._progress.woken()
        return self._progress.due

    def look(self) -> Change[S]:
        """The state as it is; moves nothing, so that whoever was cancelled looks again."""
        try:
            return self._look()
        except BaseException:
            self._progress.woken()
            raise

    def delivered(self, change: Change[S]) -> Change[S] | None:
        """The change if it is newer than the last; it then counts as returned."""
        return change if self._progress.accept(change) else None

    def resubscribe(self) -> None:
        """After `SubscriptionPruned`: subscribe anew and go on from the last generation."""
        self._wake_up.renew()
        if self._read_generation() > self._progress.seen:
            self._progress.woken()

    def wake(self) -> None:
        """Make a waiting call look again."""
        self._wake_up.put_up()

    async def wait_async(self) -> None:
        """Sleep until something came."""
        await self._wake_up.wait_async()

    def close(self) -> None:
        """Wake a blocked `recv` with `StoreClosed`; may be called twice and from any thread."""
        self._closed = True
        self._wake_up.close()
        self._wake_up.put_up()

    def __iter__(self) -> Iterator[Change[S]]:
        """Changes until the watcher is closed; when the store closes, `StoreClosed`."""
        while not self._closed:
            try:
                change = self.recv()
            except StoreClosed:
                if self._closed:
                    return
                raise
            yield change

    def __enter__(self) -> ProjectionWatcher[S]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncProjectionWatcher(Generic[S]):
    """`ProjectionWatcher` for asyncio: states are folded in a thread, waiting is the loop's."""

    def __init__(self, watcher: ProjectionWatcher[S]) -> None:
        self._watcher = watcher

    @property
    def generation(self) -> int:
        """As `ProjectionWatcher.generation`."""
        return self._watcher.generation

    async def try_recv(self) -> Change[S] | None:
        """As `ProjectionWatcher.try_recv`; a cancelled call has taken nothing."""
        if not self._watcher.is_due():
            return None
        try:
            change = await asyncio.to_thread(self._watcher.look)
        except asyncio.CancelledError:
            self._watcher.wake()
            raise
        return self._watcher.delivered(change)

    async def recv(self, timeout: float | None = None) -> Change[S]:
        """As `ProjectionWatcher.recv`; a cancelled call has taken nothing."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (change := await self.try_recv()) is None:
            remaining = None if deadline is None else deadline - time.monotonic()
            try:
                async with asyncio.timeout(remaining):
                    await self._watcher.wait_async()
            except TimeoutError:
                raise timed_out(timeout, self.generation) from None
        return change

    async def resubscribe(self) -> None:
        """As `ProjectionWatcher.resubscribe`."""
        await asyncio.to_thread(self._watcher.resubscribe)

    def close(self) -> None:
        """As `ProjectionWatcher.close`."""
        self._watcher.close()

    async def __aiter__(self) -> AsyncIterator[Change[S]]:
        """As iterating a `ProjectionWatcher`."""
        while not self._watcher.closed:
            try:
                change = await self.recv()
            except StoreClosed:
                if self._watcher.closed:
                    return
                raise
            yield change

    async def __aenter__(self) -> AsyncProjectionWatcher[S]:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


def timed_out(timeout: float | None, generation: int) -> TimeoutError:
    """What `recv` raises when the time is up."""
    return TimeoutError(f"nothing newer than generation {generation} within {timeout} s")
