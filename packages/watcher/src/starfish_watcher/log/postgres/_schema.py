"""The tables of a `PostgresEventLog`: how they are made, found and named."""

from __future__ import annotations

import re
import uuid
from typing import Any, Final, NamedTuple

from psycopg import Connection, sql

from starfish_watcher.errors import StoreDamagedError

__all__ = ("COLUMNS", "HEAD", "SchemaState", "check_schema_name", "prepare_schema")

COLUMNS: Final = (
    "sequence, entity, scope, clock, kind, event_id, timestamp_us, correlation_id, causation_id,"
    " payload, previous_hash, event_hash"
)
"""Of an event, in the order of the fields of the class `Event`."""
HEAD: Final = "generation, sequence, event_hash, removed"
"""Of an entity, in the order of the fields of `EntityHead`."""
FORMAT_VERSION: Final = 1
_SCHEMA_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_TABLES: Final = """
    CREATE SCHEMA IF NOT EXISTS {schema};
    CREATE TABLE {schema}.events (
        sequence BIGINT PRIMARY KEY,
        entity TEXT COLLATE "C" NOT NULL,
        scope TEXT COLLATE "C" NOT NULL,
        clock BIGINT NOT NULL,
        kind INTEGER NOT NULL,
        event_id BYTEA NOT NULL UNIQUE,
        timestamp_us BIGINT NOT NULL,
        correlation_id BYTEA,
        causation_id BYTEA,
        payload BYTEA NOT NULL,
        previous_hash BYTEA NOT NULL,
        event_hash BYTEA NOT NULL
    );
    CREATE INDEX events_by_entity ON {schema}.events (entity, sequence);
    CREATE TABLE {schema}.entities (
        entity TEXT COLLATE "C" PRIMARY KEY,
        generation BIGINT NOT NULL,
        sequence BIGINT NOT NULL,
        event_hash BYTEA NOT NULL,
        removed BIGINT NOT NULL DEFAULT 0
    ) WITH (fillfactor = 80);
    CREATE TABLE {schema}.idempotency (
        key BYTEA PRIMARY KEY,
        content BYTEA NOT NULL,
        event_id BYTEA NOT NULL,
        sequence BIGINT NOT NULL,
        clock BIGINT NOT NULL,
        event_hash BYTEA NOT NULL
    );
    CREATE TABLE {schema}.log (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        format_version INTEGER NOT NULL,
        store_id TEXT NOT NULL,
        last_sequence BIGINT NOT NULL DEFAULT 0,
        closings BIGINT NOT NULL DEFAULT 0,
        flushes BIGINT NOT NULL DEFAULT 0
    ) WITH (fillfactor = 10);
"""


class SchemaState(NamedTuple):
    """What the tables said when they were opened."""

    store_id: str
    """What tells this store from all others."""
    closings: int
    """How often somebody closed it everywhere."""


def check_schema_name(schema: str) -> None:
    """Return when ``schema`` may name the schema of a store.

    Raises:
        ValueError: it may not; the message says what is legal.
    """
    if not _SCHEMA_NAME.fullmatch(schema) or schema.lower().startswith("pg_"):
        msg = (
            f"schema {schema[:80]!r} is refused: 1 to 63 ASCII letters, digits and '_' are legal, "
            "the first one not a digit, and not 'pg_' at the start"
        )
        raise ValueError(msg)


def prepare_schema(
    connection: Connection[tuple[Any, ...]], schema: str, location: str
) -> SchemaState:
    """Make the tables where they are missing, or check those that are there.

    Raises:
        StoreDamagedError: the tables are something else, or of another version.
    """
    encoding = connection.execute("SHOW server_encoding").fetchone()
    if encoding != ("UTF8",):
        msg = f"the database's encoding is {encoding and encoding[0]}, it must be UTF8"
        raise StoreDamagedError(location, msg)
    with connection.transaction():
        # Two processes may open a new store at once, and CREATE ... IF NOT EXISTS races with itself.
        connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"starfish:{schema}",)
        )
        found = connection.execute(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = %s AND c.relname IN ('events', 'entities', 'idempotency', 'log')",
            (schema,),
        ).fetchall()
        if not found:
            connection.execute(sql.SQL(_TABLES).format(schema=sql.Identifier(schema)))
            connection.execute(
                sql.SQL(
                    "INSERT INTO {}.log (id, format_version, store_id) VALUES (1, {}, {})"
                ).format(sql.Identifier(schema), FORMAT_VERSION, uuid.uuid4().hex)
            )
        elif len(found) != 4:
            names = ", ".join(sorted(name for (name,) in found))
            raise StoreDamagedError(location, f"of its tables only {names} are there")
        row = connection.execute(
            sql.SQL("SELECT store_id, closings, format_version FROM {}.log").format(
                sql.Identifier(schema)
            )
        ).fetchone()
    if row is None:
        raise StoreDamagedError(location, "its head row is missing")
    store_id, closings, version = row
    if version != FORMAT_VERSION:
        raise StoreDamagedError(
            location, f"its format is {version}, this version reads {FORMAT_VERSION}"
        )
    return SchemaState(store_id, closings)
