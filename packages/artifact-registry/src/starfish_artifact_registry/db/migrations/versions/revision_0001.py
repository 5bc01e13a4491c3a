"""The first tables."""
# ruff: noqa: INP001 - a script that Alembic loads by path; no package

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_MOMENT = sa.String(29).with_variant(sa.TIMESTAMP(timezone=True), "postgresql")

_APPEND_ONLY = {
    "sqlite": (
        """CREATE TRIGGER events_refuse_update BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'the event log is append-only: UPDATE is refused'); END""",
        """CREATE TRIGGER events_refuse_delete BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'the event log is append-only: DELETE is refused'); END""",
        """CREATE TRIGGER events_refuse_replace BEFORE INSERT ON events
WHEN EXISTS (SELECT 1 FROM events WHERE sequence = NEW.sequence OR event_id = NEW.event_id)
BEGIN SELECT RAISE(ABORT, 'the event log is append-only: REPLACE is refused'); END""",
    ),
    "postgresql": (
        """CREATE OR REPLACE FUNCTION events_refuse_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'the event log is append-only: % is refused', TG_OP; END $$""",
        """CREATE TRIGGER events_refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON events
FOR EACH STATEMENT EXECUTE FUNCTION events_refuse_change()""",
    ),
}


def upgrade() -> None:
    """Make the tables, their indexes, and the triggers that keep the log as it is."""
    _create_log()
    _create_packages()
    _create_files()
    _create_retention()


def _create_log() -> None:
    op.create_table(
        "events",
        sa.Column("sequence", _INTEGER, autoincrement=False, nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("package_id", sa.Uuid(), nullable=False),
        sa.Column("event_type", sa.String(64), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("payload_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("prev_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("event_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_events"),
        sa.UniqueConstraint("event_id", name="uq_events_event_id"),
    )
    op.create_index("ix_events_package_id_sequence", "events", ["package_id", "sequence"])
    for statement in _APPEND_ONLY[op.get_bind().dialect.name]:
        op.execute(sa.text(statement))


def _create_packages() -> None:
    op.create_table(
        "artifact_packages",
        sa.Column("package_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("producer", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("retention_class", sa.Text(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("file_count", _INTEGER, nullable=False),
        sa.Column("total_bytes", _INTEGER, nullable=False),
        sa.Column("manifest_digest", sa.String(71)),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("finalized_at", _MOMENT),
        sa.Column("finalized_by", sa.Text()),
        sa.Column("last_event_sequence", _INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("package_id", name="pk_artifact_packages"),
    )
    for first in ((), ("name",), ("producer",), ("subject",), ("retention_class",), ("status",)):
        columns = [*first, "created_at", "package_id"]
        op.create_index("_".join(("ix_artifact_packages", *columns)), "artifact_packages", columns)
    op.create_table(
        "artifact_metadata",
        sa.Column("package_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("package_id", "key", name="pk_artifact_metadata"),
        sa.ForeignKeyConstraint(
            ["package_id"],
            ["artifact_packages.package_id"],
            name="fk_artifact_metadata_package_id",
        ),
    )
    op.create_index(
        "ix_artifact_metadata_key_value_package_id",
        "artifact_metadata",
        ["key", "value", "package_id"],
    )


def _create_files() -> None:
    op.create_table(
        "storage_locations",
        sa.Column("storage_location_id", sa.Uuid(), nullable=False),
        sa.Column("backend_id", sa.Text(), nullable=False),
        sa.Column("content_address", sa.String(71), nullable=False),
        sa.Column("size", _INTEGER, nullable=False),
        sa.Column("first_event_sequence", _INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("storage_location_id", name="pk_storage_locations"),
        sa.UniqueConstraint(
            "backend_id", "content_address", name="uq_storage_locations_backend_id_content_address"
        ),
    )
    op.create_table(
        "collected_content",
        sa.Column("storage_location_id", sa.Uuid(), nullable=False),
        sa.Column("collected_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("storage_location_id", name="pk_collected_content"),
    )
    op.create_table(
        "artifact_files",
        sa.Column("file_id", sa.Uuid(), nullable=False),
        sa.Column("package_id", sa.Uuid(), nullable=False),
        sa.Column("relative_path", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("size", _INTEGER, nullable=False),
        sa.Column("content_address", sa.String(71), nullable=False),
        sa.Column("sha256", sa.String(71), nullable=False),
        sa.Column("storage_location_id", sa.Uuid(), nullable=False),
        sa.Column("ingested_at", _MOMENT, nullable=False),
        sa.Column("ingested_by", sa.Text(), nullable=False),
        sa.Column("event_sequence", _INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("file_id", name="pk_artifact_files"),
        sa.ForeignKeyConstraint(
            ["package_id"], ["artifact_packages.package_id"], name="fk_artifact_files_package_id"
        ),
        sa.ForeignKeyConstraint(
            ["storage_location_id"],
            ["storage_locations.storage_location_id"],
            name="fk_artifact_files_storage_location_id",
        ),
        sa.UniqueConstraint(
            "package_id", "relative_path", name="uq_artifact_files_package_id_relative_path"
        ),
    )
    op.create_index(
        "ix_artifact_files_storage_location_id", "artifact_files", ["storage_location_id"]
    )


def _create_retention() -> None:
    op.create_table(
        "retention_classes",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("duration_days", sa.Integer()),
        sa.PrimaryKeyConstraint("name", name="pk_retention_classes"),
    )
    op.create_table(
        "retention_state",
        sa.Column("package_id", sa.Uuid(), nullable=False),
        sa.Column("retention_days", _INTEGER),
        sa.Column("retain_until", _MOMENT),
        sa.Column("holds", sa.Text(), nullable=False),
        sa.Column("expired_at", _MOMENT),
        sa.Column("deleted_at", _MOMENT),
        sa.PrimaryKeyConstraint("package_id", name="pk_retention_state"),
        sa.ForeignKeyConstraint(
            ["package_id"], ["artifact_packages.package_id"], name="fk_retention_state_package_id"
        ),
    )
    op.create_index("ix_retention_state_retain_until", "retention_state", ["retain_until"])
