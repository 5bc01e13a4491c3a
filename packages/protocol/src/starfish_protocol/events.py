"""The envelope of an event and the reading side of everything that holds events.

An event store, a registry's log and a server's change log all fulfil `EventSource` or
`AsyncEventSource`, so that one watcher can follow any of them.

Rule 1: an event is visible as a whole or not at all, and stays as it was. Rule 2: `read`,
`generation` and `last_sequence` include every event that a subscription has already given.
Rule 3: a page may be shorter than its limit although more follows; only an empty page is the end.
Rule 4: a closed subscription raises `SubscriptionClosed`, at once, also in calls that wait.
Rule 5: ``capacity`` bounds the events that a source holds for one reader. A source that holds none,
because its subscriptions read the log, ignores it: such a subscription misses nothing and is never
pruned. Rule 6: a source that can tell its history from another one names its positions
(`PositionedSource`); one whose events can vanish must. The kits of `starfish_protocol.testing` ask for all of this.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from starfish_protocol._errors import StarfishError

__all__ = (
    "AsyncEventSource",
    "AsyncEventSubscription",
    "AsyncPositionedSource",
    "Event",
    "EventSource",
    "EventSubscription",
    "PositionLost",
    "PositionedSource",
    "SourceEvent",
    "SubscriptionClosed",
    "SubscriptionPruned",
)


class SubscriptionClosed(StarfishError):  # noqa: N818 - as `SubscriptionPruned`
    """The subscription was closed, by its reader or with its source: nothing more comes."""

    def __init__(self, reason: str = "the subscription was closed") -> None:
        super().__init__(reason)


class SubscriptionPruned(StarfishError):  # noqa: N818 - the name that readers of a feed know
    """A subscriber was full when an event came, so it was dropped and misses that event.

    Appends never wait for a reader. Its reader reads the source again and subscribes anew.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__(
            f"the subscription fell behind by more than its {capacity} events and was dropped; "
            "read the source again and subscribe anew, with a larger capacity if this repeats"
        )
        self.capacity = capacity
        """Events that it could hold."""


class PositionLost(StarfishError):  # noqa: N818 - as `SubscriptionPruned`
    """A source cannot be followed from a position: it is of another history, or is cut off."""

    def __init__(self, position: str, reason: str) -> None:
        super().__init__(f"position {position!r:.200} cannot be followed: {reason}")
        self.position = position
        """The position."""
        self.reason = reason
        """Why."""


@runtime_checkable
class Event(Protocol):
    """One fact about one entity, at one place of one source."""

    @property
    def sequence(self) -> int:
        """Position in its source, counted from 1; never used twice."""
        ...

    @property
    def entity(self) -> str:
        """What it is about; ``:`` separates namespaces."""
        ...

    @property
    def kind(self) -> Hashable:
        """What happened; compared for equality only."""
        ...

    @property
    def payload(self) -> Any:
        """The details, as the source's own kind of value."""
        ...


@dataclass(frozen=True, slots=True)
class SourceEvent:
    """An event of a source that has no event type of its own.

    Examples:
        >>> isinstance(SourceEvent(1, "note:7", "written", {"hash": "ab"}), Event)
        True
    """

    sequence: int
    """Position in the source, counted from 1."""
    entity: str
    """What it is about."""
    kind: Hashable
    """What happened."""
    payload: Any
    """The details."""


class EventSubscription(Protocol):
    """A bounded queue of events that the source fills and one reader empties."""

    def pull_batch(self, max_events: int, timeout: float | None) -> Sequence[Event]:
        """Take the waiting events, oldest first, waiting for the first one at most ``timeout`` seconds.

        ``None`` waits for ever; when the time is up the result is empty.

        Raises:
            SubscriptionPruned: everything it held was taken and it missed the event after that;
                raised again by every further call.
            SubscriptionClosed: it is closed; raised at once, also while this waits, and again by
                every further call. What it held may be given before, or be dropped.
        """
        ...

    def close(self) -> None:
        """Stop receiving and wake all calls that wait; may be called twice and from any thread."""
        ...


class EventSource(Protocol):
    """Holds events in one order and can be read again from any place."""

    def read(self, after: int, limit: int, *, entity: str | None = None) -> Sequence[Event]:
        """The first events with a sequence above ``after``, in order, at most ``limit``.

        With ``entity`` only its own events, not those of its child namespaces. Fewer than
        ``limit`` may come although more follow; when none come, there are none.
        """
        ...

    def generation(self, entity: str) -> int:
        """How many events of the entity ever became visible; never goes down, 0 for an unknown one."""
        ...

    def last_sequence(self) -> int:
        """Sequence of the newest event that ever became visible, 0 before the first."""
        ...

    def subscribe(self, *, entity: str | None = None, capacity: int = 8192) -> EventSubscription:
        """Receive each event that becomes visible from now on.

        Args:
            entity: At least the events of that entity come; others may.
            capacity: Events that may wait for the reader, at least 1; ignored by a source whose
                subscriptions hold none.
        """
        ...


class PositionedSource(EventSource, Protocol):
    """A source whose positions know which history they are of."""

    def position_at(self, sequence: int) -> str:
        """The place right after the event ``sequence``, as a text of ASCII characters.

        Raises:
            PositionLost: the source never had that event.
        """
        ...

    def sequence_of(self, position: str) -> int:
        """The sequence that a reader at ``position`` has seen.

        Raises:
            PositionLost: it is of another source, or of a history that this one does not have.
        """
        ...


class AsyncEventSubscription(Protocol):
    """`EventSubscription` for asyncio."""

    async def pull_batch(self, max_events: int, timeout: float | None) -> Sequence[Event]:
        """As `EventSubscription.pull_batch`; a cancelled call has taken nothing."""
        ...

    def close(self) -> None:
        """Stop receiving and wake all calls that wait; may be called twice, on the event loop."""
        ...


class AsyncEventSource(Protocol):
    """`EventSource` for asyncio."""

    async def read(self, after: int, limit: int, *, entity: str | None = None) -> Sequence[Event]:
        """As `EventSource.read`."""
        ...

    async def generation(self, entity: str) -> int:
        """As `EventSource.generation`."""
        ...

    async def last_sequence(self) -> int:
        """As `EventSource.last_sequence`."""
        ...

    async def subscribe(
        self, *, entity: str | None = None, capacity: int = 8192
    ) -> AsyncEventSubscription:
        """As `EventSource.subscribe`; on return the subscription is in place."""
        ...


class AsyncPositionedSource(AsyncEventSource, Protocol):
    """`PositionedSource` for asyncio."""

    async def position_at(self, sequence: int) -> str:
        """As `PositionedSource.position_at`."""
        ...

    async def sequence_of(self, position: str) -> int:
        """As `PositionedSource.sequence_of`."""
        ...
