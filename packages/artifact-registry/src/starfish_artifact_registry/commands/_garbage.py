"""Garbage collection: content that no live package refers to goes, after a time of grace.

Content is stored before the event that refers to it, so a crash between the two leaves an orphan,
and a deleted package leaves what only it referred to. What makes the removal safe:

* Marks come first. A transaction that holds the log's lock notes the content that is about to go, and commits;
  a second one looks again whether anybody refers to it and removes the bytes while it holds the
  lock. So a crash between the two leaves a mark too many, never one too few.
* A command that is about to refer to marked content looks, under the same lock, whether the bytes are
  there (`check_content`). Either it is first, and the collector sees the reference, or the bytes
  are seen to be gone, and no event is written.
* Content put or touched within the time of grace stays, so nobody loses content that is only on
  its way from the storage to the log.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from starfish_artifact_registry.commands._packed_content import packed_page, remove_packed
from starfish_artifact_registry.commands._state import CommandState
from starfish_artifact_registry.db._database import Database
from starfish_artifact_registry.db._sqlite_thread import on_loop
from starfish_artifact_registry.db.schema import (
    artifact_files,
    artifact_packages,
    collected_content,
    storage_locations,
)
from starfish_artifact_registry.errors import StorageUnavailableError, ViewsDifferError
from starfish_artifact_registry.model._catalogue import storage_location_id
from starfish_artifact_registry.storage._base import ContentInfo, StoredContent
from starfish_artifact_registry.storage._dataplane import InProcessDataPlane
from starfish_artifact_registry.views._audit import audit
from starfish_protocol.address import ContentAddress
from starfish_protocol.clock import Clock

__all__ = ("DEFAULT_GRACE", "GarbageReport", "check_content", "collect_garbage")

logger = logging.getLogger(__name__)

DEFAULT_GRACE: Final = timedelta(days=1)
"""Longer than the longest import takes from its first byte to its commit."""
_BATCH: Final = 32  # removals while the log is locked: short enough for those who wait


@dataclass(frozen=True, slots=True)
class GarbageReport:
    """What one collection did."""

    contents_seen: int
    """Contents in the backend."""
    contents_removed: int
    """Those that went, or would go."""
    bytes_removed: int
    """Sum of their sizes."""
    drafts_removed: int
    """What writes that never ended had left behind."""


async def collect_garbage(
    database: Database,
    dataplane: InProcessDataPlane,
    clock: Clock,
    *,
    grace: timedelta = DEFAULT_GRACE,
    dry_run: bool = False,
    on_progress: Callable[[GarbageReport], None] | None = None,
) -> GarbageReport:
    """Remove what no live package refers to; see `Registry.collect_garbage`."""
    if grace < timedelta(0):
        raise ValueError(f"grace is {grace}; it must not be negative")
    before = clock.now() - grace
    await _check_views(database)
    await _check_backend_id(database, dataplane)
    report = GarbageReport(0, 0, 0, 0)
    batch: list[ContentInfo] = []

    async def collect() -> None:
        nonlocal report
        removed = await _collect(database, dataplane, batch, before, clock.now(), dry_run=dry_run)
        report = GarbageReport(
            report.contents_seen + len(batch),
            report.contents_removed + len(removed),
            report.bytes_removed + sum(info.size for info in removed),
            0,
        )
        batch.clear()
        if on_progress is not None:
            on_progress(report)

    async for batch_of_packed, orphans in _packed_orphans(database, dataplane, dry_run=dry_run):
        report = GarbageReport(
            report.contents_seen + batch_of_packed,
            report.contents_removed + len(orphans),
            report.bytes_removed + sum(orphans.values()),
            0,
        )
        if on_progress is not None:
            on_progress(report)
    async for info in dataplane.backend.list():
        batch.append(info)
        if len(batch) == _BATCH:
            await collect()
    await collect()
    drafts = 0 if dry_run else await dataplane.backend.sweep()
    report = GarbageReport(
        report.contents_seen, report.contents_removed, report.bytes_removed, drafts
    )
    logger.info("garbage collection: %s", report)
    return report


async def check_content(
    state: CommandState, dataplane: InProcessDataPlane, stored: StoredContent
) -> None:
    """Return if an event may refer to this content; called while the log is locked.

    Raises:
        StorageUnavailableError: garbage collection took the bytes since they were stored.
    """
    location = storage_location_id(dataplane.backend_id, stored.address)
    if await state.was_collected(location) and (
        await on_loop(dataplane.size(stored.address)) != stored.size
    ):
        raise StorageUnavailableError(
            dataplane.backend_id,
            f"garbage collection took {stored.address} before it was committed; send it again, "
            "and give the collection a longer time of grace",
        )


async def _packed_orphans(
    database: Database, dataplane: InProcessDataPlane, *, dry_run: bool
) -> AsyncGenerator[tuple[int, dict[ContentAddress, int]]]:
    """Remove small content that no live package refers to; how many were seen, sizes of those gone.

    No grace: such content comes in the transaction of the event that refers to it.
    """
    after: bytes | None = None
    while True:
        async with database.read() as connection:
            page = await packed_page(connection, after)
            orphans = await _unreferred(connection, dataplane, dict(page))
        if orphans and not dry_run:
            async with database.write() as connection:
                orphans = await _unreferred(connection, dataplane, orphans)
                await remove_packed(connection, list(orphans))
        yield len(page), orphans
        if not page:
            return
        after = page[-1][0].digest


async def _unreferred(
    connection: AsyncConnection,
    dataplane: InProcessDataPlane,
    contents: Mapping[ContentAddress, int],
) -> dict[ContentAddress, int]:
    places = {storage_location_id(dataplane.backend_id, each): each for each in contents}
    orphans = await _orphans(connection, list(places))
    return {places[location]: contents[places[location]] for location in orphans}


async def _check_backend_id(database: Database, dataplane: InProcessDataPlane) -> None:
    """Refuse a backend that has another name than its content has in the log.

    References are found by location, which the backend's id is a part of: under a new id all
    content would look like orphans.
    """
    row = storage_locations.c
    foreign = select(row.backend_id).where(row.backend_id != dataplane.backend_id).limit(1)
    async with database.read() as connection:
        found = (await connection.execute(foreign)).scalar()
    if found is not None:
        raise StorageUnavailableError(
            dataplane.backend_id,
            f"the log knows content under the backend id {found!r}; whether it is still referred "
            "to cannot be told under another id: give the backend the id that it had",
        )


async def _check_views(database: Database) -> None:
    """Refuse to look for references in tables that are not those of the log."""
    found = [difference.text async for difference in audit(database)]
    if found:
        raise ViewsDifferError(tuple(found))


async def _collect(
    database: Database,
    dataplane: InProcessDataPlane,
    batch: Sequence[ContentInfo],
    before: datetime,
    now: datetime,
    *,
    dry_run: bool,
) -> list[ContentInfo]:
    old = {
        storage_location_id(dataplane.backend_id, info.address): info
        for info in batch
        if info.modified_at <= before
    }
    async with database.read() as connection:
        orphans = await _orphans(connection, old)
    if dry_run or not orphans:
        return [old[location] for location in orphans]
    async with database.write() as connection:
        orphans = await _orphans(connection, orphans)
        await _mark(connection, orphans, now)
    removed: list[ContentInfo] = []
    async with database.write() as connection:
        for location in await _orphans(connection, orphans):
            info = old[location]
            if await dataplane.backend.delete(info.address, unmodified_since=before):
                removed.append(info)
    return removed


async def _orphans(
    connection: AsyncConnection, locations: Sequence[UUID] | dict[UUID, ContentInfo]
) -> list[UUID]:
    place = storage_locations.c.storage_location_id
    wanted = (
        select(place)
        .distinct()
        .join(artifact_files, artifact_files.c.id == storage_locations.c.artifact_file_id)
        .join(artifact_packages, artifact_packages.c.id == artifact_files.c.package_id)
        .where(place.in_(list(locations)), artifact_packages.c.status != "deleted")
    )
    used = set((await connection.execute(wanted)).scalars())
    return [location for location in locations if location not in used]


async def _mark(connection: AsyncConnection, locations: Sequence[UUID], now: datetime) -> None:
    if not locations:
        return
    insert = sqlite_insert if connection.dialect.name == "sqlite" else postgres_insert
    known_are_skipped = insert(collected_content).on_conflict_do_nothing()
    rows = [{"storage_location_id": location, "collected_at": now} for location in locations]
    await connection.execute(known_are_skipped, rows)
