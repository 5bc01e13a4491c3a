"""What `SqliteObjectStore` does within one connection; used by one thread at a time.

Rule: a reading function is called within a transaction, so all that it sees is of one moment.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from starfish_server.storage._conditions import check_condition
from starfish_server.storage._sqlite_changes import ChangeRecorder, last_generation
from starfish_server.storage.changes import ChangeRecord
from starfish_server.storage.keys import check_prefix, prefix_upper_bound
from starfish_server.storage.object_store import Delete, Entry, Step, Write
from starfish_server.storage.values import (
    ANY,
    TEXT_CONTENT_TYPE,
    Metadata,
    Position,
    Precondition,
    Removed,
    Stored,
    Written,
    new_write_id,
)

__all__ = (
    "PART_BYTES",
    "LargeValue",
    "Transaction",
    "Upload",
    "entries",
    "listing",
    "read_many",
    "read_part",
    "read_small",
    "stat",
)

PART_BYTES = 262_144
"""A longer value is kept in parts of this length."""

_MAX_INTEGER = 2**63 - 1
_ABANDONED_MS = 24 * 3600 * 1000
"""After this time an upload that was not finished is taken for one whose process has ended."""
_METADATA = "write_id, size, content_type, hash, written_at, expires_at, generation, upload"
_IS_LIVE = "(expires_at IS NULL OR expires_at > ?)"


@dataclass(frozen=True, slots=True)
class LargeValue:
    """A value in parts, which a thread for such values reads."""

    key: str


@dataclass(frozen=True, slots=True)
class Upload:
    """A body whose parts are in the file already."""

    id: int
    size: int


def _metadata(row: Sequence[Any]) -> Metadata:
    return Metadata(
        etag=str(abs(row[0])),
        size=row[1],
        content_type=row[2] or TEXT_CONTENT_TYPE,
        hash=row[3],
        written_at=row[4],
        expires_at=row[5],
        write_id=max(row[0], 0),
        generation=row[6],
    )


def read_small(connection: sqlite3.Connection, key: str, now: int) -> Stored | LargeValue | None:
    """Read a value unless it is a large one."""
    row = connection.execute(
        f"SELECT {_METADATA}, value FROM document WHERE key = ? AND {_IS_LIVE}",  # noqa: S608
        (key, now),
    ).fetchone()
    if row is None:
        return None
    return Stored(row[8], _metadata(row)) if row[7] is None else LargeValue(key)


def read_many(
    connection: sqlite3.Connection, keys: str, now: int
) -> dict[str, Stored | LargeValue]:
    """Read the values of the keys in a JSON array, the large ones excepted."""
    rows = connection.execute(
        f"SELECT {_METADATA}, value, key FROM document "  # noqa: S608  no input
        f"WHERE key IN (SELECT value FROM json_each(?)) AND {_IS_LIVE}",
        (keys, now),
    )
    return {
        row[9]: Stored(row[8], _metadata(row)) if row[7] is None else LargeValue(row[9])
        for row in rows
    }


def stat(connection: sqlite3.Connection, key: str, now: int) -> Metadata | None:
    """Tell about a value; its pages are not read."""
    row = connection.execute(
        f"SELECT {_METADATA} FROM document WHERE key = ? AND {_IS_LIVE}",  # noqa: S608  no input
        (key, now),
    ).fetchone()
    return None if row is None else _metadata(row)


def read_part(
    connection: sqlite3.Connection, key: str, first: int, last: int | None, now: int
) -> Stored | None:
    """Read the bytes of a value from an offset to another one, included."""
    if first > _MAX_INTEGER // 2:
        return _nothing(stat(connection, key, now))
    row = connection.execute(
        f"SELECT {_METADATA}, "  # noqa: S608  no input
        "CASE WHEN upload IS NULL THEN substr(value, ?, ?) ELSE x'' END "
        f"FROM document WHERE key = ? AND {_IS_LIVE}",
        (
            first + 1,
            PART_BYTES if last is None else min(max(last - first + 1, 0), PART_BYTES),
            key,
            now,
        ),
    ).fetchone()
    if row is None:
        return None
    metadata, upload = _metadata(row), row[7]
    end = metadata.size if last is None else min(last + 1, metadata.size)
    if upload is None:
        return Stored(row[8], metadata)
    if end <= first:
        return Stored(b"", metadata)
    numbers = (first // PART_BYTES, (end - 1) // PART_BYTES)
    parts = connection.execute(
        "SELECT bytes FROM part WHERE upload = ? AND number BETWEEN ? AND ? ORDER BY number",
        (upload, *numbers),
    )
    offset = numbers[0] * PART_BYTES
    if first == 0 and end == metadata.size:
        return Stored(b"".join(part for (part,) in parts), metadata)
    read = b"".join(part for (part,) in parts)
    return Stored(read[first - offset : end - offset], metadata)


def _nothing(metadata: Metadata | None) -> Stored | None:
    return None if metadata is None else Stored(b"", metadata)


def listing(
    prefix: str, after: str | None, limit: int | None, now: int
) -> tuple[str, tuple[str | int, ...]]:
    """The statement of a page of keys with their metadata, and its values.

    Raises:
        InvalidKeyError: no key can begin with ``prefix`` or ``after``.
    """
    # One lower bound: with two, SQLite would scan from the lesser one on every page.
    lower = "key >= ?", check_prefix(prefix)
    if after is not None and check_prefix(after) >= prefix:
        lower = "key > ?", after
    upper = prefix_upper_bound(prefix)
    conditions = [lower] if upper is None else [lower, ("key < ?", upper)]
    where = " AND ".join(condition for condition, _ in conditions)
    values = tuple(value for _, value in conditions)
    live = f"{where} AND {_IS_LIVE}"
    return (
        f"SELECT {_METADATA}, key FROM document WHERE {live} ORDER BY key LIMIT ?",  # noqa: S608
        (*values, now, -1 if limit is None else min(limit, _MAX_INTEGER)),
    )


def entries(
    connection: sqlite3.Connection, statement: str, values: tuple[str | int, ...]
) -> list[Entry]:
    """A page of a listing."""
    return [Entry(row[8], _metadata(row)) for row in connection.execute(statement, values)]


@dataclass(frozen=True, slots=True)
class _Current:
    id: int
    metadata: Metadata
    upload: int | None
    is_live: bool


class Transaction:
    """The writes of one call within a transaction.

    Args:
        connection: within a transaction that may write.
        recorder: adds to the change log.
    """

    def __init__(self, connection: sqlite3.Connection, recorder: ChangeRecorder) -> None:
        self.connection = connection
        self._recorder = recorder

    def write(self, step: Write, now: int, *, upload: Upload | None = None) -> Written:
        """Set a value if a condition holds."""
        current = self._current(step.key, now)
        _check(step.key, step.when, current)
        return self._set(step, current, now, upload)

    def remove(self, step: Delete, now: int) -> Removed:
        """Remove a key if a condition holds."""
        current = self._current(step.key, now)
        _check(step.key, step.when, current)
        return self._drop(step.key, current, step.change)

    def apply(self, steps: Sequence[Step], now: int) -> list[Written | Removed]:
        """Do all of the steps, or none."""
        found = [self._current(step.key, now) for step in steps]
        for step, current in zip(steps, found, strict=True):
            _check(step.key, step.when, current)
        done: list[Written | Removed] = [
            self._set(step, current, now, None)
            if isinstance(step, Write)
            else self._drop(step.key, current, step.change)
            for step, current in zip(steps, found, strict=True)
        ]
        return done

    def expire(self, now: int, limit: int) -> int:
        """Remove what has expired; a tombstone for each key that the log knows."""
        rows = self.connection.execute(
            "SELECT key, expires_at FROM document INDEXED BY document_expiry "
            "WHERE expires_at <= ? ORDER BY expires_at LIMIT ?",
            (now, limit),
        ).fetchall()
        for key, expires_at in rows:
            last = self.connection.execute(
                "SELECT collection, params, namespace, deleted FROM change WHERE key = ? "
                "ORDER BY sequence DESC LIMIT 1",
                (key,),
            ).fetchone()
            change = None
            if last is not None and not last[3]:
                change = ChangeRecord(
                    last[0], json.loads(last[1]), "", expires_at, namespace=last[2]
                )
            current = self._current(key, now)
            if current is not None:
                # It expired, so it existed: its end is a change like any other.
                self._drop(key, replace(current, is_live=True), change)
        abandoned = self.connection.execute(
            "SELECT id FROM upload WHERE started_at < ? LIMIT ?", (now - _ABANDONED_MS, limit)
        ).fetchall()
        for (upload,) in abandoned:
            self.drop_upload(upload)
        return len(rows)

    def add_parts(self, upload: int, first: int, parts: Sequence[bytes], now: int) -> None:
        """Keep parts of a body that is not complete yet."""
        self.connection.execute(
            "INSERT OR IGNORE INTO upload (id, started_at) VALUES (?, ?)", (upload, now)
        )
        self._insert_parts(upload, first, parts)

    def drop_upload(self, upload: int) -> None:
        """Forget parts of a body that will not be completed."""
        self._drop_parts(upload)
        self.connection.execute("DELETE FROM upload WHERE id = ?", (upload,))

    def drop_abandoned(self, upload: int) -> None:
        """Forget parts that no value took over."""
        rows = self.connection.execute("SELECT 1 FROM upload WHERE id = ?", (upload,)).fetchall()
        if rows:
            self.drop_upload(upload)

    def _insert_parts(self, upload: int, first: int, parts: Sequence[bytes]) -> None:
        self.connection.executemany(
            "INSERT INTO part (upload, number, bytes) VALUES (?, ?, ?)",
            ((upload, number, part) for number, part in enumerate(parts, first)),
        )

    def _drop_parts(self, upload: int) -> None:
        self.connection.execute("DELETE FROM part WHERE upload = ?", (upload,))

    def _current(self, key: str, now: int) -> _Current | None:
        row = self.connection.execute(
            f"SELECT {_METADATA}, id FROM document WHERE key = ?",  # noqa: S608  no input
            (key,),
        ).fetchone()
        if row is None:
            return None
        metadata = _metadata(row)
        is_live = metadata.expires_at is None or metadata.expires_at > now
        return _Current(row[8], metadata, row[7], is_live)

    def _set(
        self, step: Write, current: _Current | None, now: int, upload: Upload | None
    ) -> Written:
        key, value = step.key, step.value
        if current is None:
            generation = last_generation(self.connection, key) + 1
        else:
            generation = current.metadata.generation + 1
        size, body = len(value.body), value.body
        if upload is None and size > PART_BYTES:
            upload = Upload(new_write_id(), size)
            parts = [body[start : start + PART_BYTES] for start in range(0, size, PART_BYTES)]
            self._insert_parts(upload.id, 0, parts)
        if upload is not None:
            size, body = upload.size, b""
        columns = (
            value.write_id,
            generation,
            now if value.written_at is None else value.written_at,
            value.expires_at,
            size,
            value.hash,
            value.content_type,
            None if upload is None else upload.id,
            body,
        )
        if current is None:
            self.connection.execute(
                "INSERT INTO document (write_id, generation, written_at, expires_at, "
                "size, hash, content_type, upload, value, key) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*columns, key),
            )
        else:
            self.connection.execute(
                "UPDATE document SET write_id = ?, generation = ?, written_at = ?, "
                "expires_at = ?, size = ?, hash = ?, content_type = ?, upload = ?, value = ? "
                "WHERE id = ?",
                (*columns, current.id),
            )
        if current is not None and current.upload is not None:
            self._drop_parts(current.upload)
        if upload is not None:
            self.connection.execute("DELETE FROM upload WHERE id = ?", (upload.id,))
        position = self._record(key, step.change, generation)
        return Written(str(value.write_id), generation, position)

    def _drop(self, key: str, current: _Current | None, change: ChangeRecord | None) -> Removed:
        if current is None:
            return Removed(existed=False)
        self.connection.execute("DELETE FROM document WHERE id = ?", (current.id,))
        if current.upload is not None:
            self._drop_parts(current.upload)
        if not current.is_live:
            return Removed(existed=False)
        generation = current.metadata.generation + 1
        position = self._record(key, change, generation, is_deleted=True)
        return Removed(existed=True, position=position)

    def _record(
        self,
        key: str,
        change: ChangeRecord | None,
        generation: int,
        *,
        is_deleted: bool = False,
    ) -> Position | None:
        if change is None:
            return None
        return self._recorder.record(
            self.connection, key, change, generation, is_deleted=is_deleted
        )


def _check(key: str, when: Precondition, current: _Current | None) -> None:
    if when is not ANY:
        live = current is not None and current.is_live
        check_condition(key, when, current.metadata if current is not None and live else None)
