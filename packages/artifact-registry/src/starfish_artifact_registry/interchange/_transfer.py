"""Packages out of a registry and into one, in either form.

An imported package keeps its id, its manifest byte for byte, and the ids, times and actors of its
files. The log gets the events that the package had where it came from, with the times and actors
that its manifest names, and then ``v1.package.imported``, which says who brought it and when: all
of them at once, or none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from starfish_artifact_registry.commands._garbage import check_content
from starfish_artifact_registry.commands._packages import read_manifest_bytes
from starfish_artifact_registry.commands._state import CommandState, Decide, Decision
from starfish_artifact_registry.db._database import Database
from starfish_artifact_registry.db.schema import artifact_files
from starfish_artifact_registry.errors import (
    IllegalPackageStateError,
    ImportRefusedError,
    InvalidValueError,
    PackageExistsError,
)
from starfish_artifact_registry.interchange._bagit import read_bag, write_bag
from starfish_artifact_registry.interchange._oci import read_layout, write_layout
from starfish_artifact_registry.interchange._package_source import PackageSource
from starfish_artifact_registry.interchange._source_folder import SourceFolder, source_folder
from starfish_artifact_registry.limits import Limits
from starfish_artifact_registry.model import _manifest as manifests
from starfish_artifact_registry.model._catalogue import (
    FileIngested,
    PackageCreated,
    PackageFinalized,
    PackageImported,
    storage_location_id,
)
from starfish_artifact_registry.model._event_codec import NewEvent
from starfish_artifact_registry.model._manifest import Manifest, ManifestFile
from starfish_artifact_registry.model._package_metadata import check_metadata
from starfish_artifact_registry.storage._base import StoredContent
from starfish_artifact_registry.storage._dataplane import InProcessDataPlane
from starfish_artifact_registry.views._query import find_package
from starfish_protocol import cbor

__all__ = ("ExportFormat", "TransferProgress", "export_package", "import_package")

ExportFormat = Literal["bagit", "oci"]
"""``bagit`` for a BagIt bag, ``oci`` for an OCI image layout."""
_WRITERS: Final = {"bagit": write_bag, "oci": write_layout}
_CHUNK: Final = 500  # ids of one statement; SQLite takes some thousands


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """How far an export or import has come."""

    files: int
    """Files that are begun."""
    bytes: int
    """Bytes that were read."""


OnProgress = Callable[[TransferProgress], None]


class Execute(Protocol):
    """Runs a command in the next group commit."""

    def __call__(
        self, decide: Decide[None], *, packages: Collection[UUID], locations: Collection[UUID]
    ) -> Awaitable[None]:
        """Run it."""
        ...


async def export_package(
    database: Database,
    dataplane: InProcessDataPlane,
    package_id: UUID,
    target: Path,
    *,
    form: ExportFormat,
    on_progress: OnProgress | None = None,
) -> None:
    """Write a package to a folder; see `Registry.export_package`."""
    if form not in _WRITERS:
        raise InvalidValueError("format", form, " or ".join(map(repr, _WRITERS)))
    async with database.read() as connection:
        package = await find_package(connection, package_id)
        if package.status == "deleted":
            raise IllegalPackageStateError(package_id, "deleted", "it cannot be exported")
        manifest_bytes = await read_manifest_bytes(connection, package_id)
    meter = _Meter(on_progress)
    await _WRITERS[form](
        target,
        manifests.decode(manifest_bytes),
        manifest_bytes,
        lambda file: meter.of(dataplane.read(file.content_address)),
    )


async def import_package(
    database: Database,
    dataplane: InProcessDataPlane,
    execute: Execute,
    early_state: Callable[[AsyncConnection], CommandState],
    source_path: Path,
    *,
    actor: str,
    limits: Limits,
    on_progress: OnProgress | None = None,
) -> UUID:
    """Take a package from a folder; see `Registry.import_package`."""
    async with source_folder(source_path) as folder:
        form, source = await _open(folder, limits.max_files)
        manifest = source.manifest
        package_id = manifest.package.id
        async with database.read() as connection:
            # What will be refused is refused before gigabytes are read.
            await _new_events(early_state(connection), manifest, form, dataplane.backend_id, actor)
        meter = _Meter(on_progress)
        stored = {file.id: await _store(dataplane, source, file, meter) for file in manifest.files}
        # The first may have been waiting for the last beyond any time of grace.
        for file in manifest.files:
            if not await dataplane.backend.touch(file.content_address):
                stored[file.id] = await _store(dataplane, source, file, meter)
    contents = {content.address: content for content in stored.values()}

    async def decide(state: CommandState) -> Decision[None]:
        new = await _new_events(state, manifest, form, dataplane.backend_id, actor)
        for content in contents.values():
            await check_content(state, dataplane, content)
        return Decision(None, new)

    await execute(
        decide,
        packages=[package_id],
        locations=[storage_location_id(dataplane.backend_id, address) for address in contents],
    )
    return package_id


async def _open(folder: SourceFolder, max_files: int) -> tuple[ExportFormat, PackageSource]:
    names = await folder.names()
    if "bagit.txt" in names:
        return "bagit", await read_bag(folder, max_files=max_files)
    if "oci-layout" in names:
        return "oci", await read_layout(folder, max_files=max_files)
    raise ImportRefusedError(".", "it has neither bagit.txt nor oci-layout")


async def _store(
    dataplane: InProcessDataPlane, source: PackageSource, file: ManifestFile, meter: _Meter
) -> StoredContent:
    stored = await dataplane.put(meter.of(source.read(file)))
    wanted = (file.content_address, file.sha256, file.size)
    if (stored.address, stored.sha256, stored.size) != wanted:
        raise ImportRefusedError(
            file.relative_path, f"its content is {stored.address}, not {file.content_address}"
        )
    return stored


async def _new_events(
    state: CommandState, manifest: Manifest, form: ExportFormat, backend_id: str, actor: str
) -> list[NewEvent]:
    """The events of an import.

    Raises:
        ImportRefusedError: the manifest has values or ids that this registry cannot take.
        PackageExistsError: the registry has a package of this id.
        UnknownRetentionClassError: it does not know the retention class.
    """
    package = manifest.package
    if await state.find_package(package.id) is not None:
        raise PackageExistsError(package.id)
    await _check_file_ids(await state.connection(), [file.id for file in manifest.files])
    if cbor.encode(check_metadata(package.metadata)) != cbor.encode(package.metadata):
        raise ImportRefusedError("metadata", "its numbers are not in their canonical form")
    retention_days = await state.retention_days(package.retention_class)
    try:
        created = PackageCreated(
            name=package.name,
            producer=package.producer,
            subject=package.subject,
            retention_class=package.retention_class,
            retention_days=retention_days,
            metadata=package.metadata,
        )
        return [
            NewEvent(package.id, created, package.created_by, package.created_at),
            *(_ingested(package.id, file, backend_id) for file in manifest.files),
            NewEvent(
                package.id,
                PackageFinalized(manifest=manifest),
                package.finalized_by,
                package.finalized_at,
            ),
            NewEvent(
                package.id,
                PackageImported(source_format=form),
                actor,
            ),
        ]
    except InvalidValueError as error:
        raise ImportRefusedError("manifest", str(error)) from error


def _ingested(package_id: UUID, file: ManifestFile, backend_id: str) -> NewEvent:
    ingested = FileIngested(
        file_id=file.id,
        relative_path=file.relative_path,
        media_type=file.media_type,
        size=file.size,
        content_address=file.content_address,
        sha256=file.sha256,
        backend_id=backend_id,
        storage_location_id=storage_location_id(backend_id, file.content_address),
    )
    return NewEvent(package_id, ingested, file.ingested_by, file.ingested_at)


async def _check_file_ids(connection: AsyncConnection, file_ids: Sequence[UUID]) -> None:
    if len(set(file_ids)) != len(file_ids):
        raise ImportRefusedError("manifest", "two of its files have the same id")
    column = artifact_files.c.file_id
    for start in range(0, len(file_ids), _CHUNK):
        wanted = select(column).where(column.in_(file_ids[start : start + _CHUNK])).limit(1)
        taken = (await connection.execute(wanted)).scalar()
        if taken is not None:
            raise ImportRefusedError("manifest", f"this registry has another file {taken}")


class _Meter:
    """Counts what passes by."""

    def __init__(self, on_progress: OnProgress | None) -> None:
        self._on_progress = on_progress
        self._files = self._bytes = 0

    async def of(self, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self._files += 1
        async for chunk in stream:
            self._bytes += len(chunk)
            if self._on_progress is not None:
                self._on_progress(TransferProgress(self._files, self._bytes))
            yield chunk
