"""Views from nothing: the whole log once more, in one transaction."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from starfish_artifact_registry.db._database import Database
from starfish_artifact_registry.limits import Limits
from starfish_artifact_registry.log._hash_chain import read_checked_events
from starfish_artifact_registry.log._histories import read_history
from starfish_artifact_registry.log._log import Head, head_at
from starfish_artifact_registry.model._catalogue import NO_PACKAGE
from starfish_artifact_registry.views._writer import ViewWriter

__all__ = ("replay",)


async def replay(
    engine: AsyncEngine,
    view_writer: ViewWriter,
    reset: bool = True,  # noqa: FBT001, FBT002 - callers may name it or not
    *,
    limits: Limits | None = None,
) -> int:
    """Bring the views to the end of the log; the same log gives the same bytes, times included.

    One transaction: readers see the old rows until all new ones are there, and appends wait. The
    digests of the events and the histories of the packages are checked on the way.

    Args:
        engine: where the log and the views are.
        view_writer: what derives the views.
        reset: whether to begin with no rows; otherwise after the last event that they know.
        limits: how many events are in memory at once.

    Returns:
        How many events were applied.

    Raises:
        DatabaseUnavailableError: the database does not answer; the views are as before.
        LogDamagedError: an event is not as it was written, or must not follow those before it
            (`IllegalHistoryError`); the views are as before.
        UnknownEventTypeError: a newer version wrote an event; the views are as before.
    """
    page_size = (limits or Limits()).replay_page
    applied = 0
    touched: set[UUID] = set()
    async with Database(engine).write() as connection:
        if reset:
            await view_writer.reset(connection)
        after = 0 if reset else await view_writer.position(connection)
        head = await head_at(connection, after)
        while page := [e async for e in read_checked_events(connection, head, page_size)]:
            head = Head(page[-1].sequence, page[-1].event_digest)
            await view_writer.apply(connection, page)
            applied += len(page)
            touched |= {event.package_id for event in page}
        for package_id in sorted(touched - {NO_PACKAGE}):
            (await read_history(connection, package_id)).end()
    return applied
