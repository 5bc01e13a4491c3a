"""Tell whoever waits that events became visible, in this process and from others.

Rule 1: listeners are told after the events are visible to every reader, in the order of
sequences, each event once. Rule 2: telling never waits for a listener. Rule 3: what a listener
costs while other entities change is nothing: listeners stand in an index by namespace.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

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
        """Learn that the entity's generation grew by events that compaction removed since."""
        ...

    def fail(self, error: BaseException) -> None:
        """Learn that nothing more will come, and why."""
        ...


class Hub:
    """Knows who waits for which namespace; safe to use from many threads."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._by_namespace: dict[str | None, set[HubListener]] = {}
        self._count = 0
        self._published = 0
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
        with self._lock:
            error = self._error
            if error is None:
                last = self._log.last_sequence()
                if self._count == 0:
                    self._published = last
                    self._others = self._log.listen(self._changed_elsewhere, self._lost)
                else:
                    # Those who already wait must not miss what lies between, nor this one get it.
                    self._catch_up()
                    last = self._published
                self._by_namespace.setdefault(namespace, set()).add(listener)
                self._count += 1
                return last
        listener.fail(error)
        return 0

    def detach(self, namespace: str | None, listener: HubListener) -> None:
        """Tell ``listener`` no more; may be called twice."""
        with self._lock:
            self._drop(namespace, listener)

    def _drop(self, namespace: str | None, listener: HubListener) -> None:
        listeners = self._by_namespace.get(namespace)
        if listeners is None or listener not in listeners:
            return
        listeners.remove(listener)
        self._count -= 1
        if not listeners:
            del self._by_namespace[namespace]
        if self._count == 0 and self._others is not None:
            self._others.close()
            self._others = None

    def publish(self, events: Sequence[Event]) -> None:
        """Tell of events that this process appended, by sequence without a hole."""
        if not events:
            return
        with self._lock:
            if self._count == 0:
                return
            if events[0].sequence > self._published + 1:
                self._catch_up()
            fresh = (event for event in events if event.sequence > self._published)
            self._deliver(fresh)

    def _changed_elsewhere(self) -> bool:
        with self._lock:
            return self._count > 0 and self._catch_up()

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
                for namespace in (*namespaces_of(entity), None):
                    for listener in self._by_namespace.get(namespace, ()):
                        listener.touch(entity)

    def _deliver(self, events: Iterable[Event]) -> None:
        for event in events:
            self._published = event.sequence
            for namespace in (*namespaces_of(event.entity), None):
                listeners = self._by_namespace.get(namespace)
                if listeners is None:
                    continue
                refused = [listener for listener in listeners if not listener.offer(event)]
                for listener in refused:
                    self._drop(namespace, listener)

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
            waiting = [one for listeners in self._by_namespace.values() for one in listeners]
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
