"""Files of packages: find one, list those of a package.

Rule: the content that is read is the one of the file's event, never the one of a row.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Row, and_, exists, select
from sqlalchemy.ext.asyncio import AsyncConnection

from starfish_artifact_registry.db.schema import artifact_files, artifact_packages, events
from starfish_artifact_registry.errors import (
    ContentDamagedError,
    FileNotFoundInRegistryError,
    LogDamagedError,
    ViewsDifferError,
)
from starfish_artifact_registry.model import _event_digest as digests
from starfish_artifact_registry.model._catalogue import FileIngested, PackageDeleted
from starfish_artifact_registry.model._event_codec import decode_payload
from starfish_protocol.address import ContentAddress, MultiHasher

__all__ = ("FileRecord", "find_file", "list_files", "verified")


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file of one package."""

    file_id: UUID
    """Its id."""
    package_id: UUID
    """The package that it is in."""
    relative_path: str
    """Where it is in the package."""
    media_type: str
    """Its media type, as the caller who added it said."""
    size: int
    """Length in bytes."""
    content_address: ContentAddress
    """BLAKE3 of its bytes."""
    sha256: ContentAddress
    """SHA-256 of its bytes."""
    ingested_at: datetime
    """When it was added, aware UTC."""
    ingested_by: str
    """The actor who did."""


_FILE: Final = artifact_files.c
_END: Final = events.alias("end_of_package")
_DELETED: Final = exists(
    select(_END.c.sequence).where(
        _END.c.package_id == _FILE.package_id,
        _END.c.event_type != FileIngested.event_type,
        _END.c.event_type == PackageDeleted.event_type,
    )
)
_INGESTED: Final = and_(
    events.c.sequence == _FILE.event_sequence, events.c.package_id == _FILE.package_id
)


async def find_file(connection: AsyncConnection, file_id: UUID) -> FileRecord:
    """One file of a package that was not deleted, as its event says.

    Raises:
        FileNotFoundInRegistryError: there is none of this id.
        LogDamagedError: its event is not as it was written.
        ViewsDifferError: the row of the file is not the one of its event.
    """
    wanted = (
        select(
            *(_FILE.id, _FILE.package_id, _FILE.relative_path, _FILE.event_sequence),
            *(events.c.event_type, events.c.payload, events.c.payload_digest),
            *(events.c.created_at, events.c.actor, _DELETED.label("deleted")),
        )
        .outerjoin(events, _INGESTED)
        .where(_FILE.id == file_id)
    )
    row = (await connection.execute(wanted)).first()
    if row is None or row.deleted:
        raise FileNotFoundInRegistryError(file_id)
    return _of_event(row)


async def list_files(
    connection: AsyncConnection, package_id: UUID, *, after: str | None, limit: int
) -> list[FileRecord]:
    """The first ``limit`` files whose path sorts behind ``after``; of a deleted package none.

    Paths sort by code point, so as their UTF-8 bytes do.

    Raises:
        LogDamagedError: the event of one is not as it was written.
        ViewsDifferError: the row of one is not the one of its event.
    """
    path: ColumnElement[str] = _FILE.relative_path
    if connection.dialect.name == "postgresql":
        path = path.collate("C")
    page = (
        select(
            *(_FILE.id, _FILE.package_id, _FILE.relative_path, _FILE.event_sequence),
            *(events.c.event_type, events.c.payload, events.c.payload_digest),
            *(events.c.created_at, events.c.actor),
        )
        .join(artifact_packages, artifact_packages.c.id == _FILE.package_id)
        .outerjoin(events, _INGESTED)
        .where(_FILE.package_id == package_id, artifact_packages.c.status != "deleted")
    )
    if after is not None:
        page = page.where(path > after)
    rows = await connection.execute(page.order_by(path).limit(limit))
    return [_of_event(row) for row in rows]


def _of_event(row: Row[*tuple[Any, ...]]) -> FileRecord:
    if row.event_type != FileIngested.event_type:
        raise ViewsDifferError((f"event {row.event_sequence} does not add file {row.id}",))
    if digests.payload_digest(row.payload) != row.payload_digest:
        raise LogDamagedError(row.event_sequence, "its payload does not have its digest")
    try:
        payload = decode_payload(row.event_type, row.payload)
    except ValueError as error:
        raise LogDamagedError(row.event_sequence, f"its payload is refused: {error}") from error
    if not isinstance(payload, FileIngested) or (payload.file_id, payload.relative_path) != (
        row.id,
        row.relative_path,
    ):
        raise ViewsDifferError(
            (f"event {row.event_sequence} adds another file than the row of {row.id} says",)
        )
    return FileRecord(
        payload.file_id,
        row.package_id,
        payload.relative_path,
        payload.media_type,
        payload.size,
        payload.content_address,
        payload.sha256,
        row.created_at,
        row.actor,
    )


async def verified(
    chunks: AsyncIterator[bytes], file: FileRecord, backend_id: str
) -> AsyncGenerator[bytes]:
    """All bytes of a file, the last chunk only if they are those that were ingested.

    So a copy of damaged content stays incomplete.

    Raises:
        ContentDamagedError: they are others.
    """
    hasher = MultiHasher(["blake3"])
    held_back = b""
    async for chunk in chunks:
        if held_back:
            yield held_back
        hasher.update(chunk)
        held_back = chunk
    actual = hasher.addresses()["blake3"]
    if actual != file.content_address:
        raise ContentDamagedError(file.content_address, backend_id, actual)
    if held_back:
        yield held_back
