"""Finding packages, page by page.

Rule 1: a page goes on after the last row that the reader has seen, so that nothing is skipped or
told twice while others write. Rule 2: the order is total and never changes for a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, RowMapping, Select, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from starfish_artifact_registry.db.schema import (
    artifact_metadata,
    artifact_packages,
    retention_state,
)
from starfish_artifact_registry.errors import (
    InvalidQueryError,
    InvalidValueError,
    PackageNotFoundError,
)
from starfish_artifact_registry.model._package_metadata import check_metadata, index_entry
from starfish_protocol.address import ContentAddress

__all__ = (
    "MAX_PAGE",
    "STATUSES",
    "Hold",
    "PackageFilter",
    "PackageRecord",
    "find_package",
    "list_packages",
)

MAX_PAGE: Final = 1000
"""Rows of one page at most."""
STATUSES: Final = ("created", "finalized", "expired", "deleted")
"""The statuses that a package can have."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold that is in force."""

    hold_id: UUID
    """Its name among those of the package."""
    reason: str
    """Why it was placed."""
    actor: str
    """Who placed it."""
    sequence: int
    """The event that did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageRecord:
    """A package as it is now."""

    package_id: UUID
    """Its id."""
    name: str
    """What its producer calls it."""
    producer: str
    """Who or what made the files."""
    subject: str
    """What they are about."""
    retention_class: str
    """How long it must be kept, by name."""
    status: str
    """``created``, ``finalized``, ``expired`` or ``deleted``."""
    metadata: dict[str, Any]
    """What its creator added."""
    file_count: int
    """Files in it."""
    total_bytes: int
    """Sum of their sizes."""
    manifest_digest: ContentAddress | None
    """Address of its manifest, once it is finalized."""
    created_at: datetime
    """When it was created, aware UTC."""
    created_by: str
    """By whom."""
    finalized_at: datetime | None
    """When it was finalized."""
    finalized_by: str | None
    """By whom."""
    imported_at: datetime | None
    """When this registry took it in from elsewhere; its earlier times and actors are of there."""
    imported_by: str | None
    """By whom."""
    last_event_sequence: int
    """Its newest event."""
    retain_until: datetime | None
    """It cannot be deleted before; ``None`` is never."""
    holds: tuple[Hold, ...]
    """Holds in force, oldest first; with any it cannot be deleted at all."""
    expired_at: datetime | None
    """When it was found to be past its date."""
    deleted_at: datetime | None
    """When it was deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageFilter:
    """Which packages are wanted: those for which every given member is true.

    Raises:
        InvalidQueryError: a member is not legal.
    """

    name: str | None = None
    """Exactly this name."""
    producer: str | None = None
    """Exactly this producer."""
    subject: str | None = None
    """Exactly this subject."""
    status: str | None = None
    """This status; without it deleted packages are found too."""
    retention_class: str | None = None
    """This retention class."""
    created_after: datetime | None = None
    """Created at this moment or later; aware."""
    created_before: datetime | None = None
    """Created before this moment; aware."""
    metadata: Mapping[str, Any] | None = None
    """Has all these members in its metadata, with equal values."""

    def __post_init__(self) -> None:
        for name in ("name", "producer", "subject", "status", "retention_class"):
            text = getattr(self, name)
            if text is not None and (type(text) is not str or not _is_searchable(text)):
                raise InvalidQueryError(f"{name} is {text!r:.200}; it must be a text without NUL")
        if self.status is not None and self.status not in STATUSES:
            raise InvalidQueryError(f"status is {self.status!r:.80}; it must be one of {STATUSES}")
        for name in ("created_after", "created_before"):
            moment = getattr(self, name)
            if moment is not None and moment.tzinfo is None:
                raise InvalidQueryError(f"{name} is {moment}; it must be a moment with a time zone")
        try:
            check_metadata(dict(self.metadata or {}))
        except InvalidValueError as error:
            raise InvalidQueryError(str(error)) from error

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same for the database."""
        row = artifact_packages.c
        texts = {
            row.name: self.name,
            row.producer: self.producer,
            row.subject: self.subject,
            row.status: self.status,
            row.retention_class: self.retention_class,
        }
        found = [column == text for column, text in texts.items() if text is not None]
        if self.created_after is not None:
            found.append(row.created_at >= self.created_after)
        if self.created_before is not None:
            found.append(row.created_at < self.created_before)
        for member in check_metadata(dict(self.metadata or {})).items():
            key, value = index_entry(*member)
            has = select(artifact_metadata.c.package_id).where(
                artifact_metadata.c.key == key, artifact_metadata.c.value == value
            )
            found.append(row.id.in_(has))
        return found


async def find_package(connection: AsyncConnection, package_id: UUID) -> PackageRecord:
    """A package, deleted ones included.

    Raises:
        PackageNotFoundError: there is none of this id.
    """
    wanted = _packages().where(artifact_packages.c.id == package_id)
    row = (await connection.execute(wanted)).mappings().one_or_none()
    if row is None:
        raise PackageNotFoundError(package_id)
    return _record(row)


async def list_packages(
    connection: AsyncConnection, wanted: PackageFilter, *, after: UUID | None, limit: int
) -> list[PackageRecord]:
    """The first ``limit`` packages behind ``after``, in the order of their creation.

    Raises:
        InvalidQueryError: ``after`` is not a package, or the limit is not 1 to `MAX_PAGE`.
    """
    if type(limit) is not int or not 1 <= limit <= MAX_PAGE:
        raise InvalidQueryError(f"limit is {limit!r:.80}; it must be 1 to {MAX_PAGE}")
    row = artifact_packages.c
    query = _packages().where(*wanted.conditions())
    if after is not None:
        # It is still there: packages become tombstones, they never go.
        last = select(row.created_at).where(row.id == after)
        moment = (await connection.execute(last)).scalar()
        if moment is None:
            raise InvalidQueryError(f"after is {after}; it must be the id of a package")
        query = query.where(tuple_(row.created_at, row.id) > (moment, after))
    rows = await connection.execute(query.order_by(row.created_at, row.id).limit(limit))
    return [_record(row) for row in rows.mappings()]


def _packages() -> Select[Any]:
    row = retention_state.c
    columns = row.retain_until, row.holds, row.expired_at, row.deleted_at
    return select(artifact_packages, *columns).join(retention_state)


def _record(row: RowMapping) -> PackageRecord:
    values: dict[str, Any] = dict(row)
    values["package_id"] = values.pop("id")
    if values["manifest_digest"] is not None:
        values["manifest_digest"] = ContentAddress.parse(values["manifest_digest"])
    values["holds"] = tuple(
        Hold(UUID(hold["hold_id"]), hold["reason"], hold["actor"], hold["sequence"])
        for hold in values["holds"]
    )
    return PackageRecord(**values)


def _is_searchable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text
