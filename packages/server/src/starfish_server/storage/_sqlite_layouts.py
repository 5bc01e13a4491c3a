"""The tables of `SqliteObjectStore`, as the steps from each layout to the next.

Rule: a step is never changed once it was released; files of every layout are migrated for ever.
"""

from __future__ import annotations

__all__ = ("APPLICATION_ID", "LAYOUTS")

APPLICATION_ID = 0x53544653
"""``STFS`` in the header of the file: how one of ours is told from any other database."""

_DOCUMENTS = (
    # A table with a row id: documents of kilobytes would make the pages of a key tree sparse.
    """CREATE TABLE document (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        revision INTEGER NOT NULL,
        content_type TEXT,
        value BLOB NOT NULL
    )""",
    "CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    "INSERT INTO counter (name, value) VALUES ('revision', 0)",
)

_CHANGES = (
    """CREATE TABLE change (
        sequence INTEGER PRIMARY KEY,
        collection TEXT NOT NULL,
        params TEXT NOT NULL,
        key TEXT NOT NULL,
        generation INTEGER NOT NULL,
        hash TEXT NOT NULL,
        timestamp INTEGER NOT NULL,
        namespace TEXT,
        identity TEXT
    )""",
    "CREATE INDEX change_by_key ON change (key, sequence)",
)

_WRITTEN = "';starfish-written='"
"""Layout 2 kept the time of a blob within its content type."""

_METADATA = (
    "ALTER TABLE document RENAME TO document_2",
    # The number of the write is the etag. Rows from before there were such numbers have the
    # negative of its revision, which was its etag. The value is last, so that reading the columns before it never passes through its pages.
    """CREATE TABLE document (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        write_id INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        written_at INTEGER NOT NULL,
        expires_at INTEGER,
        size INTEGER NOT NULL,
        hash TEXT,
        content_type TEXT,
        upload INTEGER,
        value BLOB NOT NULL
    )""",
    f"""INSERT INTO document
        (id, key, write_id, generation, written_at, size, hash, content_type, value)
        SELECT id, key, -revision,
            coalesce((SELECT change.generation FROM change WHERE change.key = document_2.key
                ORDER BY sequence DESC LIMIT 1), 1),
            CASE
                WHEN instr(content_type, {_WRITTEN}) > 0 THEN
                    CAST(substr(content_type, instr(content_type, {_WRITTEN}) + 18) AS INTEGER)
                WHEN typeof(value) = 'text' AND json_valid(value)
                    AND typeof(json_extract(value, '$.ts')) = 'integer'
                    THEN json_extract(value, '$.ts')
                ELSE 0
            END,
            length(CAST(value AS BLOB)),
            CASE
                WHEN typeof(value) = 'text' AND json_valid(value)
                    AND typeof(json_extract(value, '$.hash')) = 'text'
                    THEN json_extract(value, '$.hash')
            END,
            CASE
                WHEN instr(content_type, {_WRITTEN}) > 0
                    THEN substr(content_type, 1, instr(content_type, {_WRITTEN}) - 1)
                ELSE content_type
            END,
            CAST(value AS BLOB)
        FROM document_2 ORDER BY id""",  # noqa: S608  no input
    "DROP TABLE document_2",
    "DROP TABLE counter",
    "CREATE INDEX document_expiry ON document (expires_at) WHERE expires_at IS NOT NULL",
    # Values above a bound, in parts: a part of them is read, or added, at the cost of the part.
    """CREATE TABLE part (
        upload INTEGER NOT NULL,
        number INTEGER NOT NULL,
        bytes BLOB NOT NULL,
        PRIMARY KEY (upload, number)
    )""",
    "CREATE TABLE upload (id INTEGER PRIMARY KEY, started_at INTEGER NOT NULL)",
    "ALTER TABLE change ADD COLUMN deleted INTEGER NOT NULL DEFAULT 0",
    "CREATE TABLE log (epoch TEXT NOT NULL, floor INTEGER NOT NULL)",
    "INSERT INTO log (epoch, floor) VALUES (lower(hex(randomblob(8))), 0)",
    "CREATE TABLE start (began INTEGER PRIMARY KEY, stamp TEXT NOT NULL)",
)

LAYOUTS: tuple[tuple[str, ...], ...] = (_DOCUMENTS, _CHANGES, _METADATA)
"""What each layout adds to the one before; a file with a greater number is left alone."""
