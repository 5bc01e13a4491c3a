"""Calls that find packages."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from starfish_artifact_registry.registry._parts import RegistryParts
from starfish_artifact_registry.views import _query as query
from starfish_artifact_registry.views._query import PackageFilter, PackageRecord

__all__ = ("QueryCalls",)


class QueryCalls(RegistryParts):
    """Packages by their properties."""

    async def get_package(self, package_id: UUID) -> PackageRecord:
        """A package as it is now, deleted ones included.

        Raises:
            PackageNotFoundError: there is no such package.
        """
        async with self._database.read() as connection:
            return await query.find_package(connection, package_id)

    async def list_packages(
        self,
        *,
        name: str | None = None,
        producer: str | None = None,
        subject: str | None = None,
        status: str | None = None,
        retention_class: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        metadata: Mapping[str, Any] | None = None,
        after: UUID | None = None,
        limit: int = 100,
    ) -> list[PackageRecord]:
        """A page of the packages for which every given member is true, oldest first.

        Args:
            name: exactly this name; likewise ``producer``, ``subject``, ``retention_class``.
            producer: see ``name``.
            subject: see ``name``.
            status: ``created``, ``finalized``, ``expired`` or ``deleted``; without it all of them.
            retention_class: see ``name``.
            created_after: created at this moment or later.
            created_before: created before this moment.
            metadata: members that its metadata has, with equal values.
            after: id of the last package of the page before.
            limit: most packages of the page, up to `MAX_PAGE`.

        Raises:
            InvalidQueryError: an argument is not legal.
        """
        wanted = PackageFilter(
            name=name,
            producer=producer,
            subject=subject,
            status=status,
            retention_class=retention_class,
            created_after=created_after,
            created_before=created_before,
            metadata=metadata,
        )
        async with self._database.read() as connection:
            return await query.list_packages(connection, wanted, after=after, limit=limit)
