"""Bring the tables of a database to the revision that this version of the package works with.

Rule 1: one transaction, so that an interrupted migration leaves the tables as they were. Rule 2: a
released migration is never changed; what it makes is written out in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from starfish_artifact_registry.db._database import translated_errors
from starfish_artifact_registry.db._revision import revision_on
from starfish_artifact_registry.db.schema import SCHEMA_REVISION, retention_classes
from starfish_artifact_registry.db.seed import RETENTION_CLASS_SEEDS
from starfish_artifact_registry.errors import SchemaRevisionError

__all__ = ("migrate",)

_SCRIPTS: Final = Path(__file__).parent / "migrations"
_BEGIN: Final = {
    # Python's driver begins a transaction for rows only, not for tables.
    "sqlite": "BEGIN IMMEDIATE",
    "postgresql": "SELECT pg_advisory_xact_lock(hashtext('artifact_registry_revision'))",
}


async def migrate(engine: AsyncEngine, revision: str = "head") -> str | None:
    """Upgrade the tables, or make them; the revision that they had before.

    Where there were none, the retention classes of `RETENTION_CLASS_SEEDS` are inserted too. Several
    processes may do this at once: the others wait and find it done. Scripts are read from disk on
    the event loop, so this is for a program's start.

    Args:
        engine: the database.
        revision: where to stop; the newest if not said.

    Raises:
        DatabaseUnavailableError: the database does not answer; the tables are as before.
        SchemaRevisionError: they are of a newer version, or were made by something else.
    """
    with translated_errors():
        async with engine.connect() as connection:
            await connection.execute(text(_BEGIN[engine.dialect.name]))
            before = await connection.run_sync(revision_on)
            await connection.run_sync(_upgrade, before, revision)
            if before is None:
                await connection.execute(retention_classes.insert(), RETENTION_CLASS_SEEDS)
            await connection.commit()
    return before


def _upgrade(connection: Connection, before: str | None, revision: str) -> None:
    # A percent sign in the folder's name would be an interpolation in Alembic's configuration.
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    try:
        command.upgrade(config, revision)
    except CommandError as error:
        raise SchemaRevisionError(before, SCHEMA_REVISION, str(error)) from error
