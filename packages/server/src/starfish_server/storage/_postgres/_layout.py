"""The tables and the one function of `PostgresObjectStore`, and how a database gets them.

A layout that was released is never changed here: the next one gets a number of its own, and its
functions get new names, so that servers of two releases can share a database while one goes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from starfish_server.storage._positions import new_stamp

__all__ = ("LAYOUTS", "LayoutError", "is_current", "migrate")

Run: TypeAlias = Callable[..., Awaitable[Any]]
"""Runs a statement within the transaction of the migration, and gives its rows."""

APPLICATION = "starfish-server"

_TABLES = (
    # Sorted as the contract sorts: by code point, which is the order of UTF-8 bytes.
    """CREATE TABLE {s}.document (
        key text COLLATE "C" PRIMARY KEY,
        write_id bigint NOT NULL,
        generation bigint NOT NULL,
        written_at bigint NOT NULL,
        expires_at bigint,
        size bigint NOT NULL,
        hash text,
        content_type text NOT NULL,
        upload bigint,
        value bytea NOT NULL
    )""",
    "CREATE INDEX document_expiry ON {s}.document (expires_at) WHERE expires_at IS NOT NULL",
    # Large values in parts, so that a part of them is read, or added, at the cost of the part.
    """CREATE TABLE {s}.part (
        upload bigint NOT NULL,
        number integer NOT NULL,
        bytes bytea STORAGE EXTERNAL NOT NULL,
        PRIMARY KEY (upload, number)
    )""",
    # Parts that belong to no value: not yet, or not any more (started_at 0).
    "CREATE TABLE {s}.upload (id bigint PRIMARY KEY, started_at bigint NOT NULL)",
    "CREATE INDEX upload_age ON {s}.upload (started_at)",
    """CREATE TABLE {s}.change (
        sequence bigint PRIMARY KEY,
        key text COLLATE "C" NOT NULL,
        place text NOT NULL,
        generation bigint NOT NULL,
        hash text NOT NULL,
        timestamp bigint NOT NULL,
        identity text,
        deleted boolean NOT NULL
    )""",
    "CREATE INDEX change_by_key ON {s}.change (key, sequence)",
    "CREATE TABLE {s}.log (epoch text NOT NULL, floor bigint NOT NULL)",
    "CREATE TABLE {s}.start (began bigint PRIMARY KEY, stamp text NOT NULL UNIQUE)",
)

_WRITE = """
CREATE FUNCTION {s}.write_1(
    p_stamp text, p_channel text, p_now bigint, p_lock bigint,
    p_steps integer[], p_keys text[], p_deletes boolean[], p_conditions integer[],
    p_expected bigint[], p_write_ids bigint[], p_written bigint[], p_expires bigint[],
    p_sizes bigint[], p_hashes text[], p_types text[], p_uploads bigint[], p_values bytea[],
    p_places text[], p_change_hashes text[], p_timestamps bigint[], p_identities text[]
) RETURNS TABLE (
    r_outcome integer, r_generation bigint, r_position text, r_write_id bigint, r_size bigint,
    r_type text, r_hash text, r_written bigint, r_expires bigint, r_freed boolean
) LANGUAGE plpgsql AS $function$
DECLARE
    v record;
    d record;
    v_epoch text;
    v_label text;
    v_last bigint;
    v_first bigint;
    v_live boolean;
    v_holds boolean;
    v_failed bigint;
    v_refused bigint := 0;
    v_until bigint := 0;
BEGIN
    -- One writer at a time, from here to the commit: no change can come in below a position
    -- that was read. The client sends nothing in between, so it cannot hold the lock by dying.
    PERFORM pg_advisory_xact_lock(p_lock);
    SELECT l.epoch INTO STRICT v_epoch FROM {s}.log AS l;
    SELECT coalesce(max(c.sequence), 0) INTO v_last FROM {s}.change AS c;
    SELECT t.stamp INTO v_label FROM {s}.start AS t ORDER BY t.began DESC LIMIT 1;
    v_first := v_last;
    FOR v IN
        SELECT * FROM unnest(
            p_steps, p_keys, p_deletes, p_conditions, p_expected, p_write_ids, p_written,
            p_expires, p_sizes, p_hashes, p_types, p_uploads, p_values, p_places,
            p_change_hashes, p_timestamps, p_identities
        ) WITH ORDINALITY AS u(
            steps, key, is_delete, condition, expected, write_id, written, expires, size, hash,
            content_type, upload, value, place, change_hash, at, identity, number
        ) ORDER BY u.number
    LOOP
        IF v.steps > 1 THEN  -- the first of several that happen together
            SELECT u.number INTO v_failed
            FROM unnest(
                p_keys[v.number : v.number + v.steps - 1],
                p_conditions[v.number : v.number + v.steps - 1],
                p_expected[v.number : v.number + v.steps - 1]
            ) WITH ORDINALITY AS u(key, condition, expected, number)
            LEFT JOIN {s}.document AS e
                ON e.key = u.key AND (e.expires_at IS NULL OR e.expires_at > p_now)
            WHERE NOT CASE u.condition
                WHEN 0 THEN true
                WHEN 1 THEN e.key IS NULL
                ELSE coalesce(e.write_id = u.expected, false)
            END
            ORDER BY u.number LIMIT 1;
            IF FOUND THEN
                v_refused := v.number + v_failed - 1;
                v_until := v.number + v.steps - 1;
            END IF;
        END IF;
        r_generation := NULL; r_position := NULL; r_write_id := NULL; r_freed := false;
        IF v.number <= v_until AND v.number <> v_refused THEN
            r_outcome := 4;
            RETURN NEXT;
            CONTINUE;
        END IF;
        SELECT e.write_id, e.generation, e.written_at, e.expires_at, e.size, e.hash,
            e.content_type, e.upload
            INTO d FROM {s}.document AS e WHERE e.key = v.key;
        v_live := FOUND AND (d.expires_at IS NULL OR d.expires_at > p_now);
        v_holds := CASE v.condition
            WHEN 0 THEN true
            WHEN 1 THEN NOT v_live
            WHEN 2 THEN v_live AND coalesce(d.write_id = v.expected, false)
            ELSE coalesce(d.expires_at <= v.expected, false)  -- a value that is due
        END;
        IF NOT v_holds THEN
            r_outcome := 0;
            IF v_live THEN
                r_generation := d.generation; r_write_id := d.write_id; r_size := d.size;
                r_type := d.content_type; r_hash := d.hash; r_written := d.written_at;
                r_expires := d.expires_at;
            END IF;
            RETURN NEXT;
            CONTINUE;
        END IF;
        IF v.upload IS NOT NULL THEN
            DELETE FROM {s}.upload AS w WHERE w.id = v.upload;
            IF NOT FOUND THEN
                r_outcome := 3;
                RETURN NEXT;
                CONTINUE;
            END IF;
        END IF;
        IF d.write_id IS NOT NULL THEN
            r_generation := d.generation + 1;
        ELSIF NOT v.is_delete THEN
            SELECT c.generation + 1 INTO r_generation
                FROM {s}.change AS c WHERE c.key = v.key ORDER BY c.sequence DESC LIMIT 1;
            r_generation := coalesce(r_generation, 1);
        END IF;
        IF v.is_delete THEN
            r_outcome := CASE WHEN v_live OR v.condition = 3 THEN 1 ELSE 2 END;
            IF d.write_id IS NOT NULL THEN
                DELETE FROM {s}.document AS e WHERE e.key = v.key;
            END IF;
        ELSE
            r_outcome := 1;
            r_written := v.written;
            IF d.write_id IS NULL THEN
                INSERT INTO {s}.document VALUES (
                    v.key, v.write_id, r_generation, v.written, v.expires, v.size, v.hash,
                    v.content_type, v.upload, v.value);
            ELSE
                UPDATE {s}.document AS e SET write_id = v.write_id, generation = r_generation,
                    written_at = v.written, expires_at = v.expires, size = v.size,
                    hash = v.hash, content_type = v.content_type, upload = v.upload,
                    value = v.value
                    WHERE e.key = v.key;
            END IF;
        END IF;
        IF d.upload IS NOT NULL THEN  -- its parts go later, in steps, without the lock
            INSERT INTO {s}.upload VALUES (d.upload, 0);
            r_freed := true;
        END IF;
        IF v.place IS NOT NULL AND r_outcome = 1 THEN
            IF v_label IS DISTINCT FROM p_stamp THEN
                INSERT INTO {s}.start VALUES (v_last, p_stamp) ON CONFLICT DO NOTHING;
                IF FOUND THEN
                    v_label := p_stamp;
                    DELETE FROM {s}.start AS t WHERE t.began < (
                        SELECT o.began FROM {s}.start AS o
                        ORDER BY o.began DESC OFFSET 1000 LIMIT 1);
                END IF;
            END IF;
            v_last := v_last + 1;
            INSERT INTO {s}.change VALUES (
                v_last, v.key, v.place, r_generation,
                CASE WHEN v.is_delete THEN '' ELSE v.change_hash END,
                v.at, v.identity, v.is_delete);
            r_position := v_epoch || '-' || v_label || '-' || v_last;
        END IF;
        RETURN NEXT;
    END LOOP;
    IF v_last > v_first THEN
        PERFORM pg_notify(p_channel, v_last::text);
    END IF;
END
$function$
"""

LAYOUTS: tuple[tuple[str, ...], ...] = ((*_TABLES, _WRITE),)
"""What each layout adds to the one before."""


class LayoutError(Exception):
    """A schema holds something else; the message says what."""


async def is_current(run: Run, schema: str) -> bool:
    """Whether a schema has the tables of this release; needs no right to create anything.

    Raises:
        LayoutError: the schema holds tables of something else, or of a later release.
    """
    return await _layout_of(run, schema) == len(LAYOUTS)


async def migrate(run: Run, schema: str, lock: int) -> None:
    """Make the tables of a schema, or bring those of an older release up to date.

    Args:
        run: within one new transaction; a backend that has looked at the catalogue before the
            lock would not see what another server has made meanwhile.
        schema: its name, which is a plain identifier.
        lock: of the advisory lock under which one server does it at a time.

    Raises:
        LayoutError: the schema holds tables of something else, or of a later release.
    """
    await run("SELECT pg_advisory_xact_lock($1)", lock)
    version = await _layout_of(run, schema)
    if version is None:
        version = 0
        await run(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        await run(f"CREATE TABLE {schema}.starfish_layout (application text, version integer)")
        await run(f"INSERT INTO {schema}.starfish_layout VALUES ($1, 0)", APPLICATION)  # noqa: S608
    for layout in LAYOUTS[version:]:
        for statement in layout:
            await run(statement.replace("{s}", schema))
    if version == 0:
        await run(f"INSERT INTO {schema}.log VALUES ($1, 0)", new_stamp())  # noqa: S608  checked
    await run(f"UPDATE {schema}.starfish_layout SET version = {len(LAYOUTS)}")  # noqa: S608


async def _layout_of(run: Run, schema: str) -> int | None:
    found = await run(
        "SELECT c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
        "WHERE n.nspname = $1 ORDER BY c.relname <> 'starfish_layout' LIMIT 1",
        schema,
    )
    if not found:
        return None
    if found[0][0] != "starfish_layout":
        raise LayoutError(
            f"the schema {schema!r} holds {found[0][0]!r}, which is not of a document store"
        )
    rows = await run(f"SELECT application, version FROM {schema}.starfish_layout")  # noqa: S608
    return _version(rows, schema)


def _version(rows: list[tuple[str, int]], schema: str) -> int:
    application, version = rows[0] if len(rows) == 1 else ("", 0)
    if application != APPLICATION:
        raise LayoutError(f"the schema {schema!r} is of another application")
    if version > len(LAYOUTS):
        raise LayoutError(
            f"the schema {schema!r} has layout {version}; this release reads up to {len(LAYOUTS)}"
        )
    return version
