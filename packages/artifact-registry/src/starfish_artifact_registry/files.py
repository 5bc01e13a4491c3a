"""Files of packages as rows: find one, list those of a package."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from starfish_artifact_registry.db.schema import artifact_files, artifact_packages
from starfish_artifact_registry.errors import FileNotFoundInRegistryError
from starfish_protocol.address import ContentAddress

__all__ = ("FileRecord", "find_file", "list_files")


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
    """What it is, as whoever added it said."""
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
    row = (await connection.execute(wanted)).first()
    if row is None:
        raise FileNotFoundInRegistryError(file_id)
    return _record(row)


async def list_files(
    connection: AsyncConnection, package_id: UUID, *, after: str | None, limit: int
) -> list[FileRecord]:
    """The first ``limit`` files whose path sorts behind ``after``; of a deleted package none.

    Paths sort by code point, so as their UTF-8 bytes do.
    """
    path = artifact_files.c.relative_path
    if connection.dialect.name == "postgresql":
        path = path.collate("C")
    page = (
        select(*_COLUMNS)
        .join(artifact_packages)
        .where(artifact_files.c.package_id == package_id, artifact_packages.c.status != "deleted")
    )
    if after is not None:
        page = page.where(path > after)
    return [_record(row) for row in await connection.execute(page.order_by(path).limit(limit))]


def _record(row: Row[Any]) -> FileRecord:
    values = row._asdict()
    for address in ("content_address", "sha256"):
        values[address] = ContentAddress.parse(values[address])
    return FileRecord(**values)
