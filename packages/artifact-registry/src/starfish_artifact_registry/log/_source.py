"""The log as an event source, so that watchers of any kind can follow it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select

from starfish_artifact_registry.db._database import Database
from starfish_artifact_registry.db.schema import events
from starfish_artifact_registry.log._head import LogHead
from starfish_artifact_registry.log._log import head_of_log, read_events
from starfish_artifact_registry.log._tail import POLL_INTERVAL_S
from starfish_artifact_registry.model._event_codec import Event
from starfish_protocol.events import SubscriptionClosed, SubscriptionPruned

__all__ = ("LogSource", "LogSubscription")

_ENTITY = "package:"


class LogSource:
    """`starfish_protocol.events.AsyncEventSource` over the log; an entity is ``package:<id>``."""

    def __init__(self, database: Database, head: LogHead) -> None:
        self._database = database
        self._head = head

    async def read(self, after: int, limit: int, *, entity: str | None = None) -> Sequence[Event]:
        """The first ``limit`` events with a sequence above ``after``, in order."""
        package_id = None if entity is None else _package_id(entity)
        if entity is not None and package_id is None:
            return []
        async with self._database.read() as connection:
            return await read_events(connection, after, limit, package_id=package_id)

    async def generation(self, entity: str) -> int:
        """How many events of a package there are."""
        package_id = _package_id(entity)
        if package_id is None:
            return 0
        count = select(func.count()).where(events.c.package_id == package_id)
        async with self._database.read() as connection:
            return (await connection.execute(count)).scalar_one()

    async def last_sequence(self) -> int:
        """Sequence of the newest event, 0 before the first."""
        async with self._database.read() as connection:
            return (await head_of_log(connection)).sequence

    async def subscribe(
        self, *, entity: str | None = None, capacity: int = 8192
    ) -> LogSubscription:
        """Receive each event from now on; on return the subscription is in place.

        Raises:
            ValueError: ``capacity`` is below 1.
        """
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}; it must be 1 or more")
        await self._head.follow(POLL_INTERVAL_S)
        try:
            after = await self.last_sequence()
        except BaseException:
            self._head.unfollow(POLL_INTERVAL_S)
            raise
        return LogSubscription(self, self._head, after, entity, capacity)


class LogSubscription:
    """`starfish_protocol.events.AsyncEventSubscription`: a place in the log, not a queue."""

    def __init__(
        self, source: LogSource, head: LogHead, after: int, entity: str | None, capacity: int
    ) -> None:
        self._source = source
        self._head = head
        self._after = after
        self._entity = entity
        self._capacity = capacity
        self._pruned_after: int | None = None
        self._closed = asyncio.Event()

    async def pull_batch(self, max_events: int, timeout: float | None) -> Sequence[Event]:
        """Take the events that are there, oldest first, waiting for the first one at most ``timeout`` seconds.

        A cancelled call has taken nothing.

        Raises:
            DatabaseUnavailableError: the database does not answer.
            SubscriptionClosed: it was closed.
            SubscriptionPruned: more than its capacity were waiting; those it held were taken.
        """
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while not self._closed.is_set():
            batch = await self._next(max_events)
            if batch:
                self._after = batch[-1].sequence
                return batch
            left = None if deadline is None else deadline - loop.time()
            # Closed while the database was asked: nobody would wake this call any more.
            if self._closed.is_set():
                break
            if left is not None and left <= 0:
                return []
            await self._head.beyond(self._after, left)
        raise SubscriptionClosed

    def close(self) -> None:
        """Stop receiving and wake the waiting reader; may be called twice."""
        if not self._closed.is_set():
            self._closed.set()
            self._head.unfollow(POLL_INTERVAL_S)
            self._head.wake()

    async def _next(self, max_events: int) -> Sequence[Event]:
        if self._pruned_after is not None:
            held = await self._source.read(self._after, max_events, entity=self._entity)
            held = [event for event in held if event.sequence <= self._pruned_after]
            if held:
                return held
            raise SubscriptionPruned(self._capacity)
        newest = await self._source.last_sequence()
        waiting = await self._source.read(self._after, self._capacity + 1, entity=self._entity)
        if len(waiting) > self._capacity:
            self._pruned_after = waiting[self._capacity - 1].sequence
        elif not waiting:
            self._after = newest  # the events up to there are of other packages
        return waiting[: min(max_events, self._capacity)]


def _package_id(entity: str) -> UUID | None:
    try:
        package_id = UUID(entity.removeprefix(_ENTITY))
    except ValueError:
        return None
    return package_id if entity == f"{_ENTITY}{package_id}" else None
