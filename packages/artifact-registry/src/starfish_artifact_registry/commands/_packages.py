"""The life of a package until it is finalized: refusals, and which events follow."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from starfish_artifact_registry.commands._garbage import check_content
from starfish_artifact_registry.commands._packed_content import PackedContent
from starfish_artifact_registry.commands._state import (
    CommandState,
    Decide,
    Decision,
    PackageState,
)
from starfish_artifact_registry.db._sqlite_thread import beside_loop
from starfish_artifact_registry.db.schema import events
from starfish_artifact_registry.errors import (
    DuplicateRelativePathError,
    IllegalPackageStateError,
    InvalidValueError,
    LogDamagedError,
    PackageNotFoundError,
)
from starfish_artifact_registry.model._catalogue import (
    ContentRepaired,
    FileIngested,
    PackageCreated,
    PackageFinalized,
    storage_location_id,
)
from starfish_artifact_registry.model._event_codec import EncodedPayload, NewEvent
from starfish_artifact_registry.model._history import PackageHistory
from starfish_artifact_registry.storage._base import StoredContent
from starfish_artifact_registry.storage._dataplane import InProcessDataPlane
from starfish_protocol.address import ContentAddress

__all__ = (
    "check_takes_file",
    "create_package",
    "finalize_package",
    "ingest_file",
    "read_manifest_bytes",
    "repaired",
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


def check_takes_file(package_id: UUID, package: PackageState, *, max_files: int) -> None:
    """Return if a package takes one more file.

    Raises:
        IllegalPackageStateError: it takes none any more.
        InvalidValueError: it has as many as it may have.
    """
    if package.status != "created":
        action = "it takes no files; only a created package does"
        raise IllegalPackageStateError(package_id, package.status, action)
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
    facts: dict[str, Any] | None = None,
) -> Decide[UUID]:
    """Add a file whose bytes are stored; the same bytes at the same path again are the same file."""

    async def checked(state: CommandState) -> tuple[StoredContent, PackedContent | None]:
        if isinstance(stored, PackedContent):
            compared = await state.compared(stored)
            return compared, compared
        await check_content(state, dataplane, stored)
        return stored, None

    async def decide(state: CommandState) -> Decision[UUID]:
        package = await state.package(package_id)
        known = await state.file_at(package_id, relative_path)
        if known is not None:
            if known.content_address != stored.address:
                raise DuplicateRelativePathError(package_id, relative_path)
            content, packed = await checked(state)
            events = repaired(package_id, content, dataplane, actor)
            return Decision(known.file_id, events, packed)
        check_takes_file(package_id, package, max_files=max_files)
        content, packed = await checked(state)
        ingested = FileIngested(
            file_id=state.new_id(),
            relative_path=relative_path,
            media_type=media_type,
            size=stored.size,
            content_address=stored.address,
            sha256=stored.sha256,
            backend_id=dataplane.backend_id,
            storage_location_id=storage_location_id(dataplane.backend_id, stored.address),
            facts=facts or {},
        )
        return Decision(
            ingested.file_id,
            [
                *repaired(package_id, content, dataplane, actor),
                NewEvent(package_id, ingested, actor),
            ],
            packed,
        )

    return decide


def repaired(
    package_id: UUID,
    stored: StoredContent,
    dataplane: InProcessDataPlane,
    actor: str,
    source: str = "ingest",
) -> list[NewEvent]:
    """The event of a damaged copy that good bytes have replaced, if there was one."""
    if not stored.healed:
        return []
    fact = ContentRepaired(
        content_address=stored.address, backend_id=dataplane.backend_id, source=source
    )
    return [NewEvent(package_id, fact, actor)]


def finalize_package(
    package_id: UUID, known: PackageHistory, *, actor: str
) -> Decide[ContentAddress]:
    """Close a package; its manifest is the sum of its events.

    Args:
        package_id: the package.
        known: its history some time before, so that little is left to read under the log's lock.
        actor: who closes it.
    """

    async def decide(state: CommandState) -> Decision[ContentAddress]:
        history = await state.history(package_id, known)
        if history.status != "created":
            action = "it cannot be finalized; only a created package can"
            raise IllegalPackageStateError(package_id, str(history.status), action)
        data = await beside_loop(
            lambda: history.manifest_bytes(finalized_at=state.now, finalized_by=actor)
        )
        payload = EncodedPayload(PackageFinalized.event_type, data)
        event = NewEvent(package_id, payload, actor, state.now)
        return Decision(await beside_loop(lambda: ContentAddress.of(data)), [event])

    return decide


async def read_manifest_bytes(connection: AsyncConnection, package_id: UUID) -> bytes:
    """The manifest of a package, exactly as it stands in the log.

    Raises:
        IllegalPackageStateError: it is not finalized.
        LogDamagedError: the bytes are not those that their digest promises.
        PackageNotFoundError: there is no such package.
    """
    row = events.c
    facts = select(row.sequence, row.event_type, row.payload, row.payload_digest).where(
        row.package_id == package_id,
        row.event_type != FileIngested.event_type,
        row.event_type.in_((PackageCreated.event_type, PackageFinalized.event_type)),
    )
    found = {fact.event_type: fact for fact in await connection.execute(facts)}
    if PackageCreated.event_type not in found:
        raise PackageNotFoundError(package_id)
    finalized = found.get(PackageFinalized.event_type)
    if finalized is None:
        action = "it has no manifest yet; only a finalized package has"
        raise IllegalPackageStateError(package_id, "created", action)
    payload: bytes = finalized.payload
    if ContentAddress.of(payload).digest != finalized.payload_digest:
        raise LogDamagedError(finalized.sequence, "its payload does not have its digest")
    return payload
