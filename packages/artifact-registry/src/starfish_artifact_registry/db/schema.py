"""The tables. The log is the truth; every other table but the retention classes is derived from it.

Rule 1: only the log appends to ``events``, only a view writer changes the views. Rule 2: whatever a
view holds comes from an event or from its envelope, so that a replay gives the same bytes.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    select,
    text,
)
from sqlalchemy.event import listen
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from starfish_artifact_registry.db._append_only import refuse_changes
from starfish_artifact_registry.db._column_types import CanonicalJson, UtcMilliseconds
from starfish_artifact_registry.db._database import translated_errors
from starfish_artifact_registry.db.seed import RETENTION_CLASS_SEEDS

__all__ = (
    "SCHEMA_REVISION",
    "artifact_files",
    "artifact_metadata",
    "artifact_packages",
    "collected_content",
    "create_schema",
    "events",
    "log_tiles",
    "metadata",
    "packed_content",
    "registry_revision",
    "retention_classes",
    "retention_state",
    "storage_locations",
)

_SEQUENCE: Final = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)
"""All tables of the registry; their names are as here, so keep them apart from tables of your own."""

events = Table(
    "events",
    metadata,
    Column("sequence", _SEQUENCE, primary_key=True, autoincrement=False),
    Column("event_id", Uuid, nullable=False, unique=True),
    Column("package_id", Uuid, nullable=False),
    Column("event_type", String(64), nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("payload_digest", LargeBinary(32), nullable=False),
    Column("prev_digest", LargeBinary(32), nullable=False),
    Column("event_digest", LargeBinary(32), nullable=False),
    Column("actor", Text, nullable=False),
    Column("created_at", UtcMilliseconds, nullable=False),
    Index(None, "package_id", "sequence"),
)
"""The log."""
Index(
    "ix_events_facts",
    events.c.package_id,
    events.c.sequence,
    sqlite_where=events.c.event_type != "v1.file.ingested",
    postgresql_where=events.c.event_type != "v1.file.ingested",
)
refuse_changes(events)

artifact_packages = Table(
    "artifact_packages",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("producer", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("retention_class", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("metadata", CanonicalJson, nullable=False),
    Column("file_count", _SEQUENCE, nullable=False),
    Column("total_bytes", _SEQUENCE, nullable=False),
    Column("manifest_digest", String(71)),
    Column("created_at", UtcMilliseconds, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("finalized_at", UtcMilliseconds),
    Column("finalized_by", Text),
    Column("last_event_sequence", _SEQUENCE, nullable=False),
    Column("imported_at", UtcMilliseconds),
    Column("imported_by", Text),
    Index(None, "created_at", "id"),
    Index(None, "name", "created_at", "id"),
    Index(None, "producer", "created_at", "id"),
    Index(None, "subject", "created_at", "id"),
    Index(None, "retention_class", "created_at", "id"),
    Index(None, "status", "created_at", "id"),
)
"""One row for each package, deleted ones included."""

artifact_metadata = Table(
    "artifact_metadata",
    metadata,
    Column("package_id", Uuid, ForeignKey(artifact_packages.c.id), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
    Index(None, "key", "value", "package_id"),
)
"""One row for each member of a package's metadata, to find packages by; see `index_entry`."""

artifact_files = Table(
    "artifact_files",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("package_id", Uuid, ForeignKey(artifact_packages.c.id), nullable=False),
    Column("relative_path", Text, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("size_bytes", _SEQUENCE, nullable=False),
    Column("content_address", String(71), nullable=False),
    Column("sha256", String(71), nullable=False),
    Column("ingested_at", UtcMilliseconds, nullable=False),
    Column("ingested_by", Text, nullable=False),
    Column("event_sequence", _SEQUENCE, nullable=False),
    UniqueConstraint("package_id", "relative_path"),
)
"""One row for each file of each package."""

storage_locations = Table(
    "storage_locations",
    metadata,
    Column("artifact_file_id", Uuid, primary_key=True),
    Column("storage_location_id", Uuid, nullable=False, index=True),
    Column("backend_id", Text, nullable=False),
    Column("content_address", String(71), nullable=False),
)
"""Where the content of each file is: one row a file; files that share content share the id of its place."""

retention_classes = Table(
    "retention_classes",
    metadata,
    Column("name", Text, primary_key=True),
    Column("description", Text, nullable=False),
    Column("duration_days", Integer),
)
"""What `Registry.create_package` accepts; yours to extend. ``duration_days`` NULL is for ever."""

retention_state = Table(
    "retention_state",
    metadata,
    Column("package_id", Uuid, ForeignKey(artifact_packages.c.id), primary_key=True),
    Column("retention_days", _SEQUENCE),
    Column("retain_until", UtcMilliseconds, index=True),
    Column("holds", CanonicalJson, nullable=False),
    Column("expired_at", UtcMilliseconds),
    Column("deleted_at", UtcMilliseconds),
)
"""From when on a package may go, and what forbids it; ``retain_until`` NULL is for ever."""


SCHEMA_REVISION: Final = "0003"
"""The revision of these tables; `starfish_artifact_registry.db.migrate` brings older ones here."""

registry_revision = Table(
    "artifact_registry_revision", metadata, Column("version_num", String(32), primary_key=True)
)
"""One row: the revision that the tables have. Migrations of your own tables have their own place."""


def _stamp(revision: Table, connection: Connection, **_options: object) -> None:
    connection.execute(revision.insert(), {"version_num": SCHEMA_REVISION})


listen(registry_revision, "after_create", _stamp)

log_tiles = Table(
    "log_tiles",
    metadata,
    Column("level", Integer, primary_key=True),
    Column("position", _SEQUENCE, primary_key=True),
    Column("hashes", LargeBinary, nullable=False),
)
"""The Merkle tree over the log, in tiles of up to 256 hashes; it follows from the events."""

collected_content = Table(
    "collected_content",
    metadata,
    Column("storage_location_id", Uuid, primary_key=True),
    Column("collected_at", UtcMilliseconds, nullable=False),
)
"""Content that garbage collection took, or was about to take; no view, and not to be emptied while
anybody ingests: a command that finds its content here looks whether the bytes are there."""

packed_content = Table(
    "packed_content",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("data", LargeBinary, nullable=False),
)
"""Small content by its BLAKE3 digest; no view: it is part of what the backends hold."""


_LOCK: Final = {
    # Python's driver begins a transaction for rows only, not for tables.
    "sqlite": "BEGIN IMMEDIATE",
    "postgresql": "SELECT pg_advisory_xact_lock(hashtext('artifact_registry_revision'))",
}


async def _lock(connection: AsyncConnection) -> None:
    await connection.execute(text("SELECT 1"))  # where the engine's own hook begins a transaction
    raw = await connection.get_raw_connection()
    if not getattr(raw.driver_connection, "in_transaction", False):
        await connection.execute(text(_LOCK[connection.dialect.name]))


async def create_schema(engine: AsyncEngine) -> None:
    """Make the tables and seed the retention classes; tables that exist stay as they are.

    Raises:
        DatabaseUnavailableError: the database does not answer.
        ForeignDatabaseError: the file belongs to another application; it is left as it is.
    """
    with translated_errors():
        async with engine.connect() as connection:
            # Several processes may do this at once: the others wait and find it done.
            await _lock(connection)
            await connection.run_sync(metadata.create_all)
            known = set((await connection.execute(select(retention_classes.c.name))).scalars())
            missing = [seed for seed in RETENTION_CLASS_SEEDS if seed["name"] not in known]
            if missing:
                await connection.execute(retention_classes.insert(), missing)
            await connection.commit()
