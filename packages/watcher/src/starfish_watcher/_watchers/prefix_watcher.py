"""Wait for newer states of any entity in a namespace."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Generic, TypeVar

from starfish_watcher._delivery.hub import Hub
from starfish_watcher._delivery.wake_flag import WakeFlag
from starfish_watcher._model.event import Event
from starfish_watcher._projection.definition import Change
from starfish_watcher.errors import StoreClosed
from starfish_watcher.log.base import EntityHead

__all__ = ("AsyncPrefixWatcher", "PrefixWatcher")

S = TypeVar("S")


class _TouchedEntities(WakeFlag):
    """A flag that also remembers which entities changed, each once, in order."""

    def __init__(self) -> None:
        super().__init__()
        self._names_lock = threading.Lock()
        self._names: dict[str, None] = {}

    def offer(self, event: Event) -> bool:
        self.touch(event.entity)
        return True

    def touch(self, entity: str) -> None:
        with self._names_lock:
            self._names[entity] = None
        self.put_up()

    def pop(self) -> str | None:
        """The entity that waits longest; ``None`` when there is none.

        Raises:
            StoreClosed: nothing more comes.
        """
        self.take_down()
        with self._names_lock:
            name = next(iter(self._names), None)
            if name is not None:
                del self._names[name]
            left = bool(self._names)
        if left:
            self.put_up()
        return name


class PrefixWatcher(Generic[S]):
    """Returns ``(entity, Change)``; of each entity, generations strictly increase.

    It remembers a generation for each entity of the namespace that it has seen. An entity whose
    projection fails comes again at its end of the queue, so that it does not hold up the others.
    """

    def __init__(
        self,
        hub: Hub,
        prefix: str | None,
        look: Callable[[str], Change[S]],
        heads: Callable[[], Mapping[str, EntityHead]],
        *,
        include_initial: bool,
    ) -> None:
        self._hub = hub
        self._prefix = prefix
        self._look = look
        self._closed = False
        self._lock = threading.Lock()
        self._seen = {entity: head.generation for entity, head in heads().items()}
        self._touched = _TouchedEntities()
        hub.attach(prefix, self._touched)
        try:
            now = heads()
        except BaseException:
            self.close()
            raise
        for entity, head in now.items():
            if include_initial:
                self._seen.pop(entity, None)
            if head.generation > self._seen.get(entity, 0):
                self._touched.touch(entity)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def try_recv(self) -> tuple[str, Change[S]] | None:
        """The next entity that is newer than before, without waiting.

        Raises:
            StoreClosed: the store, or this watcher, is closed.
            ProjectionFailed: the projection raised; the entity comes again.
        """
        while (entity := self.next_entity()) is not None:
            try:
                change = self._look(entity)
            except BaseException:
                self.again(entity)
                raise
            if self.delivered(entity, change):
                return entity, change
        return None

    def next_entity(self) -> str | None:
        """Take an entity to look at; `again` gives it back."""
        if self._closed:
            msg = "the watcher was closed"
            raise StoreClosed(msg)
        return self._touched.pop()

    def again(self, entity: str) -> None:
        """Give an entity back that nothing was returned of."""
        self._touched.touch(entity)

    def look(self, entity: str) -> Change[S]:
        """The entity's state as it is; moves nothing."""
        return self._look(entity)

    def delivered(self, entity: str, change: Change[S]) -> bool:
        """Whether the change is newer than the last; it then counts as returned."""
        with self._lock:
            newer = change.generation > self._seen.get(entity, 0)
            if newer:
                self._seen[entity] = change.generation
            return newer

    def recv(self, timeout: float | None = None) -> tuple[str, Change[S]]:
        """An entity and its newest state, as soon as that is newer than the one returned last.

        Raises:
            TimeoutError: that did not happen within ``timeout`` seconds.
            StoreClosed: the store, or this watcher, is closed, also while this waits.
            ProjectionFailed: the projection raised; the entity comes again.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (found := self.try_recv()) is None:
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining <= 0:
                raise _timed_out(timeout)
            self._touched.wait(remaining)
        return found

    async def wait_async(self) -> None:
        """Sleep until something came."""
        await self._touched.wait_async()

    def close(self) -> None:
        """Wake a blocked `recv` with `StoreClosed`; may be called twice and from any thread."""
        self._closed = True
        self._hub.detach(self._prefix, self._touched)
        self._touched.put_up()

    def __iter__(self) -> Iterator[tuple[str, Change[S]]]:
        """Changes until the watcher is closed; when the store closes, `StoreClosed`."""
        while not self._closed:
            try:
                found = self.recv()
            except StoreClosed:
                if self._closed:
                    return
                raise
            yield found

    def __enter__(self) -> PrefixWatcher[S]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncPrefixWatcher(Generic[S]):
    """`PrefixWatcher` for asyncio: states are folded in a thread, waiting is the loop's."""

    def __init__(self, watcher: PrefixWatcher[S]) -> None:
        self._watcher = watcher

    async def try_recv(self) -> tuple[str, Change[S]] | None:
        """As `PrefixWatcher.try_recv`; a cancelled call has taken nothing."""
        while (entity := self._watcher.next_entity()) is not None:
            try:
                change = await asyncio.to_thread(self._watcher.look, entity)
            except BaseException:
                self._watcher.again(entity)
                raise
            if self._watcher.delivered(entity, change):
                return entity, change
        return None

    async def recv(self, timeout: float | None = None) -> tuple[str, Change[S]]:
        """As `PrefixWatcher.recv`; a cancelled call has taken nothing."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (found := await self.try_recv()) is None:
            remaining = None if deadline is None else deadline - time.monotonic()
            try:
                async with asyncio.timeout(remaining):
                    await self._watcher.wait_async()
            except TimeoutError:
                raise _timed_out(timeout) from None
        return found

    def close(self) -> None:
        """As `PrefixWatcher.close`."""
        self._watcher.close()

    async def __aiter__(self) -> AsyncIterator[tuple[str, Change[S]]]:
        """As iterating a `PrefixWatcher`."""
        while not self._watcher.closed:
            try:
                found = await self.recv()
            except StoreClosed:
                if self._watcher.closed:
                    return
                raise
            yield found

    async def __aenter__(self) -> AsyncPrefixWatcher[S]:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


def _timed_out(timeout: float | None) -> TimeoutError:
    return TimeoutError(f"nothing newer within {timeout} s")
