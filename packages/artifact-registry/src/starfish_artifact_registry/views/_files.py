"""Files of packages as rows: find one, list those of a package."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, RowMapping, select
from sqlalchemy.ext.asyncio import AsyncConnection

from starfish_artifact_registry.db.schema import artifact_files, artifact_packages
from starfish_artifact_registry.errors import ContentDamagedError, FileNotFoundInRegistryError
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
    """What it is, as the caller who added it said."""
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


_COLUMNS: Final = [artifact_files.c[field.name] for field in fields(FileRecord)]


async def find_file(connection: AsyncConnection, file_id: UUID) -> FileRecord:
    """One file of a package that was not deleted.

    Raises:
        FileNotFoundInRegistryError: there is none of this id.
    """
    wanted = (
        select(*_COLUMNS)
        .join(artifact_packages)
        .where(artifact_files.c.file_id == file_id, artifact_packages.c.status != "deleted")
    )
    row = (await connection.execute(wanted)).mappings().first()
    if row is None:
        raise FileNotFoundInRegistryError(file_id)
    return _record(row)


async def list_files(
    connection: AsyncConnection, package_id: UUID, *, after: str | None, limit: int
) -> list[FileRecord]:
    """The first ``limit`` files whose path sorts behind ``after``; of a deleted package none.

    Paths sort by code point, so as their UTF-8 bytes do.
    """
    path: ColumnElement[str] = artifact_files.c.relative_path
    if connection.dialect.name == "postgresql":
        path = path.collate("C")
    page = (
        select(*_COLUMNS)
        .join(artifact_packages)
        .where(artifact_files.c.package_id == package_id, artifact_packages.c.status != "deleted")
    )
    if after is not None:
        page = page.where(path > after)
    rows = await connection.execute(page.order_by(path).limit(limit))
    return [_record(row) for row in rows.mappings()]


def _record(row: RowMapping) -> FileRecord:
    values: dict[str, Any] = {str(name): value for name, value in row.items()}
    for address in ("content_address", "sha256"):
        values[address] = ContentAddress.parse(values[address])
    return FileRecord(**values)


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
