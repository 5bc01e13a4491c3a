"""The life of a package until it is finalized: refusals, and which events follow."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from starfish_artifact_registry.commands._garbage import check_content
from starfish_artifact_registry.commands._state import CommandState, Decide, Decision
from starfish_artifact_registry.db.schema import (
    artifact_files,
    artifact_packages,
    events,
    storage_locations,
)
from starfish_artifact_registry.errors import (
    DuplicateRelativePathError,
    IllegalPackageStateError,
    InvalidValueError,
    LogDamagedError,
    PackageNotFoundError,
)
from starfish_artifact_registry.model import _manifest as manifests
from starfish_artifact_registry.model._catalogue import (
    FileIngested,
    PackageCreated,
    PackageFinalized,
    storage_location_id,
)
from starfish_artifact_registry.model._event_codec import NewEvent
from starfish_artifact_registry.model._manifest import (
    Manifest,
    ManifestFile,
    ManifestPackage,
    StorageReceipt,
)
from starfish_artifact_registry.storage._base import StoredContent
from starfish_artifact_registry.storage._dataplane import InProcessDataPlane
from starfish_protocol.address import ContentAddress

__all__ = (
    "build_manifest",
    "check_file",
    "create_package",
    "finalize_package",
    "ingest_file",
    "read_manifest_bytes",
)


def create_package(
    *,
    name: str,
    producer: str,
    subject: str,
    retention_class: str,
    actor: str,
    metadata: dict[str, Any],
) -> Decide[UUID]:
    """Create a package."""

    async def decide(state: CommandState) -> Decision[UUID]:
        created = PackageCreated(
            name=name,
            producer=producer,
            subject=subject,
            retention_class=retention_class,
            retention_days=await state.retention_days(retention_class),
            metadata=metadata,
        )
        package_id = state.new_id()
        return Decision(package_id, [NewEvent(package_id, created, actor)])

    return decide


async def check_file(
    state: CommandState, package_id: UUID, relative_path: str, *, max_files: int
) -> None:
    """Return if a package takes a file at this path.

    Raises:
        DuplicateRelativePathError: it has one there.
        IllegalPackageStateError: it takes none any more.
        InvalidValueError: it has as many as it may have.
        PackageNotFoundError: there is no such package.
    """
    package = await state.package(package_id)
    if package.status != "created":
        action = "it takes no files; only a created package does"
        raise IllegalPackageStateError(package_id, package.status, action)
    if await state.has_path(package_id, relative_path):
        raise DuplicateRelativePathError(package_id, relative_path)
    if package.file_count >= max_files:
        raise InvalidValueError("file_count", package.file_count + 1, f"at most {max_files}")


def ingest_file(
    package_id: UUID,
    *,
    relative_path: str,
    media_type: str,
    stored: StoredContent,
    dataplane: InProcessDataPlane,
    actor: str,
    max_files: int,
) -> Decide[UUID]:
    """Add a file whose bytes are stored."""

    async def decide(state: CommandState) -> Decision[UUID]:
        await check_file(state, package_id, relative_path, max_files=max_files)
        await check_content(state, dataplane, stored)
        ingested = FileIngested(
            file_id=state.new_id(),
            relative_path=relative_path,
            media_type=media_type,
            size=stored.size,
            content_address=stored.address,
            sha256=stored.sha256,
            backend_id=dataplane.backend_id,
            storage_location_id=storage_location_id(dataplane.backend_id, stored.address),
        )
        return Decision(ingested.file_id, [NewEvent(package_id, ingested, actor)])

    return decide


def finalize_package(package_id: UUID, *, actor: str) -> Decide[ContentAddress]:
    """Close a package; its manifest is made of the views."""

    async def decide(state: CommandState) -> Decision[ContentAddress]:
        package = await state.package(package_id)
        if package.status != "created":
            action = "it cannot be finalized; only a created package can"
            raise IllegalPackageStateError(package_id, package.status, action)
        manifest = await build_manifest(state, package_id, finalized_by=actor)
        address = ContentAddress.of(manifests.encode(manifest))
        return Decision(address, [NewEvent(package_id, PackageFinalized(manifest=manifest), actor)])

    return decide


async def build_manifest(state: CommandState, package_id: UUID, *, finalized_by: str) -> Manifest:
    """Make the manifest of a package, as of the time of the append, out of the views.

    Raises:
        PackageNotFoundError: there is no such package.
    """
    connection = await state.connection()
    wanted = select(artifact_packages).where(artifact_packages.c.package_id == package_id)
    package = (await connection.execute(wanted)).one_or_none()
    if package is None:
        raise PackageNotFoundError(package_id)
    files = [
        ManifestFile(
            id=row.file_id,
            relative_path=row.relative_path,
            media_type=row.media_type,
            size=row.size,
            content_address=ContentAddress.parse(row.content_address),
            sha256=ContentAddress.parse(row.sha256),
            ingested_at=row.ingested_at,
            ingested_by=row.ingested_by,
            storage_location_id=row.storage_location_id,
        )
        for row in await connection.execute(
            select(artifact_files).where(artifact_files.c.package_id == package_id)
        )
    ]
    used = (
        select(storage_locations)
        .join(artifact_files)
        .where(artifact_files.c.package_id == package_id)
        .distinct()
    )
    receipts = [
        StorageReceipt(
            storage_location_id=row.storage_location_id,
            backend_id=row.backend_id,
            content_address=ContentAddress.parse(row.content_address),
            size=row.size,
        )
        for row in await connection.execute(used)
    ]
    return Manifest(
        package=ManifestPackage(
            id=package.package_id,
            name=package.name,
            producer=package.producer,
            subject=package.subject,
            retention_class=package.retention_class,
            metadata=package.metadata,
            created_at=package.created_at,
            created_by=package.created_by,
            finalized_at=state.now,
            finalized_by=finalized_by,
        ),
        # Not by the database: its order of texts depends on its locale.
        files=tuple(sorted(files, key=lambda file: file.relative_path.encode())),
        storage_receipts=tuple(sorted(receipts, key=lambda one: str(one.storage_location_id))),
    )


async def read_manifest_bytes(connection: AsyncConnection, package_id: UUID) -> bytes:
    """The manifest of a package, exactly as it stands in the log.

    Raises:
        IllegalPackageStateError: it is not finalized.
        LogDamagedError: the bytes are not those that its digest promises.
        PackageNotFoundError: there is no such package.
    """
    row = artifact_packages.c
    wanted = select(row.status, row.manifest_digest).where(row.package_id == package_id)
    package = (await connection.execute(wanted)).one_or_none()
    if package is None:
        raise PackageNotFoundError(package_id)
    if package.manifest_digest is None:
        action = "it has no manifest yet; only a finalized package has"
        raise IllegalPackageStateError(package_id, package.status, action)
    finalized = select(events.c.sequence, events.c.payload).where(
        events.c.package_id == package_id, events.c.event_type == PackageFinalized.event_type
    )
    event = (await connection.execute(finalized)).one()
    payload: bytes = event.payload
    if str(ContentAddress.of(payload)) != package.manifest_digest:
        raise LogDamagedError(event.sequence, f"its payload is not {package.manifest_digest}")
    return payload
