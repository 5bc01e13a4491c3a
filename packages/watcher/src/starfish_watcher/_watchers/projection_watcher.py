"""Wait until an entity's state is newer than the one returned last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, Generic, Protocol, TypeVar

from starfish_watcher._projection.definition import Change
from starfish_watcher._watchers.lookers import Lookers
from starfish_watcher._watchers.patience import Patience
from starfish_watcher._watchers.progress import Progress
from starfish_watcher.errors import ProjectionFailed, ReaderClosed, StoreClosed

__all__ = ("AsyncProjectionWatcher", "ProjectionWatcher", "WakeUp", "timed_out")

S = TypeVar("S")
GLANCE_S: Final = 0.05
"""How long a watcher that waits before it tries again may take to notice that it was closed."""


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
        """Wake all calls that wait."""
        ...

    def check(self) -> None:
        """Return while something may come.

        Raises:
            StoreClosed: nothing more comes.
        """
        ...

    def wait(self, timeout: float | None) -> bool:
        """Block until something came; false when the time is up."""
        ...

    def when_up(self, action: Callable[[], object]) -> None:
        """Call ``action`` once, when something came or now if it did; from any thread."""
        ...

    def forget(self, action: Callable[[], object]) -> None:
        """Do not call ``action`` any more."""
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
        self.patience = Patience()
        """How long to wait after a projection failed."""
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
        """A newer state if there is one, without waiting, also for a projection that failed.

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
            ProjectionFailed: the projection raised; the next call tries again, after a pause that
                grows up to a second and ends with ``timeout``.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (pause := self.patience.left(deadline)) > 0:
            self.check_open()
            time.sleep(min(pause, GLANCE_S))
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
            raise ReaderClosed("watcher")
        # A watcher that is due already looks first: the error of a pruned subscription comes after that.
        if self._progress.due:
            return True
        if self._wake_up.take_down():
            # Who took the flag down looks, even if an older look that ends now settles it all.
            self._progress.woken()
            return True
        return False

    def check_open(self) -> None:
        """Return while something may come.

        Raises:
            StoreClosed: the store, or this watcher, is closed.
        """
        if self._closed:
            raise ReaderClosed("watcher")
        self._wake_up.check()

    def look(self) -> Change[S]:
        """The state as it is; moves nothing, so that a cancelled call looks again."""
        try:
            change = self._look()
        except BaseException as error:
            if isinstance(error, ProjectionFailed):
                self.patience.failed()
            self._progress.woken()
            raise
        self.patience.succeeded()
        return change

    def look_if_due(self) -> Change[S] | None:
        """As `look`; nothing when there is no need to."""
        return self.look() if self.is_due() else None

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

    def when_woken(self, action: Callable[[], object]) -> None:
        """Call ``action`` once, from any thread, when `look_if_due` may have something to give."""
        self._wake_up.when_up(action)

    def forget(self, action: Callable[[], object]) -> None:
        """Do not call ``action`` any more."""
        self._wake_up.forget(action)

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

    def __init__(self, watcher: ProjectionWatcher[S], lookers: Lookers) -> None:
        self._watcher = watcher
        self._lookers = lookers

    @property
    def generation(self) -> int:
        """Of the change returned last; until then, where the watch began."""
        return self._watcher.generation

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._watcher.closed

    async def try_recv(self) -> Change[S] | None:
        """As `ProjectionWatcher.try_recv`; a cancelled call has taken nothing."""
        return await self._next(0) if self._watcher.is_due() else None

    async def recv(self, timeout: float | None = None) -> Change[S]:
        """As `ProjectionWatcher.recv`; a cancelled call has taken nothing."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (pause := self._watcher.patience.left(deadline)) > 0:
            self._watcher.check_open()
            await asyncio.sleep(min(pause, GLANCE_S))
        remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
        while (change := await self._next(remaining)) is None:
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining <= 0:
                raise timed_out(timeout, self.generation)
        return change

    async def _next(self, timeout: float | None) -> Change[S] | None:
        """What the next look gives, when it is due or woken; nothing when the time is up before."""
        watcher = self._watcher
        due = watcher.is_due()
        looking = self._lookers.prepare(watcher.look if due else watcher.look_if_due, watcher.wake)
        timer = None
        if due:
            looking.start()
        else:
            # What wakes the watcher starts the look: the loop wakes for its answer only.
            watcher.when_woken(looking.start)
            if timeout is not None:
                timer = asyncio.get_running_loop().call_later(timeout, looking.give_up)
        try:
            change = await looking.answer
        except asyncio.CancelledError:
            watcher.wake()
            raise
        finally:
            watcher.forget(looking.start)
            if timer is not None:
                timer.cancel()
        return None if change is None else watcher.delivered(change)

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
