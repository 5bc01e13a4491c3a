"""Tell those who wait that events became visible, in this process and from others.

Rule 1: listeners are told after the events are visible to every reader, in the order of
sequences, each event once. Rule 2: telling never waits for a listener. Rule 3: what a listener
costs while other entities change is nothing: listeners stand in an index by namespace. Rule 4:
listeners are held weakly; one that nobody holds is gone, and costs nothing.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from starfish_watcher._fork_guard import ForkGuard
from starfish_watcher._model.coordinate import namespaces_of
from starfish_watcher._model.event import Event
from starfish_watcher.log.base import EventLog, Listener

__all__ = ("Hub", "HubListener")

CATCH_UP_EVENTS: Final = 1024
"""Events of other processes that are read at once."""


class HubListener(Protocol):
    """Somebody who waits; called by the thread that appends, so it must not block."""

    def offer(self, event: Event) -> bool:
        """Take the event, or say false to be told no more."""
        ...

    def touch(self, entity: str) -> None:
        """Learn that compaction took events of the entity, or removed some before they were told."""
        ...

    def fail(self, error: BaseException) -> None:
        """Learn that nothing more will come, and why."""
        ...


_Held = weakref.ref[HubListener]


class Hub:
    """Knows who waits for which namespace; safe to use from many threads."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._guard = ForkGuard()
        self._by_namespace: dict[str | None, dict[int, _Held]] = {}
        # Filled wherever the garbage collector runs, which may be under the lock.
        self._dead: deque[tuple[str | None, int]] = deque()
        self._count = 0
        self._published = 0
        self._removals = 0
        self._others: Listener | None = None
        self._error: BaseException | None = None
        self._on_failure: Callable[[BaseException], None] | None = None

    def on_failure(self, action: Callable[[BaseException], None]) -> None:
        """Call ``action`` once when nothing more can be heard of other processes."""
        self._on_failure = action

    def attach(self, namespace: str | None, listener: HubListener) -> int:
        """Tell ``listener`` of each event of the namespace above the returned sequence.

        After a failure it is told of that at once instead.
        """
        self._guard.check()
        with self._lock:
            error = self._error
            if error is None:
                self._bury()
                last = self._log.last_sequence()
                if self._count == 0:
                    self._published = last
                    self._removals = self._log.removals(sys.maxsize).number
                    self._others = self._log.listen(self._changed_elsewhere, self._lost)
                else:
                    # Those who already wait must not miss what lies between, nor this one get it.
                    self._catch_up()
                    last = self._published
                key = id(listener)
                held = weakref.ref(listener, lambda _: self._dead.append((namespace, key)))
                self._by_namespace.setdefault(namespace, {})[key] = held
                self._count += 1
                return last
        listener.fail(error)
        return 0

    def detach(self, namespace: str | None, listener: HubListener) -> None:
        """Tell ``listener`` no more; may be called twice."""
        if self._guard.is_inherited:
            return
        with self._lock:
            self._drop(namespace, id(listener))
            self._bury()

    def _bury(self) -> None:
        while self._dead:
            namespace, key = self._dead.popleft()
            held = self._by_namespace.get(namespace, {}).get(key)
            if held is not None and held() is None:  # another one may have its address by now
                self._drop(namespace, key)

    def _drop(self, namespace: str | None, key: int) -> None:
        listeners = self._by_namespace.get(namespace)
        if listeners is None or listeners.pop(key, None) is None:
            return
        self._count -= 1
        if not listeners:
            del self._by_namespace[namespace]
        if self._count == 0 and self._others is not None:
            self._others.close()
            self._others = None

    def _listeners(self, namespace: str | None) -> list[HubListener]:
        held = self._by_namespace.get(namespace)
        if held is None:
            return []
        return [listener for each in held.values() if (listener := each()) is not None]

    def publish(self, events: Sequence[Event]) -> None:
        """Tell of events that this process appended, by sequence without a hole.

        Raises:
            StoreUnavailableError: events of other processes cannot be read; `catch_up` later.
        """
        if not events:
            return
        with self._lock:
            self._bury()
            if self._count == 0:
                return
            if events[0].sequence > self._published + 1:
                self._catch_up()
            fresh = (event for event in events if event.sequence > self._published)
            self._deliver(fresh)

    def catch_up(self) -> bool:
        """Read and tell of all that is new, of any process; whether there was anything."""
        with self._lock:
            self._bury()
            if self._count == 0:
                return False
            removed = self._catch_up_removals()
            return self._catch_up() or removed

    def _changed_elsewhere(self) -> bool:
        return self.catch_up()

    def removed(self) -> None:
        """Tell the listeners of entities that a compaction took events of."""
        with self._lock:
            if self._count:
                self._catch_up_removals()

    def _catch_up_removals(self) -> bool:
        removals = self._log.removals(self._removals)
        if removals.number == self._removals:
            return False
        for entity in removals.entities:
            self._touch(entity)
        self._removals = removals.number
        return True

    def _touch(self, entity: str) -> None:
        for namespace in (*namespaces_of(entity), None):
            for listener in self._listeners(namespace):
                listener.touch(entity)

    def _catch_up(self) -> bool:
        last = self._log.last_sequence()
        if last <= self._published:
            return False
        while self._published < last:
            before = self._published
            events = self._log.read(before, CATCH_UP_EVENTS)
            self._deliver(events)
            if len(events) < CATCH_UP_EVENTS:
                # Compaction may already have removed the newest ones.
                self._published = max(self._published, last)
            if len(events) < self._published - before:
                self._touch_removed(before, {event.sequence for event in events})
        return True

    def _touch_removed(self, after: int, told: set[int]) -> None:
        """Nobody can be told of events that are gone, but the heads say whose they were."""
        for entity, head in self._log.heads(None).items():
            if after < head.sequence <= self._published and head.sequence not in told:
                self._touch(entity)

    def _deliver(self, events: Iterable[Event]) -> None:
        for event in events:
            self._published = event.sequence
            for namespace in (*namespaces_of(event.entity), None):
                for listener in self._listeners(namespace):
                    if not listener.offer(event):
                        self._drop(namespace, id(listener))

    def _lost(self, error: BaseException) -> None:
        self.fail(error)
        if self._on_failure is not None:
            self._on_failure(error)

    def fail(self, error: BaseException) -> None:
        """Tell all listeners, now and later, that nothing more comes; the first reason stays."""
        with self._lock:
            if self._error is not None:
                return
            self._error = error
            waiting = [
                one for namespace in self._by_namespace for one in self._listeners(namespace)
            ]
            self._by_namespace.clear()
            self._count = 0
            others, self._others = self._others, None
        if others is not None:
            others.close()
        for listener in waiting:
            listener.fail(error)

    @property
    def error(self) -> BaseException | None:
        """Why nothing more comes; ``None`` while something may."""
        return self._error
