"""The seam between an event store and the engine that keeps its events.

A log decides races in the engine itself, so that several processes can share it. It is
synchronous and every method may be called from any thread; an engine whose client is
asynchronous runs its own loop thread behind it.

Rule 1: what a method returns was visible at one moment: no half batch, no generation newer than
the events beside it. Rule 2: `EventLog.append` returns after its events are visible to every
reader, so that a reader that is woken after it sees them. Rule 3: foreign errors stop here: what leaves
is a `WatcherError`. A `StoreUnavailableError` of `append` means that nothing of the group was
written. Rule 4: a payload that is not the one that was written is a `StoreDamagedError`.

How other engines fit. PostgreSQL: one transaction a group that locks one row, which holds the
last sequence; `listen` is LISTEN, and the append's transaction notifies. JetStream: one stream, a
subject an entity; a group is planned from the stream's last sequence and published with that as
the expected one, and planned anew after a conflict; `listen` is an ordered consumer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from starfish_watcher._model.event import Event
from starfish_watcher._model.new_event import Durability, PreparedEvent
from starfish_watcher._model.receipt import Receipt
from starfish_watcher._model.region import Region
from starfish_watcher.errors import WatcherError
from starfish_watcher.fault_points import FaultPoint
from starfish_watcher.hash_chain import NO_HASH

__all__ = (
    "MARK_BYTES",
    "NO_EVENTS",
    "AppendResult",
    "EntityHead",
    "EventLog",
    "History",
    "HistoryMovedError",
    "Listener",
    "Outcome",
    "Removals",
    "Stamp",
)


class EntityHead(NamedTuple):
    """What a log knows of an entity without reading its events; kept through compaction."""

    generation: int
    """Events that ever became visible; the newest one's clock is one less."""
    sequence: int
    """Sequence of the newest event, also when that was removed since."""
    event_hash: bytes
    """Its hash, which the next event builds on."""
    removed: int
    """Events that compaction removed; a state that was kept is folded anew when this grew."""


MARK_BYTES = 8
"""Of an event's hash: enough to tell two histories apart, little enough to keep for ever."""
NO_EVENTS = EntityHead(0, 0, NO_HASH, 0)
"""Head of an entity that nothing was appended to."""

Outcome = tuple[Receipt, ...] | WatcherError
"""Of one request: a receipt an item, in order, or why nothing of it was written."""


@dataclass(frozen=True, slots=True)
class AppendResult:
    """What one group of appends came to."""

    outcomes: Sequence[Outcome]
    """One a request, in order."""
    events: Sequence[Event]
    """All that was written, by sequence without a hole; empty when nothing was."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Where new events get their id and their time from."""

    next_id: Callable[[], bytes]
    """A UUID version 7 as 16 bytes, greater than all before."""
    now_us: Callable[[], int]
    """Microseconds since the epoch."""
    seen: Callable[[bytes], object] = lambda _: None
    """Called with the newest id of the log, so that ``next_id`` gives greater ones."""


class History(NamedTuple):
    """The events of an entity and its head, from one snapshot."""

    head: EntityHead
    """As it was when the events were what they are."""
    events: Iterator[Event]
    """In order; valid inside the context only."""


class HistoryMovedError(WatcherError):
    """Compaction took events out of a history while it was read page by page: read it again."""

    def __init__(self, location: str, entity: str) -> None:
        super().__init__(
            f"event store {location}: entity {entity!r} was compacted while it was read"
        )


class Removals(NamedTuple):
    """What compactions removed."""

    number: int
    """Compactions so far."""
    entities: tuple[str, ...]
    """Those that lost events in one of them."""


class Listener(Protocol):
    """Tells of other processes until it is closed."""

    def close(self) -> None:
        """Stop telling; a call that is under way may still end."""
        ...


class EventLog(Protocol):
    """Keeps events in one order."""

    @property
    def location(self) -> str:
        """Which log, for messages: a path or a name, never a secret."""
        ...

    @property
    def store_id(self) -> str:
        """What tells this log from all others, made with it: 32 hex digits."""
        ...

    def append(
        self,
        requests: Sequence[Sequence[PreparedEvent]],
        *,
        stamp: Stamp,
        durability: Durability,
        reached: Callable[[FaultPoint], None],
    ) -> AppendResult:
        """Write the requests in order, as one commit where the engine can; each whole or not at all.

        Expectations and idempotency keys are judged against all that is visible at the write, so
        that two processes never both succeed with the same expectation; `AppendPlan` does the
        judging. A refused request is an outcome and leaves the others alone. Called by one
        thread of a process at a time.

        The log calls ``reached("mid_batch")`` when some of what the group writes is written and
        some is not, and ``reached("after_write")`` before the commit; what that raises goes
        through, with nothing written.

        Raises:
            StoreUnavailableError: nothing was written, of no request.
            StoreDamagedError: likewise.
        """
        ...

    def read(
        self, after: int, limit: int, *, entity: str | None = None, region: Region | None = None
    ) -> Sequence[Event]:
        """The first ``limit`` events with a sequence above ``after`` that match, in order."""
        ...

    def get(self, event_id: bytes) -> Event | None:
        """The event with this id; ``None`` when there is none or it was removed."""
        ...

    def head(self, entity: str) -> EntityHead:
        """The entity's head, `NO_EVENTS` for an unknown one."""
        ...

    def heads(self, prefix: str | None) -> dict[str, EntityHead]:
        """The heads of all entities in a namespace, or of all, from one snapshot."""
        ...

    def last_sequence(self) -> int:
        """Sequence of the newest event that ever became visible, 0 before the first."""
        ...

    def history(
        self, entity: str, *, after: int, kinds: Sequence[int], raw: bool
    ) -> AbstractContextManager[History]:
        """Head and events of exactly this entity with a sequence above ``after``.

        Only events of ``kinds``, where any are given; as `RawEvent` when ``raw``. A long history
        may be read page by page, so that no transaction is open while its reader works; the
        iterator raises `HistoryMovedError` when compaction took events out of it meanwhile.
        """
        ...

    def remove(self, sequences: Sequence[int]) -> int:
        """Remove these events at one moment, whole or not at all; say how many were there.

        Heads keep generation, sequence and hash, and count all that was removed; idempotency keys,
        the last sequence and the marks of the events stay. Nothing else of the events is left in
        the storage when this returns.
        """
        ...

    def removals(self, after: int) -> Removals:
        """The compactions after the first ``after``; no entities when ``after`` is all of them."""
        ...

    def mark(self, sequence: int) -> bytes | None:
        """The first `MARK_BYTES` of the hash of the event at ``sequence``, also of a removed one.

        ``None`` when there never was one, or it was removed by a version that kept no marks.
        """
        ...

    def listen(
        self, changed: Callable[[], bool], failed: Callable[[BaseException], None]
    ) -> Listener:
        """Call ``changed`` within 100 ms after another process appended, until closed.

        Also after one compacted. It may be called without need; it says whether it found
        something new. ``failed`` is
        called once, with a `WatcherError`, when nothing more will be heard: the connection is
        lost for good, or `announce_close` was called in another process.
        """
        ...

    def announce_close(self) -> None:
        """Make every other handle of this log, in any process, fail its listeners."""
        ...

    def flush(self) -> None:
        """Everything appended so far is on disk when this returns."""
        ...

    def close(self) -> None:
        """Flush and release everything; called once, when no append is under way."""
        ...
