"""What an append promises."""

from __future__ import annotations

from uuid import UUID

import msgspec

__all__ = ("Receipt",)


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """The event is in the store, visible to every reader, and as durable as was asked for.

    Its owner can show later that the event was not changed: `EventStore.get` gives the
    event, whose ``event_hash`` covers its content and all events of its entity before it.
    """

    id_bytes: bytes
    """``event_id`` as 16 bytes."""
    sequence: int
    """Position in the store, from 1."""
    clock: int
    """Position in the entity, from 0."""
    event_hash: bytes
    """The event's hash, 32 bytes."""

    @property
    def event_id(self) -> UUID:
        """UUID version 7 of the event."""
        return UUID(bytes=self.id_bytes)

    @property
    def generation(self) -> int:
        """The entity's generation from this event on: the token of `EventStore.generation`."""
        return self.clock + 1
