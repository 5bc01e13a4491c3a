"""Which revision the tables of a database have."""

from __future__ import annotations

from sqlalchemy import Connection, inspect, select
from sqlalchemy.ext.asyncio import AsyncEngine

from starfish_artifact_registry.db._database import translated_errors
from starfish_artifact_registry.db.schema import SCHEMA_REVISION, events, registry_revision
from starfish_artifact_registry.errors import SchemaRevisionError

__all__ = ("check_revision", "revision_of", "revision_on")


async def revision_of(engine: AsyncEngine) -> str | None:
    """The revision of the tables, ``None`` where there are none.

    Raises:
        DatabaseUnavailableError: the database does not answer.
        SchemaRevisionError: there are tables of these names, made by something else.
    """
    with translated_errors():
        async with engine.connect() as connection:
            return await connection.run_sync(revision_on)


async def check_revision(engine: AsyncEngine) -> None:
    """Return if the tables are those that this version works with.

    Raises:
        DatabaseUnavailableError: the database does not answer.
        SchemaRevisionError: they are of another version, or there are none.
    """
    found = await revision_of(engine)
    if found != SCHEMA_REVISION:
        advice = (
            "'artifact-registry migrate' upgrades older tables; newer ones need a newer version"
        )
        raise SchemaRevisionError(found, SCHEMA_REVISION, advice)


def revision_on(connection: Connection) -> str | None:
    """The same as `revision_of`, over a connection."""
    tables = inspect(connection)
    if not tables.has_table(registry_revision.name):
        if tables.has_table(events.name):
            raise SchemaRevisionError(
                None, SCHEMA_REVISION, f"its table {events.name!r} was not made by this package"
            )
        return None
    return connection.execute(select(registry_revision.c.version_num)).scalar_one_or_none()
