"""The views: rows that follow from the events, in the transaction of the append or by a replay.

Rule 1: a row depends on events and their envelopes alone, and on nothing else that is in the
database. Rule 2: applying events one by one, in groups or all at once gives the same rows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final, Protocol
from uuid import UUID

from sqlalchemy import Table, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from starfish_artifact_registry.db.schema import (
    artifact_files,
    artifact_metadata,
    artifact_packages,
    retention_state,
    storage_locations,
)
from starfish_artifact_registry.errors import LogDamagedError
from starfish_artifact_registry.model._catalogue import (
    NO_PACKAGE,
    ClockConfirmed,
    ContentRepaired,
    FileIngested,
    FixityChecked,
    PackageCreated,
    PackageDeleted,
    PackageExpired,
    PackageFinalized,
    PackageImported,
    RetentionHeld,
    RetentionReleased,
)
from starfish_artifact_registry.model._event_codec import Event
from starfish_artifact_registry.model._history import retention_end
from starfish_artifact_registry.model._package_metadata import index_entry

__all__ = ("RegistryViewWriter", "ViewWriter")

_Rows = dict[UUID, dict[str, Any]]
_CHANGING: Final[dict[Table, tuple[str, ...]]] = {
    artifact_packages: (
        *("status", "file_count", "total_bytes", "manifest_digest", "finalized_at"),
        *("finalized_by", "imported_at", "imported_by", "last_event_sequence"),
    ),
    retention_state: ("retain_until", "holds", "expired_at", "deleted_at"),
}
"""Columns that a later event may change."""
_KEY: Final = {
    artifact_packages: artifact_packages.c.id,
    retention_state: retention_state.c.package_id,
}
_LOAD: Final = {
    table: select(table).where(key.in_(bindparam("about", expanding=True)))
    for table, key in _KEY.items()
}
_UPDATE: Final = {
    table: table.update()
    .where(_KEY[table] == bindparam("key"))
    .values({name: bindparam(f"new_{name}") for name in columns})
    for table, columns in _CHANGING.items()
}
_INSERT: Final = {
    table: table.insert()
    for table in (
        *(artifact_packages, artifact_metadata, artifact_files, storage_locations),
        retention_state,
    )
}


class ViewWriter(Protocol):
    """Derives rows from events; write your own to keep more views, and call this one in it."""

    async def apply(self, connection: AsyncConnection, events: Sequence[Event]) -> None:
        """Bring the rows up to these events, which follow those of the last call."""
        ...

    async def reset(self, connection: AsyncConnection) -> None:
        """Remove all rows."""
        ...

    async def position(self, connection: AsyncConnection) -> int:
        """Sequence of the last event that changed a row, 0 when there is none."""
        ...


class RegistryViewWriter:
    """Keeps every table of the registry that follows from the log."""

    async def apply(self, connection: AsyncConnection, events: Sequence[Event]) -> None:
        """Bring the rows up to these events, in a few statements however many they are.

        Raises:
            LogDamagedError: an event does not fit those before it.
            UnknownEventTypeError: a newer version wrote an event.
        """
        fold = _Fold(await _load(connection, artifact_packages, events), {})
        if any(event.event_type.startswith(_RETENTION) for event in events):
            fold.retention = await _load(connection, retention_state, events)
        for event in events:
            fold.add(event)
        await fold.write(connection)

    async def reset(self, connection: AsyncConnection) -> None:
        """Remove all rows."""
        for table in (
            *(storage_locations, artifact_files, artifact_metadata, retention_state),
            artifact_packages,
        ):
            await connection.execute(table.delete())

    async def position(self, connection: AsyncConnection) -> int:
        """Sequence of the last event that changed a row, 0 when there is none."""
        last = select(func.max(artifact_packages.c.last_event_sequence))
        return (await connection.execute(last)).scalar_one() or 0


_RETENTION: Final = ("v1.package.", "v1.retention.")
_Retention = RetentionHeld | RetentionReleased | PackageExpired | PackageDeleted | PackageImported


class _Fold:
    """Rows on their way from one state to a later one."""

    def __init__(self, packages: _Rows, retention: _Rows) -> None:
        self.packages = packages
        self.retention = retention
        self._old_packages = set(packages)
        self._new_retention: set[UUID] = set()
        self._files: list[dict[str, Any]] = []
        self._metadata: list[dict[str, Any]] = []
        self._locations: list[dict[str, Any]] = []

    def add(self, event: Event) -> None:
        """Let one event take place."""
        # A manifest may be long, and no row follows from it.
        is_manifest = event.event_type == PackageFinalized.event_type
        payload = None if is_manifest else event.decoded()
        if isinstance(payload, ClockConfirmed):
            if event.package_id != NO_PACKAGE:
                raise LogDamagedError(event.sequence, "it is about the clock, and names a package")
            return
        if isinstance(payload, PackageCreated):
            self._create(event, payload)
            return
        package = self.packages.get(event.package_id)
        if package is None:
            raise LogDamagedError(event.sequence, f"it is about no package: {event.package_id}")
        package["last_event_sequence"] = event.sequence
        if payload is None:
            self._finalize(event, package)
        elif isinstance(payload, FileIngested):
            self._ingest(event, payload, package)
        elif not isinstance(payload, FixityChecked | ContentRepaired | PackageFinalized):
            self._retain(event, payload, package)

    def _finalize(self, event: Event, package: dict[str, Any]) -> None:
        package |= {
            "status": "finalized",
            "manifest_digest": f"blake3:{event.payload_digest.hex()}",
            "finalized_at": event.created_at,
            "finalized_by": event.actor,
        }
        retention = self._retention_of(event)
        retention["retain_until"] = retention_end(event.created_at, retention["retention_days"])

    def _retain(self, event: Event, payload: _Retention, package: dict[str, Any]) -> None:
        retention = self._retention_of(event)
        match payload:
            case RetentionHeld():
                hold = {
                    "hold_id": str(payload.hold_id),
                    "reason": payload.reason,
                    "actor": event.actor,
                    "sequence": event.sequence,
                }
                retention["holds"] = [*retention["holds"], hold]
            case RetentionReleased():
                released = str(payload.hold_id)
                retention["holds"] = [h for h in retention["holds"] if h["hold_id"] != released]
            case PackageExpired():
                package["status"] = "expired"
                retention["expired_at"] = event.created_at
            case PackageDeleted():
                package["status"] = "deleted"
                retention["deleted_at"] = event.created_at
            case PackageImported():
                package |= {"imported_at": event.created_at, "imported_by": event.actor}
                later = retention_end(event.created_at, retention["retention_days"])
                if (known := retention["retain_until"]) is not None:
                    retention["retain_until"] = None if later is None else max(known, later)

    async def write(self, connection: AsyncConnection) -> None:
        """Store what has changed."""
        new = [row for key, row in self.packages.items() if key not in self._old_packages]
        old = [row for key, row in self.packages.items() if key in self._old_packages]
        if new:
            await connection.execute(_INSERT[artifact_packages], new)
        if old:
            await _update(connection, artifact_packages, old)
        if self._metadata:
            await connection.execute(_INSERT[artifact_metadata], self._metadata)
        if self._files:
            await connection.execute(_INSERT[artifact_files], self._files)
            await connection.execute(_INSERT[storage_locations], self._locations)
        new = [row for key, row in self.retention.items() if key in self._new_retention]
        old = [row for key, row in self.retention.items() if key not in self._new_retention]
        if new:
            await connection.execute(_INSERT[retention_state], new)
        if old:
            await _update(connection, retention_state, old)

    def _create(self, event: Event, payload: PackageCreated) -> None:
        if event.package_id in self.packages:
            raise LogDamagedError(event.sequence, f"package {event.package_id} is there already")
        self.packages[event.package_id] = {
            "id": event.package_id,
            "name": payload.name,
            "producer": payload.producer,
            "subject": payload.subject,
            "retention_class": payload.retention_class,
            "status": "created",
            "metadata": payload.metadata,
            "file_count": 0,
            "total_bytes": 0,
            "manifest_digest": None,
            "created_at": event.created_at,
            "created_by": event.actor,
            "finalized_at": None,
            "finalized_by": None,
            "imported_at": None,
            "imported_by": None,
            "last_event_sequence": event.sequence,
        }
        for member in payload.metadata.items():
            key, value = index_entry(*member)
            self._metadata.append({"package_id": event.package_id, "key": key, "value": value})
        self._new_retention.add(event.package_id)
        self.retention[event.package_id] = {
            "package_id": event.package_id,
            "retention_days": payload.retention_days,
            "retain_until": retention_end(event.created_at, payload.retention_days),
            "holds": [],
            "expired_at": None,
            "deleted_at": None,
        }

    def _ingest(self, event: Event, payload: FileIngested, package: dict[str, Any]) -> None:
        package["file_count"] += 1
        package["total_bytes"] += payload.size
        address = str(payload.content_address)
        self._locations.append(
            {
                "artifact_file_id": payload.file_id,
                "storage_location_id": payload.storage_location_id,
                "backend_id": payload.backend_id,
                "content_address": address,
            }
        )
        self._files.append(
            {
                "id": payload.file_id,
                "package_id": event.package_id,
                "relative_path": payload.relative_path,
                "media_type": payload.media_type,
                "size_bytes": payload.size,
                "content_address": address,
                "sha256": str(payload.sha256),
                "ingested_at": event.created_at,
                "ingested_by": event.actor,
                "event_sequence": event.sequence,
            }
        )

    def _retention_of(self, event: Event) -> dict[str, Any]:
        row = self.retention.get(event.package_id)
        if row is None:
            raise LogDamagedError(event.sequence, f"no retention state of {event.package_id}")
        return row


async def _load(connection: AsyncConnection, table: Table, events: Collection[Event]) -> _Rows:
    about = {event.package_id for event in events}
    found = await connection.execute(_LOAD[table], {"about": list(about)})
    return {row[_KEY[table].name]: dict(row) for row in found.mappings()}


async def _update(
    connection: AsyncConnection, table: Table, rows: Sequence[dict[str, Any]]
) -> None:
    columns = _CHANGING[table]
    changes = [
        {"key": row[_KEY[table].name]} | {f"new_{name}": row[name] for name in columns}
        for row in rows
    ]
    await connection.execute(_UPDATE[table], changes)
