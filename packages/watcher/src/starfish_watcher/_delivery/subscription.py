"""Receive events as they come, in a bounded queue: a reader that is too slow is told, not waited for."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable

from starfish_watcher._delivery.hub import Hub
from starfish_watcher._delivery.wake_flag import WakeFlag
from starfish_watcher._model.event import Event
from starfish_watcher.errors import ReaderClosed, StoreClosed, SubscriptionPruned

__all__ = ("AsyncSubscription", "Subscription")


class Subscription:
    """Events that became visible since it was made, oldest first; lossy.

    When an event comes and the queue is full, the subscription is dropped at once. It still gives
    what it holds, and from then on raises `SubscriptionPruned`. Any number of threads may read;
    each event goes to one of them.
    """

    def __init__(
        self, hub: Hub, namespace: str | None, wanted: Callable[[Event], bool], capacity: int
    ) -> None:
        if capacity < 1:
            msg = f"capacity is {capacity}; a subscription holds at least 1 event"
            raise ValueError(msg)
        self._hub = hub
        self._namespace = namespace
        self._wanted = wanted
        self._capacity = capacity
        self._lock = threading.Lock()
        self._held: deque[Event] = deque()
        self._flag = WakeFlag()
        self._pruned = False
        self._closed = False
        self._error: BaseException | None = None
        hub.attach(namespace, self)

    @property
    def pruned(self) -> bool:
        """Whether it missed an event; nothing is added any more."""
        return self._pruned

    def offer(self, event: Event) -> bool:
        """Called by the hub."""
        if not self._wanted(event):
            return True
        with self._lock:
            if len(self._held) >= self._capacity:
                self._pruned = True
            else:
                self._held.append(event)
            taken = not self._pruned
        self._flag.offer(event)
        return taken

    def touch(self, entity: str) -> None:
        """Called by the hub; all that was removed before anybody was told is not received."""

    def fail(self, error: BaseException) -> None:
        """Called by the hub."""
        self._error = error
        self._flag.put_up()

    def take(self, max_events: int) -> list[Event]:
        """All that is there, without waiting.

        Raises:
            SubscriptionPruned: everything it held was taken and it missed the event after that.
            StoreClosed: everything it held was taken and nothing more comes.
        """
        # Taken down first: an event that comes while this looks puts the flag up again.
        self._flag.take_down()
        with self._lock:
            batch = [self._held.popleft() for _ in range(min(max_events, len(self._held)))]
            left = bool(self._held)
        if left:
            self._flag.put_up()
        if batch:
            return batch
        if self._closed or self._error is not None:
            self._flag.put_up()
            if self._error is None:
                raise ReaderClosed("subscription")
            raise StoreClosed.because_of(self._error)
        if self._pruned:
            self._flag.put_up()
            raise SubscriptionPruned(self._capacity)
        return []

    def wait(self, timeout: float | None) -> bool:
        """Block until `take` has something to give or to raise; false when the time is up."""
        return self._flag.wait(timeout)

    async def wait_async(self) -> None:
        """As `wait`, for asyncio."""
        await self._flag.wait_async()

    def when_up(self, action: Callable[[], object]) -> None:
        """As `WakeFlag.when_up`, when `take` has something to give or to raise."""
        self._flag.when_up(action)

    def forget(self, action: Callable[[], object]) -> None:
        """As `WakeFlag.forget`."""
        self._flag.forget(action)

    def pull_batch(self, max_events: int = 256, timeout: float | None = None) -> list[Event]:
        """Up to ``max_events``, waiting for the first one at most ``timeout`` seconds.

        ``None`` waits for ever; when the time is up the list is empty.

        Raises:
            SubscriptionPruned: everything it held was taken and it missed the event after that.
            StoreClosed: everything it held was taken and nothing more comes.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            if batch := self.take(max_events):
                return batch
            remaining = None if deadline is None else deadline - time.monotonic()
            if (remaining is not None and remaining <= 0) or not self.wait(remaining):
                return []

    def recv(self, timeout: float | None = None) -> Event:
        """The next event.

        Raises:
            TimeoutError: none came within ``timeout`` seconds.
            SubscriptionPruned: as `pull_batch`.
            StoreClosed: as `pull_batch`.
        """
        batch = self.pull_batch(1, timeout)
        if not batch:
            msg = f"no event came within {timeout} s"
            raise TimeoutError(msg)
        return batch[0]

    def close(self) -> None:
        """Receive no more; what it holds can still be taken. May be called twice."""
        self._closed = True
        self._hub.detach(self._namespace, self)
        self._flag.put_up()


class AsyncSubscription:
    """`Subscription` for asyncio: waiting is the loop's, never a thread's."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    async def pull_batch(self, max_events: int = 256, timeout: float | None = None) -> list[Event]:
        """As `Subscription.pull_batch`; a cancelled call has taken nothing."""
        try:
            async with asyncio.timeout(timeout):
                while not (batch := self._subscription.take(max_events)):
                    await self._subscription.wait_async()
        except TimeoutError:
            return []
        return batch

    async def recv(self, timeout: float | None = None) -> Event:
        """As `Subscription.recv`; a cancelled call has taken nothing."""
        batch = await self.pull_batch(1, timeout)
        if not batch:
            msg = f"no event came within {timeout} s"
            raise TimeoutError(msg)
        return batch[0]

    def close(self) -> None:
        """As `Subscription.close`."""
        self._subscription.close()
