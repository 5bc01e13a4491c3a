"""The change log: which documents were written, in one order, for those who follow them.

Rule 1: a change is recorded in the same step as the document, so there is no write without a
change and no change without a write. Rule 2: a reader that has seen a position has seen every
change before it that will ever be. Rule 3: a position carries the identity of its log; where
changes would be missed, reading raises `PositionLostError` and never skips in silence.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import overload

from typing_extensions import override

from starfish_protocol.events import (
    AsyncEventSubscription,
    AsyncPositionedSource,
    PositionLost,
    SourceEvent,
    SubscriptionClosed,
)
from starfish_server.storage._positions import LogState
from starfish_server.storage.errors import InvalidPositionError, PositionLostError
from starfish_server.storage.values import Position

__all__ = (
    "Change",
    "ChangeLog",
    "ChangePage",
    "ChangeRecord",
    "ChangeSource",
    "DocumentVersion",
)


@dataclass(frozen=True, slots=True)
class DocumentVersion:
    """What a write makes of a document, for stores of the first contract."""

    hash: str
    """Of the document as it is now."""
    timestamp: int
    """Its time, in milliseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class ChangeRecord:
    """What a writer says about a change, for the log."""

    collection: str
    """The collection that is written, by its name within the namespace."""
    params: Mapping[str, str]
    """The path parameters of the document."""
    hash: str
    """Of the document after the write; empty after a delete."""
    timestamp: int
    """The document's time, in milliseconds since the epoch."""
    namespace: str | None = None
    """The namespace, if the collection is in one."""
    identity: str | None = None
    """The writer, if known."""


@dataclass(frozen=True, slots=True)
class Change:
    """One write or delete of one document."""

    sequence: int
    """Number in the log, counted from 1, with gaps after compaction. It tells how much is written
    to the whole store, so it is not for clients: those get positions, made opaque."""
    collection: str
    """The collection that was written, by its name within the namespace."""
    params: Mapping[str, str]
    """The path parameters of the document."""
    key: str
    """Where the document is stored."""
    generation: int
    """Writes of this key so far, this one included."""
    hash: str
    """Of the document after it; empty for a tombstone."""
    timestamp: int
    """The document's time, in milliseconds since the epoch."""
    namespace: str | None
    """The namespace, if the collection is in one."""
    identity: str | None
    """The writer, if known."""
    position: Position = ""
    """Where a reader that has seen this change goes on."""
    is_deleted: bool = False
    """Whether this is a tombstone: the document was deleted, or has expired."""


@dataclass(frozen=True, slots=True)
class ChangePage:
    """Some changes in order."""

    changes: Sequence[Change]
    """Oldest first."""
    next: Position
    """Where to go on; behind the last of the changes, or the position that was given."""
    epoch: str
    """Identity of the log; changes when a store is restored or imported."""
    is_end: bool
    """Whether the log had no change behind ``next`` at that moment."""


class ChangeLog(ABC):
    """The changes that a store has recorded.

    A subclass implements `_page`, `_state`, `_wait`, `generation` and `compact`.
    """

    @abstractmethod
    async def _page(
        self, after: Position | int | None, limit: int, key: str | None
    ) -> tuple[LogState, int, Sequence[Change]]:
        """State, sequence that ``after`` stands for, and changes, all of one moment."""

    @abstractmethod
    async def _state(self) -> LogState:
        """The state now."""

    @abstractmethod
    async def _wait(self, after: int, timeout: float) -> None:
        """Return when there is a change above a sequence, or the time is up."""

    @overload
    async def read(self, after: int, limit: int, *, key: str | None = None) -> Sequence[Change]: ...
    @overload
    async def read(
        self, after: Position | None, limit: int, *, key: str | None = None
    ) -> ChangePage: ...

    async def read(
        self, after: Position | int | None, limit: int, *, key: str | None = None
    ) -> ChangePage | Sequence[Change]:
        """Read the first ``limit`` changes behind a position, in order.

        Args:
            after: a position of this log; ``None`` for the beginning. A sequence is taken for
                readers within this process, which get the bare changes.
            limit: at most so many.
            key: only changes of this key.

        Raises:
            PositionLostError: the log cannot be followed from there without a gap.
            InvalidPositionError: the text is not a position.
            StoreUnavailableError: the store does not answer.
        """
        state, start, changes = await self._page(after, limit, key)
        if isinstance(after, int):
            return changes
        if len(changes) < limit:  # nothing of interest up to the end of the log
            return ChangePage(changes, state.at(state.last), state.epoch, is_end=True)
        last = changes[-1].sequence if changes else start
        return ChangePage(changes, state.at(last), state.epoch, is_end=last >= state.last)

    async def end(self) -> Position:
        """Tell the position behind the newest change.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        state = await self._state()
        return state.at(state.last)

    async def wait(self, after: Position, timeout: float) -> bool:
        """Wait for a change behind a position.

        Writes through this store wake the caller at once, those of other processes within a
        fraction of a second.

        Args:
            after: a position of this log.
            timeout: seconds to wait at most.

        Returns:
            Whether there is one.

        Raises:
            PositionLostError: the log cannot be followed from there; also when it was replaced
                while the caller waited.
            StoreUnavailableError: the store does not answer.
        """
        state = await self._state()
        sequence = state.after(after)
        if state.last > sequence:
            return True
        if timeout > 0:
            await self._wait(sequence, timeout)
        state = await self._state()
        return state.last > state.after(after)

    async def last_sequence(self, *, wait_after: int | None = None, timeout: float = 0) -> int:
        """Tell the sequence of the newest change, 0 before the first; for readers in this process.

        Args:
            wait_after: return only when there is a change above this one, or the time is up.
            timeout: seconds.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        if wait_after is not None and timeout > 0:
            await self._wait(wait_after, timeout)
        return (await self._state()).last

    @abstractmethod
    async def generation(self, key: str) -> int:
        """Tell how many changes of a key were recorded.

        Raises:
            StoreUnavailableError: the store does not answer.
        """

    @abstractmethod
    async def compact(self, *, tombstones_before: int, limit: int = 1000) -> int:
        """Remove changes that a newer change of the same key stands for, and old tombstones.

        The newest change of each key stays, so a reader misses no document. A reader that stands
        before a removed tombstone is told `PositionLostError`.

        Args:
            tombstones_before: tombstones with a timestamp below this one are removed as well;
                milliseconds since the epoch.
            limit: bound of one step, so that writes wait for one step at most.

        Returns:
            How many were removed; less than ``limit`` when none is left.
        """


class ChangeSource(AsyncPositionedSource):
    """A change log as a source of events: the watchers and runners of `starfish_watcher` follow it.

    The entity of an event is the document's storage key, its kind the name of the collection, its
    payload the `Change`. A subscription reads the log itself: however slow its reader is, it
    misses nothing and holds nothing, so ``capacity`` bounds nothing and no subscription is pruned.

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
    async def position_at(self, sequence: int) -> str:
        state = await self._log._state()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        position = state.at(sequence)
        if not 0 <= sequence <= state.last:
            raise PositionLost(position, f"the log ends at {state.last}")
        return position

    @override
    async def sequence_of(self, position: str) -> int:
        state = await self._log._state()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        try:
            return state.after(position)
        except (InvalidPositionError, PositionLostError) as error:
            raise PositionLost(position, str(error)) from error

    @override
    async def subscribe(
        self, *, entity: str | None = None, capacity: int = 8192
    ) -> AsyncEventSubscription:
        return _Subscription(self._log, await self._log.end(), entity)


class _Subscription(AsyncEventSubscription):
    """How far one reader has come."""

    def __init__(self, log: ChangeLog, position: Position, entity: str | None) -> None:
        self._log = log
        self._position = position
        self._entity = entity
        self._closed = asyncio.Event()

    @override
    async def pull_batch(self, max_events: int, timeout: float | None) -> Sequence[SourceEvent]:
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while not self._closed.is_set():
            page = await self._log.read(self._position, max_events, key=self._entity)
            self._position = page.next
            if page.changes:
                return [
                    SourceEvent(each.sequence, each.key, each.collection, each)
                    for each in page.changes
                ]
            left = _LONGEST_WAIT_S if deadline is None else deadline - loop.time()
            if left <= 0:
                return []
            await self._wait(min(left, _LONGEST_WAIT_S))
        raise SubscriptionClosed

    async def _wait(self, timeout: float) -> None:
        """Return when there may be a change, when this is closed, or when the time is up."""
        changed = asyncio.ensure_future(self._log.wait(self._position, timeout))
        closed = asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait((changed, closed), return_when=asyncio.FIRST_COMPLETED)
            if changed.done():
                changed.result()
        finally:
            changed.cancel()
            closed.cancel()

    @override
    def close(self) -> None:
        self._closed.set()


_LONGEST_WAIT_S = 1.0
"""How long a reader may take to notice that it was closed in another thread."""
