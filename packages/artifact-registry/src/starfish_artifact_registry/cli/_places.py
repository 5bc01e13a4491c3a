"""``init`` and ``migrate``: the place itself."""

from __future__ import annotations

import asyncio

import typer

from starfish_artifact_registry.cli._command import Session, command
from starfish_artifact_registry.cli._terminal_text import printable
from starfish_artifact_registry.db.schema import SCHEMA_REVISION

__all__ = ("add_place_commands",)


def add_place_commands(app: typer.Typer) -> None:
    """Add them to the application."""
    command(app, "init")(init)
    command(app, "migrate")(migrate)


async def init(session: Session) -> None:
    """Make a registry; one that is there already stays as it is."""
    from starfish_artifact_registry.db.migrate import migrate as migrate_tables

    place = session.place
    if place.database_file is not None:
        await asyncio.to_thread(place.database_file.parent.mkdir, parents=True, exist_ok=True)
    async with place.engine() as engine:
        before = await migrate_tables(engine)
    made = "made" if before is None else "was there already:"
    session.output.result(
        {"place": str(place), "revision": SCHEMA_REVISION, "revision_before": before},
        f"registry {made} {printable(str(place))}",
    )


async def migrate(session: Session) -> None:
    """Bring the tables of an older version to this one; back up the database before."""
    from starfish_artifact_registry.db.migrate import migrate as migrate_tables

    session.place.require()
    async with session.place.engine() as engine:
        before = await migrate_tables(engine)
    session.output.result(
        {"revision": SCHEMA_REVISION, "revision_before": before},
        f"tables have revision {SCHEMA_REVISION}"
        + ("" if before == SCHEMA_REVISION else f", before {before or 'there were none'}"),
    )
