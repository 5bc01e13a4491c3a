"""A log in memory: for tests and for what need not outlive its process."""

# ruff: noqa: ARG002 - parameters of the seam that memory has no use for

from __future__ import annotations

import threading
import uuid
from bisect import bisect_right
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from itertools import chain
from operator import attrgetter

import msgspec

from starfish_watcher._model.coordinate import in_namespace
from starfish_watcher._model.event import Event, RawEvent
from starfish_watcher._model.new_event import Durability, PreparedEvent
from starfish_watcher._model.region import Region
from starfish_watcher.fault_points import FaultPoint
from starfish_watcher.log.base import (
    MARK_BYTES,
    NO_EVENTS,
    AppendResult,
    EntityHead,
    History,
    Listener,
    Removals,
    Stamp,
)
from starfish_watcher.log.plan import AppendPlan, KeyRecord

__all__ = ("MemoryEventLog",)

_sequence_of = attrgetter("sequence")


class _Silence:
    """Nobody else can append to this process's memory, so there is nothing to tell."""

    def close(self) -> None:
        pass


class MemoryEventLog:
    """Keeps events in lists; a snapshot is a copy of the part that is read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._store_id = uuid.uuid4().hex
        self._events: list[Event] = []
        self._by_entity: dict[str, list[Event]] = {}
        self._by_id: dict[bytes, Event] = {}
        self._heads: dict[str, EntityHead] = {}
        self._records: dict[str, KeyRecord] = {}
        self._last_sequence = 0
        self._marks: dict[int, bytes] = {}
        self._removals: list[tuple[str, ...]] = []

    @property
    def location(self) -> str:
        """Says that it is in memory."""
        return ":memory:"

    @property
    def store_id(self) -> str:
        """Made anew with each log."""
        return self._store_id

    def append(
        self,
        requests: Sequence[Sequence[PreparedEvent]],
        *,
        stamp: Stamp,
        durability: Durability,
        reached: Callable[[FaultPoint], None],
    ) -> AppendResult:
        """As `EventLog.append`; nothing survives the process, whatever the durability."""
        with self._lock:
            plan = AppendPlan(self._last_sequence, self._heads, self._records, stamp)
            outcomes = [plan.add(request) for request in requests]
            if plan.events[1:]:
                reached("mid_batch")
            reached("after_write")
            for event in plan.events:
                self._events.append(event)
                self._by_entity.setdefault(event.entity, []).append(event)
                self._by_id[event.id_bytes] = event
                self._last_sequence = event.sequence
            self._heads.update(plan.heads)
            self._records.update(plan.records)
        return AppendResult(outcomes, plan.events)

    def read(
        self, after: int, limit: int, *, entity: str | None = None, region: Region | None = None
    ) -> Sequence[Event]:
        """As `EventLog.read`."""
        with self._lock:
            events = self._events if entity is None else self._by_entity.get(entity, [])
            start = bisect_right(events, after, key=_sequence_of)
            if region is None:
                return events[start : start + limit]
            found: list[Event] = []
            for event in events[start:]:
                if len(found) == limit:
                    break
                if region.matches(event):
                    found.append(event)
            return found

    def get(self, event_id: bytes) -> Event | None:
        """As `EventLog.get`."""
        with self._lock:
            return self._by_id.get(event_id)

    def head(self, entity: str) -> EntityHead:
        """As `EventLog.head`."""
        with self._lock:
            return self._heads.get(entity, NO_EVENTS)

    def heads(self, prefix: str | None) -> dict[str, EntityHead]:
        """As `EventLog.heads`."""
        with self._lock:
            if prefix is None:
                return dict(self._heads)
            return {name: head for name, head in self._heads.items() if in_namespace(name, prefix)}

    def last_sequence(self) -> int:
        """As `EventLog.last_sequence`."""
        with self._lock:
            return self._last_sequence

    @contextmanager
    def history(
        self, entity: str, *, after: int, kinds: Sequence[int], raw: bool
    ) -> Generator[History]:
        """As `EventLog.history`."""
        with self._lock:
            head = self._heads.get(entity, NO_EVENTS)
            events = self._by_entity.get(entity, [])
            found = events[bisect_right(events, after, key=_sequence_of) :]
        wanted = frozenset(kinds)
        selected = (event for event in found if not wanted or event.kind_code in wanted)
        yield History(head, map(_raw, selected) if raw else selected)

    def remove(self, sequences: Sequence[int]) -> int:
        """As `EventLog.remove`."""
        unwanted = frozenset(sequences)
        with self._lock:
            gone = [event for event in self._events if event.sequence in unwanted]
            self._events = [event for event in self._events if event.sequence not in unwanted]
            for event in gone:
                del self._by_id[event.id_bytes]
                self._marks[event.sequence] = event.event_hash[:MARK_BYTES]
                head = self._heads[event.entity]
                self._heads[event.entity] = head._replace(removed=head.removed + 1)
            for entity in {event.entity for event in gone}:
                self._by_entity[entity] = [
                    event for event in self._by_entity[entity] if event.sequence not in unwanted
                ]
            self._removals.append(tuple({event.entity: None for event in gone}))
        return len(gone)

    def removals(self, after: int) -> Removals:
        """As `EventLog.removals`."""
        with self._lock:
            entities = dict.fromkeys(chain.from_iterable(self._removals[after:]))
            return Removals(len(self._removals), tuple(entities))

    def mark(self, sequence: int) -> bytes | None:
        """As `EventLog.mark`."""
        with self._lock:
            at = bisect_right(self._events, sequence, key=_sequence_of) - 1
            if at >= 0 and self._events[at].sequence == sequence:
                return self._events[at].event_hash[:MARK_BYTES]
            return self._marks.get(sequence)

    def listen(
        self, changed: Callable[[], bool], failed: Callable[[BaseException], None]
    ) -> Listener:
        """Nothing is ever called: no other process can append here."""
        return _Silence()

    def announce_close(self) -> None:
        """Nothing to tell: there is no other handle."""

    def flush(self) -> None:
        """Nothing to do: there is no disk."""

    def close(self) -> None:
        """Nothing to release."""


def _raw(event: Event) -> RawEvent:
    return RawEvent(*msgspec.structs.astuple(event))
