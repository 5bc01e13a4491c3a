"""Migrations end in the same tables as ``create_all``, from wherever they start."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from starfish_artifact_registry.db import schema
from starfish_artifact_registry.db.schema import SCHEMA_REVISION, create_schema, metadata
from starfish_artifact_registry.db.seed import RETENTION_CLASS_SEEDS
from starfish_artifact_registry.errors import SchemaRevisionError

pytest.importorskip("alembic", reason="needs the extra cli")

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from starfish_artifact_registry.db import migrate as migrate_module
from starfish_artifact_registry.db._revision import check_revision, revision_of
from starfish_artifact_registry.db.migrate import migrate

EmptyDatabase = Callable[[], AsyncEngine]
BOOKKEEPING = schema.registry_revision.name
POSTGRESQL = {
    "columns": """SELECT table_name, ordinal_position, column_name, is_nullable, column_default,
        udt_name, character_maximum_length, datetime_precision
        FROM information_schema.columns WHERE table_schema = 'public'""",
    "constraints": """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace""",
    "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "triggers": """SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid)
        FROM pg_trigger WHERE NOT tgisinternal""",
    "functions": """SELECT proname, prosrc FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace""",
}


@pytest.fixture(autouse=True)
def nothing_of_ours_blocks_the_event_loop() -> None:
    """Alembic reads its scripts from disk: a migration does not belong on a loop that serves."""


async def described(engine: AsyncEngine) -> set[Any]:
    """Everything that the database itself knows of its tables."""
    async with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            return {
                (what, *row)
                for what, query in POSTGRESQL.items()
                for row in (await connection.execute(text(query))).all()
                if row[0] != BOOKKEEPING
            }
        rows = await connection.execute(
            text("SELECT name, sql FROM sqlite_master WHERE tbl_name != :own AND sql IS NOT NULL"),
            {"own": BOOKKEEPING},
        )
        return {(name, statement(sql)) for name, sql in rows.all()}


def statement(sql: str) -> Any:
    """A statement without its layout; of a table, its parts in no order after the name."""
    plain = re.sub(r"\s+", " ", sql).replace(" ,", ",").strip()
    if not plain.startswith("CREATE TABLE"):
        return plain
    head, _, body = plain.partition(" (")
    return head, frozenset(part.strip(" )") for part in re.split(r", (?![^(]*\))", body))


async def test_migrations_make_the_tables_that_create_all_makes(
    empty_database: EmptyDatabase,
) -> None:
    made, migrated = empty_database(), empty_database()

    await create_schema(made)
    assert await migrate(migrated) is None

    assert await described(migrated) ^ await described(made) == set()
    async with migrated.connect() as connection:
        found = await connection.run_sync(
            lambda sync: compare_metadata(
                MigrationContext.configure(sync, opts={"version_table": BOOKKEEPING}), metadata
            )
        )
    assert found == []


async def test_tables_made_by_create_all_know_their_revision(
    empty_database: EmptyDatabase,
) -> None:
    engine = empty_database()
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    before = await described(engine)

    assert await migrate(engine) == SCHEMA_REVISION

    assert await described(engine) == before
    await check_revision(engine)


async def test_an_empty_database_gets_the_retention_classes_once(
    empty_database: EmptyDatabase,
) -> None:
    engine = empty_database()
    await migrate(engine)
    async with engine.begin() as connection:
        await connection.execute(
            schema.retention_classes.delete().where(schema.retention_classes.c.name == "derived")
        )

    await migrate(engine)

    async with engine.connect() as connection:
        names = (await connection.execute(select(schema.retention_classes.c.name))).scalars().all()
    assert set(names) == {seed["name"] for seed in RETENTION_CLASS_SEEDS} - {"derived"}


async def test_a_migrated_log_refuses_changes(empty_database: EmptyDatabase) -> None:
    engine = empty_database()
    await migrate(engine)
    async with engine.begin() as connection:
        await connection.execute(insert(schema.events), [event_row()])

    for change in ("UPDATE events SET actor = 'eve'", "DELETE FROM events"):
        with pytest.raises(Exception, match="append-only"):
            async with engine.begin() as connection:
                await connection.execute(text(change))


def event_row() -> dict[str, Any]:
    from datetime import UTC, datetime
    from uuid import UUID

    return {
        "sequence": 1,
        "event_id": UUID(int=1),
        "package_id": UUID(int=2),
        "event_type": "v1.package.created",
        "payload": b"",
        "payload_digest": bytes(32),
        "prev_digest": bytes(32),
        "event_digest": bytes(32),
        "actor": "ada",
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
    }


@pytest.mark.usefixtures("repetition")
async def test_processes_that_migrate_at_once_do_not_meet(empty_database: EmptyDatabase) -> None:
    engine = empty_database()

    found = await asyncio.gather(*(migrate(engine) for _ in range(4)))

    assert sorted(found, key=str) == [SCHEMA_REVISION, SCHEMA_REVISION, SCHEMA_REVISION, None]


async def test_a_migration_that_fails_leaves_nothing(
    empty_database: EmptyDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = empty_database()
    too_many = [*RETENTION_CLASS_SEEDS, RETENTION_CLASS_SEEDS[0]]
    monkeypatch.setattr(migrate_module, "RETENTION_CLASS_SEEDS", too_many)
    before = await described(engine)

    with pytest.raises(Exception, match=r"(?i)unique"):
        await migrate(engine)

    assert await described(engine) == before
    assert await revision_of(engine) is None


async def test_a_database_without_tables_is_no_registry(empty_database: EmptyDatabase) -> None:
    with pytest.raises(SchemaRevisionError, match="no known revision"):
        await check_revision(empty_database())


async def test_tables_of_a_newer_version_are_left_alone(empty_database: EmptyDatabase) -> None:
    engine = empty_database()
    await create_schema(engine)
    async with engine.begin() as connection:
        await connection.execute(schema.registry_revision.update().values(version_num="9999"))

    for call in (check_revision, migrate):
        with pytest.raises(SchemaRevisionError, match="9999"):
            await call(engine)


async def test_a_table_of_somebody_else_is_not_taken_over(empty_database: EmptyDatabase) -> None:
    engine = empty_database()
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE events (at INTEGER)"))

    with pytest.raises(SchemaRevisionError, match="not made by this package"):
        await migrate(engine)


def test_the_newest_script_is_the_revision_of_the_tables() -> None:
    config = Config()
    scripts = Path(migrate_module.__file__).parent / "migrations"
    config.set_main_option("script_location", str(scripts))
    config.set_main_option("path_separator", "os")

    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA_REVISION]
