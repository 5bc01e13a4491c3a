"""Wait for newer states of any entity in a namespace."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from typing import Generic, TypeVar

from starfish_watcher._delivery.hub import Hub
from starfish_watcher._delivery.wake_flag import WakeFlag
from starfish_watcher._limits import MAX_KEPT_STATES
from starfish_watcher._model.event import Event
from starfish_watcher._projection.definition import Change
from starfish_watcher._watchers.lookers import Lookers
from starfish_watcher._watchers.patience import Patience
from starfish_watcher._watchers.progress import is_newer
from starfish_watcher.errors import ProjectionFailed, ReaderClosed, StoreClosed
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

    It remembers the generations of the entities that it returned last, not of all there are. An
    entity whose projection fails comes again after a pause, so that it does not hold up the others.
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
        self._seen: OrderedDict[str, int] = OrderedDict()
        self._failing: dict[str, Patience] = {}
        self._touched = _TouchedEntities()
        # Exact: every event above the sequence at which it is attached is told.
        hub.attach(prefix, self._touched)
        if include_initial:
            try:
                for entity in heads():
                    self._touched.touch(entity)
            except BaseException:
                self.close()
                raise

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def try_recv(self) -> tuple[str, Change[S]] | None:
        """The next entity that is newer than before, without waiting.

        One whose projection failed is tried when its pause is over; see `recv`.

        Raises:
            StoreClosed: the store, or this watcher, is closed.
            ProjectionFailed: the projection raised; the entity comes again.
        """
        return self._try(at=time.monotonic())

    def _try(self, at: float) -> tuple[str, Change[S]] | None:
        while (entity := self.next_entity(at)) is not None:
            try:
                change = self._look(entity)
            except BaseException as error:
                self.again(entity, error)
                raise
            if self.delivered(entity, change):
                return entity, change
        return None

    def next_entity(self, at: float) -> str | None:
        """Take an entity to look at, one that failed only when its pause is over at ``at``."""
        if self._closed:
            raise ReaderClosed("watcher")
        while (entity := self._touched.pop()) is not None:
            if entity not in self._failing:
                return entity
        with self._lock:
            due = min(self._failing.items(), key=lambda item: item[1].until, default=None)
        return due[0] if due is not None and due[1].until <= at else None

    def next_attempt(self) -> float | None:
        """When an entity that failed is to be tried again; ``None`` when there is not any."""
        with self._lock:
            return min((each.until for each in self._failing.values()), default=None)

    def again(self, entity: str, error: BaseException) -> None:
        """Give an entity back that nothing was returned of."""
        if isinstance(error, ProjectionFailed):
            with self._lock:
                self._failing.setdefault(entity, Patience()).failed()
        else:
            self._touched.touch(entity)

    def look(self, entity: str) -> Change[S]:
        """The entity's state as it is; moves nothing."""
        return self._look(entity)

    def delivered(self, entity: str, change: Change[S]) -> bool:
        """Whether the change is newer than the last; it then counts as returned."""
        with self._lock:
            self._failing.pop(entity, None)
            newer = is_newer(change.generation, self._seen.get(entity, 0))
            if newer:
                self._seen[entity] = change.generation
                self._seen.move_to_end(entity)
                if len(self._seen) > MAX_KEPT_STATES:
                    self._seen.popitem(last=False)
            return newer

    def recv(self, timeout: float | None = None) -> tuple[str, Change[S]]:
        """An entity and its newest state, as soon as that is newer than the one returned last.

        Raises:
            TimeoutError: that did not happen within ``timeout`` seconds.
            StoreClosed: the store, or this watcher, is closed, also while this waits.
            ProjectionFailed: the projection raised; the entity comes again, after a pause that grows
                up to a second and ends with ``timeout``.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (found := self._try(self.attempt_at(deadline))) is None:
            remaining = self.left(deadline)
            if deadline is not None and deadline <= time.monotonic():
                raise _timed_out(timeout)
            self._touched.wait(remaining)
        return found

    def attempt_at(self, deadline: float | None) -> float:
        """Up to when pauses count as over: at the deadline all do."""
        now = time.monotonic()
        return math.inf if deadline is not None and deadline <= now else now

    def left(self, deadline: float | None) -> float | None:
        """Seconds until the deadline or the next attempt, whichever is first."""
        ends = [end for end in (deadline, self.next_attempt()) if end is not None]
        return max(0.0, min(ends) - time.monotonic()) if ends else None

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

    def __init__(self, watcher: PrefixWatcher[S], lookers: Lookers) -> None:
        self._watcher = watcher
        self._lookers = lookers

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._watcher.closed

    async def try_recv(self) -> tuple[str, Change[S]] | None:
        """As `PrefixWatcher.try_recv`; a cancelled call has taken nothing."""
        return await self._try(time.monotonic())

    async def _try(self, at: float) -> tuple[str, Change[S]] | None:
        while (entity := self._watcher.next_entity(at)) is not None:
            looking = self._lookers.prepare(partial(self._watcher.look, entity), _ignore)
            looking.start()
            try:
                change = await looking.answer
            except BaseException as error:
                self._watcher.again(entity, error)
                raise
            if change is not None and self._watcher.delivered(entity, change):
                return entity, change
        return None

    async def recv(self, timeout: float | None = None) -> tuple[str, Change[S]]:
        """As `PrefixWatcher.recv`; a cancelled call has taken nothing."""
        watcher = self._watcher
        deadline = None if timeout is None else time.monotonic() + timeout
        while (found := await self._try(watcher.attempt_at(deadline))) is None:
            if deadline is not None and deadline <= time.monotonic():
                raise _timed_out(timeout)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(watcher.left(deadline)):
                    await watcher.wait_async()
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


def _ignore() -> None:
    """A look that nobody waits for any more: its entity was given back."""


def _timed_out(timeout: float | None) -> TimeoutError:
    return TimeoutError(f"nothing newer within {timeout} s")
