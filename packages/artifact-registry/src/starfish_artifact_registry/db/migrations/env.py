"""How Alembic reaches the database: over the connection that `db.migrate` hands it."""
# ruff: noqa: INP001 - scripts that Alembic loads by path; no package

from __future__ import annotations

from alembic import context

from starfish_artifact_registry.db.schema import metadata, registry_revision

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=registry_revision.name,
    # SQLite has transactions for tables too, once one has begun; db.migrate begins it.
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
