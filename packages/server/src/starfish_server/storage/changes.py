"""The change log: which documents were written, in one order, for whoever follows them.

Rule 1: a change is recorded in the same step as the document, so there is no write without a
change and no change without a write. Rule 2: a reader that has seen a sequence has seen every
smaller one that will ever be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from typing_extensions import override

from starfish_protocol.events import AsyncEventSource, AsyncEventSubscription, SourceEvent

__all__ = ("Change", "ChangeLog", "ChangeSource", "DocumentVersion")


@dataclass(frozen=True, slots=True)
class DocumentVersion:
    """What a write makes of a document, for the change log."""

    hash: str
    """Of the document as it is now."""
    timestamp: int
    """Its time, in milliseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Change:
    """One write of one document."""

    sequence: int
    """Position in the log, counted from 1."""
    collection: str
    """The collection that was written, by its name within the namespace."""
    params: Mapping[str, str]
    """The path parameters of the document."""
    key: str
    """Where the document is stored."""
    generation: int
    """How many writes of this key the log holds, this one included."""
    hash: str
    """Of the document after it."""
    timestamp: int
    """The document's time, in milliseconds since the epoch."""
    namespace: str | None
    """The namespace, if the collection is in one."""
    identity: str | None
    """Who wrote, if that was known."""


class ChangeLog(Protocol):
    """The changes that a store has recorded; nothing is ever taken out of it."""

    async def read(self, after: int, limit: int, *, key: str | None = None) -> Sequence[Change]:
        """The first ``limit`` changes with a sequence above ``after``, in order.

        Args:
            after: 0 for the beginning.
            limit: at most so many.
            key: only changes of this key.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        ...

    async def last_sequence(self, *, wait_after: int | None = None, timeout: float = 0) -> int:
        """Sequence of the newest change, 0 before the first.

        Args:
            wait_after: return only when there is a change above this one, or the time is up.
                Writes through this store wake the caller at once, those of other processes
                within a fraction of a second.
            timeout: seconds.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        ...

    async def generation(self, key: str) -> int:
        """How many changes of a key there are.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        ...


class ChangeSource(AsyncEventSource):
    """A change log as a source of events: what `starfish_watcher.watch_async` can follow.

    The entity of an event is the document's storage key, its kind the name of the collection, its
    payload the `Change`. A subscription reads the log itself: however slow its reader is, it
    misses nothing and holds nothing.

    Args:
        log: ``store.changes`` of a store that has one.
    """

    def __init__(self, log: ChangeLog) -> None:
        self._log = log

    @override
    async def read(
        self, after: int, limit: int, *, entity: str | None = None
    ) -> Sequence[SourceEvent]:
        changes = await self._log.read(after, limit, key=entity)
        return [SourceEvent(each.sequence, each.key, each.collection, each) for each in changes]

    @override
    async def generation(self, entity: str) -> int:
        return await self._log.generation(entity)

    @override
    async def last_sequence(self) -> int:
        return await self._log.last_sequence()

    @override
    async def subscribe(
        self, *, entity: str | None = None, capacity: int = 8192
    ) -> AsyncEventSubscription:
        return _Position(self, self._log, await self._log.last_sequence(), entity)


class _Position(AsyncEventSubscription):
    """How far one reader has come."""

    def __init__(
        self, source: ChangeSource, log: ChangeLog, sequence: int, entity: str | None
    ) -> None:
        self._source = source
        self._log = log
        self._sequence = sequence
        self._entity = entity
        self._closed = False

    @override
    async def pull_batch(self, max_events: int, timeout: float | None) -> Sequence[SourceEvent]:
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while not self._closed:
            last = await self._log.last_sequence()
            events = await self._source.read(self._sequence, max_events, entity=self._entity)
            if events:
                self._sequence = events[-1].sequence
                return events
            # Nothing of this entity up to there; what came since is read in the next round.
            self._sequence = max(self._sequence, last)
            left = _LONGEST_WAIT_S if deadline is None else deadline - loop.time()
            if left <= 0:
                break
            await self._log.last_sequence(
                wait_after=self._sequence, timeout=min(left, _LONGEST_WAIT_S)
            )
        return []

    @override
    def close(self) -> None:
        self._closed = True


_LONGEST_WAIT_S = 1.0
"""How long a reader may take to notice that it was closed."""
