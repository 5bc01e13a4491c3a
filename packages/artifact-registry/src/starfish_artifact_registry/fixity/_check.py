"""Fixity: whether the stored bytes are still those that were stored; every check is an event.

A package is compared with the events of the log, never with the rows of a table.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from starfish_artifact_registry.commands._state import CommandState, Decide, Decision
from starfish_artifact_registry.db._database import Database
from starfish_artifact_registry.db.schema import events
from starfish_artifact_registry.errors import IllegalPackageStateError
from starfish_artifact_registry.log._histories import read_history
from starfish_artifact_registry.model._catalogue import FileIngested, FixityChecked, PackageDeleted
from starfish_artifact_registry.model._event_codec import NewEvent
from starfish_artifact_registry.storage._dataplane import InProcessDataPlane
from starfish_artifact_registry.views._audit import packages_of_log
from starfish_protocol.address import ContentAddress

__all__ = (
    "FixityProgress",
    "FixityReport",
    "FixitySummary",
    "Meter",
    "check_package",
    "live_packages",
    "record_check",
)

CONCURRENCY: Final = 4
"""Contents that are read at once: enough to keep a disk or a network busy, bounded in memory."""
_PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class FixityReport:
    """What a check of one package found."""

    package_id: UUID
    """The package."""
    files_checked: int
    """Files whose bytes were looked for."""
    bytes_checked: int
    """Sum of the sizes of those that are there."""
    missing: tuple[str, ...]
    """Paths of the files whose bytes are gone, sorted."""
    changed: tuple[str, ...]
    """Paths of the files whose bytes are others, sorted."""

    @property
    def ok(self) -> bool:
        """Whether every file is as it was stored."""
        return not self.missing and not self.changed


@dataclass(frozen=True, slots=True)
class FixityProgress:
    """How far a check has come."""

    packages: int
    """Packages that are done."""
    files: int
    """Files that are done, those of the package in work included."""
    bytes: int
    """Sum of their sizes."""


@dataclass(frozen=True, slots=True)
class FixitySummary:
    """What a check of all packages found."""

    packages_checked: int
    """Packages that were not deleted."""
    files_checked: int
    """Their files."""
    bytes_checked: int
    """Sum of the sizes of those that are there."""
    damaged: tuple[FixityReport, ...]
    """The reports of the packages that are not as they were stored."""

    @property
    def ok(self) -> bool:
        """Whether every file of every package is as it was stored."""
        return not self.damaged


@dataclass(frozen=True, slots=True)
class _File:
    file_id: UUID
    relative_path: str
    size: int
    address: ContentAddress


class Meter:
    """Counts finished work.

    Args:
        on_progress: called after each file.
    """

    def __init__(self, on_progress: Callable[[FixityProgress], None] | None) -> None:
        self.packages = 0
        """Packages that are done."""
        self._files = self._bytes = 0
        self._on_progress = on_progress

    def file_done(self, size: int) -> None:
        """Count a file."""
        self._files += 1
        self._bytes += size
        if self._on_progress is not None:
            self._on_progress(FixityProgress(self.packages, self._files, self._bytes))

    def package_done(self) -> None:
        """Count a package."""
        self.packages += 1


async def check_package(
    database: Database,
    dataplane: InProcessDataPlane,
    package_id: UUID,
    on_file: Callable[[int], None],
) -> tuple[FixityReport, FixityChecked]:
    """Read all bytes of a package again.

    Args:
        database: where the package is.
        dataplane: where its bytes are.
        package_id: of the package.
        on_file: called with the size of each file that is done.

    Raises:
        IllegalPackageStateError: it was deleted.
        LogDamagedError: the log does not hold its manifest any more.
        PackageNotFoundError: there is no such package.
        StorageUnavailableError: the backend does not answer, which says nothing about the bytes.
    """
    async with database.read() as connection:
        files = await _files(connection, package_id)
    found = await _rehash(dataplane, files, on_file)
    missing = [file for file in files if found[file.address] is None]
    changed = [file for file in files if found[file.address] not in {None, file.address}]
    gone = {file.file_id for file in missing}
    report = FixityReport(
        package_id,
        len(files),
        sum(file.size for file in files if file.file_id not in gone),
        tuple(file.relative_path for file in missing),
        tuple(file.relative_path for file in changed),
    )
    checked = FixityChecked(
        files_checked=report.files_checked,
        bytes_checked=report.bytes_checked,
        missing=tuple(file.file_id for file in missing),
        changed=tuple(file.file_id for file in changed),
    )
    return report, checked


def record_check(package_id: UUID, checked: FixityChecked, *, actor: str) -> Decide[None]:
    """Write down what a check found."""

    async def decide(state: CommandState) -> Decision[None]:
        package = await state.package(package_id)
        if package.status == "deleted":
            raise _no_bytes(package_id)
        return Decision(None, [NewEvent(package_id, checked, actor)])

    return decide


async def live_packages(database: Database) -> AsyncIterator[UUID]:
    """The ids of all packages that are not deleted, in the order of their ids."""
    async for package_id in packages_of_log(database):
        async with database.read() as connection:
            deleted = await connection.scalar(
                select(events.c.sequence).where(
                    events.c.package_id == package_id,
                    events.c.event_type != FileIngested.event_type,
                    events.c.event_type == PackageDeleted.event_type,
                )
            )
        if deleted is None:
            yield package_id


async def _files(connection: AsyncConnection, package_id: UUID) -> list[_File]:
    history = await read_history(connection, package_id)
    if history.status == "deleted":
        raise _no_bytes(package_id)
    return [
        _File(file.ingested.file_id, path, file.ingested.size, file.ingested.content_address)
        for path, file in sorted(history.each_file(), key=lambda item: item[0].encode())
    ]


async def _rehash(
    dataplane: InProcessDataPlane, files: list[_File], on_file: Callable[[int], None]
) -> dict[ContentAddress, ContentAddress | None]:
    """The address found under each address; each is read once, a few at a time."""
    found: dict[ContentAddress, ContentAddress | None] = {}
    sizes: dict[ContentAddress, list[int]] = {}
    for file in files:
        sizes.setdefault(file.address, []).append(file.size)
    waiting = iter(list(sizes))

    async def work() -> None:
        for address in waiting:
            found[address] = await dataplane.rehash(address)
            for size in sizes[address]:
                on_file(size)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENCY):
                group.create_task(work())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    return found


def _no_bytes(package_id: UUID) -> IllegalPackageStateError:
    return IllegalPackageStateError(package_id, "deleted", "it has no bytes that could be checked")
