"""The log as a stream that does not end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

from starfish_artifact_registry.db._database import Database
from starfish_artifact_registry.errors import InvalidValueError
from starfish_artifact_registry.log._head import LogHead
from starfish_artifact_registry.log._log import read_events
from starfish_artifact_registry.model._event_codec import Event

__all__ = ("POLL_INTERVAL_S", "tail")

POLL_INTERVAL_S: Final = 0.02
"""How often SQLite is asked whether another process has appended."""
_PAGE: Final = 256
"""Events that one reader holds at once."""


async def tail(
    database: Database, head: LogHead, since_sequence: int, poll_interval_seconds: float
) -> AsyncGenerator[Event]:
    """Every event above ``since_sequence``, in order, as it is committed.

    Nothing is kept for a reader: between two pages it holds no connection, however slow it is.
    """
    if type(since_sequence) is not int or since_sequence < 0:
        raise InvalidValueError("since_sequence", since_sequence, "a sequence, or 0 for all")
    if not poll_interval_seconds > 0:
        legal = "a number of seconds above 0"
        raise InvalidValueError("poll_interval_seconds", poll_interval_seconds, legal)
    after = since_sequence
    async with head.followed(poll_interval_seconds):
        while True:
            async with database.read() as connection:
                page = await read_events(connection, after, _PAGE)
            for event in page:
                after = event.sequence
                yield event
            if len(page) < _PAGE:
                await head.beyond(after)
