"""Columns by the names of the contract, one storage location a file, imports in the package's row."""
# ruff: noqa: INP001, S608 - the names are those of this file; a script that Alembic loads by path; no package

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_MOMENT = sa.String(29).with_variant(sa.TIMESTAMP(timezone=True), "postgresql")
_INDEXED = ((), ("name",), ("producer",), ("subject",), ("retention_class",), ("status",))


def upgrade() -> None:
    """Rename, and make the tables of files and places anew out of the old ones."""
    op.execute(
        sa.text(
            "CREATE INDEX ix_events_facts ON events (package_id, sequence) "
            "WHERE event_type != 'v1.file.ingested'"
        )
    )
    op.create_table(
        "log_tiles",
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("position", _INTEGER, nullable=False),
        sa.Column("hashes", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("level", "position", name="pk_log_tiles"),
    )
    _rename_packages()
    _make_files_anew()
    _note_imports()


def _rename_packages() -> None:
    for first in _INDEXED:
        columns = [*first, "created_at", "package_id"]
        op.drop_index("_".join(("ix_artifact_packages", *columns)), "artifact_packages")
    # Both databases rename the references of other tables along with the column.
    op.execute(sa.text("ALTER TABLE artifact_packages RENAME COLUMN package_id TO id"))
    if op.get_bind().dialect.name == "postgresql":
        # From version 18 on, NOT NULL is a constraint with a name.
        op.execute(
            sa.text(
                "DO $$ BEGIN IF EXISTS (SELECT 1 FROM pg_constraint "
                "WHERE conrelid = 'artifact_packages'::regclass "
                "AND conname = 'artifact_packages_package_id_not_null') THEN "
                "ALTER TABLE artifact_packages RENAME CONSTRAINT "
                "artifact_packages_package_id_not_null TO artifact_packages_id_not_null; "
                "END IF; END $$"
            )
        )
    for column in (sa.Column("imported_at", _MOMENT), sa.Column("imported_by", sa.Text())):
        op.add_column("artifact_packages", column)
    for first in _INDEXED:
        columns = [*first, "created_at", "id"]
        op.create_index("_".join(("ix_artifact_packages", *columns)), "artifact_packages", columns)


def _make_files_anew() -> None:
    op.drop_index("ix_artifact_files_storage_location_id", "artifact_files")
    # Copies without any constraint, so that none of the old names is in the way.
    for table in ("artifact_files", "storage_locations"):
        op.execute(sa.text(f"CREATE TABLE old_{table} AS SELECT * FROM {table}"))
    for table in ("artifact_files", "storage_locations"):
        op.drop_table(table)
    op.create_table(
        "artifact_files",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("package_id", sa.Uuid(), nullable=False),
        sa.Column("relative_path", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("size_bytes", _INTEGER, nullable=False),
        sa.Column("content_address", sa.String(71), nullable=False),
        sa.Column("sha256", sa.String(71), nullable=False),
        sa.Column("ingested_at", _MOMENT, nullable=False),
        sa.Column("ingested_by", sa.Text(), nullable=False),
        sa.Column("event_sequence", _INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_artifact_files"),
        sa.ForeignKeyConstraint(
            ["package_id"], ["artifact_packages.id"], name="fk_artifact_files_package_id"
        ),
        sa.UniqueConstraint(
            "package_id", "relative_path", name="uq_artifact_files_package_id_relative_path"
        ),
    )
    op.execute(
        sa.text(
            "INSERT INTO artifact_files SELECT file_id, package_id, relative_path, media_type, size, "
            "content_address, sha256, ingested_at, ingested_by, event_sequence FROM old_artifact_files"
        )
    )
    op.create_table(
        "storage_locations",
        sa.Column("artifact_file_id", sa.Uuid(), nullable=False),
        sa.Column("storage_location_id", sa.Uuid(), nullable=False),
        sa.Column("backend_id", sa.Text(), nullable=False),
        sa.Column("content_address", sa.String(71), nullable=False),
        sa.PrimaryKeyConstraint("artifact_file_id", name="pk_storage_locations"),
    )
    op.create_index(
        "ix_storage_locations_storage_location_id", "storage_locations", ["storage_location_id"]
    )
    op.execute(
        sa.text(
            "INSERT INTO storage_locations SELECT f.file_id, f.storage_location_id, l.backend_id, "
            "f.content_address FROM old_artifact_files f "
            "JOIN old_storage_locations l ON l.storage_location_id = f.storage_location_id"
        )
    )
    for table in ("old_artifact_files", "old_storage_locations"):
        op.drop_table(table)


def _note_imports() -> None:
    """An import's retention runs from the later of its own end and that of the import."""
    op.execute(
        sa.text(
            "UPDATE artifact_packages SET "
            "imported_at = (SELECT e.created_at FROM events e "
            "WHERE e.package_id = artifact_packages.id AND e.event_type = 'v1.package.imported'), "
            "imported_by = (SELECT e.actor FROM events e "
            "WHERE e.package_id = artifact_packages.id AND e.event_type = 'v1.package.imported') "
            "WHERE id IN (SELECT package_id FROM events WHERE event_type = 'v1.package.imported')"
        )
    )
    connection = op.get_bind()
    states = sa.table(
        "retention_state",
        sa.column("package_id", sa.Uuid()),
        sa.column("retention_days", _INTEGER),
        sa.column("retain_until", _MOMENT),
    )
    packages = sa.table(
        "artifact_packages", sa.column("id", sa.Uuid()), sa.column("imported_at", _MOMENT)
    )
    wanted = sa.select(states.c.package_id, states.c.retention_days, packages.c.imported_at).where(
        states.c.package_id == packages.c.id,
        packages.c.imported_at.is_not(None),
        states.c.retention_days.is_not(None),
    )
    for package_id, days, imported_at in connection.execute(wanted).all():
        is_text = isinstance(imported_at, str)
        moment = datetime.fromisoformat(imported_at) if is_text else imported_at
        try:
            end = moment + timedelta(days=days)
        except OverflowError:
            end = None
        value = end.isoformat(timespec="milliseconds") if is_text and end is not None else end
        change = states.update().where(states.c.package_id == package_id)
        if value is not None:
            change = change.where(states.c.retain_until < value)
        connection.execute(change.values(retain_until=value))
