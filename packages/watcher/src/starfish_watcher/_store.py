"""The event store that an application holds."""

from __future__ import annotations

from functools import cached_property

from starfish_watcher._store_core import StoreCore
from starfish_watcher.aio import AsyncEventStore

__all__ = ("EventStore",)


class EventStore(StoreCore):
    """Appends events, projects them, and wakes those who wait; safe to use from many threads.

    Also a `starfish_protocol.events.EventSource`.

    Examples:
        >>> from starfish_watcher import Coordinate, EventKind
        >>> with EventStore.memory() as store:
        ...     receipt = store.append(
        ...         Coordinate("account:1", "eu"), EventKind.custom(0xF, 1), {"amount": 5}
        ...     )
        ...     receipt.generation, store.get(receipt.event_id).payload
        (1, {'amount': 5})
    """

    @cached_property
    def aio(self) -> AsyncEventStore:
        """The same store for asyncio."""
        return AsyncEventStore(self)
