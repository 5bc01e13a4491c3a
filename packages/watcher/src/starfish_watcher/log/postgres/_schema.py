"""The tables of a `PostgresEventLog`: how they are made, found and named."""

from __future__ import annotations

import re
import uuid
from typing import Any, Final, NamedTuple

from psycopg import Connection, sql

from starfish_watcher.errors import StoreDamagedError, StoreFormatError

__all__ = (
    "CHECKED_COLUMNS",
    "COLUMNS",
    "HEAD",
    "SchemaState",
    "check_schema_name",
    "prepare_schema",
)

COLUMNS: Final = (
    "sequence, entity, scope, clock, kind, event_id, timestamp_us, correlation_id, causation_id,"
    " payload, previous_hash, event_hash, metadata"
)
"""Of an event, in the order of the fields of the class `Event`."""
CHECKED_COLUMNS: Final = f"{COLUMNS}, payload_check"
"""And the CRC-32 of its payload; null in rows of format 1."""
HEAD: Final = "generation, sequence, event_hash, removed"
"""Of an entity, in the order of the fields of `EntityHead`."""
FORMAT_VERSION: Final = 2
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


_TO_FORMAT_2: Final = """
    ALTER TABLE {schema}.events ADD COLUMN metadata BYTEA, ADD COLUMN payload_check BIGINT;
    CREATE INDEX events_by_kind ON {schema}.events (kind, sequence);
    CREATE INDEX events_by_scope ON {schema}.events (scope, sequence);
    ALTER TABLE {schema}.entities ADD COLUMN removed_in BIGINT NOT NULL DEFAULT 0;
    CREATE INDEX entities_by_removal ON {schema}.entities (removed_in) WHERE removed_in > 0;
    ALTER TABLE {schema}.log ADD COLUMN removals BIGINT NOT NULL DEFAULT 0,
        ADD COLUMN newest_id BYTEA;
    CREATE TABLE {schema}.removed (sequence BIGINT PRIMARY KEY, mark BYTEA NOT NULL);
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
        ValueError: it may not; the message says which names may.
    """
    if not _SCHEMA_NAME.fullmatch(schema) or schema.lower().startswith("pg_"):
        msg = (
            f"schema {schema[:80]!r} is refused: it must be 1 to 63 ASCII letters, digits and '_', "
            "the first one not a digit, and not 'pg_' at the start"
        )
        raise ValueError(msg)


def prepare_schema(
    connection: Connection[tuple[Any, ...]], schema: str, location: str
) -> SchemaState:
    """Make the tables where they are missing, or check those that are there.

    Raises:
        StoreDamagedError: the tables are something else.
        StoreFormatError: a later version made them.
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
                    "INSERT INTO {}.log (id, format_version, store_id) VALUES (1, 1, {})"
                ).format(sql.Identifier(schema), uuid.uuid4().hex)
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
        if version > FORMAT_VERSION:
            raise StoreFormatError(location, version, FORMAT_VERSION)
        if version == 1:
            connection.execute(sql.SQL(_TO_FORMAT_2).format(schema=sql.Identifier(schema)))
            connection.execute(
                sql.SQL("UPDATE {}.log SET format_version = 2").format(sql.Identifier(schema))
            )
    return SchemaState(store_id, closings)
