"""Documents in PostgreSQL: for several servers; needs the extra ``postgres``.

The writes of a process that wait go to the database in one statement, which compares, swaps,
records the changes and commits. One server writes at a time, under an advisory lock that is held
from that statement to its commit, so positions of the change log are in the order of the commits.
Rule: a call returns after the commit; when its answer was lost, it raises `OutcomeUnknownError`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from typing_extensions import override

from starfish_protocol.clock import Clock, SystemClock
from starfish_server.errors import StoreError, StoreUnavailableError
from starfish_server.storage._checks import check_range, check_size
from starfish_server.storage._postgres._changes import PostgresChangeLog
from starfish_server.storage._postgres._connections import Address, Connections, Row
from starfish_server.storage._postgres._reader import GroupReader
from starfish_server.storage._postgres._rows import (
    METADATA,
    PART_BYTES,
    condition_of,
    identity_of,
    metadata_of,
    place_of,
)
from starfish_server.storage._postgres._writer import (
    DONE,
    IS_DUE,
    NOT_TRIED,
    REFUSED,
    UPLOAD_GONE,
    GroupWriter,
    StepRow,
)
from starfish_server.storage._steps import check_steps
from starfish_server.storage.base import StoreContext
from starfish_server.storage.changes import ChangeLog, ChangeRecord
from starfish_server.storage.errors import PreconditionFailedError, ValueTooLargeError
from starfish_server.storage.keys import check_key, check_prefix, prefix_upper_bound
from starfish_server.storage.object_store import Delete, Entry, ObjectStore, Step, Write
from starfish_server.storage.values import (
    ANY,
    Metadata,
    Precondition,
    Removed,
    Stored,
    Value,
    Written,
    check_limit,
    new_write_id,
)

__all__ = ("PostgresObjectStore",)

T = TypeVar("T")

_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,47}")
_PARTS_AT_ONCE = 16
"""Parts of a large value that are sent together."""
_DROPPED_AT_ONCE = 64
"""Parts that are deleted in one step."""
_ABANDONED_MS = 24 * 3600 * 1000
"""After this time an upload that was not finished is taken for one whose server has ended."""
_MAX_INTEGER = 2**63 - 1
_IS_LIVE = "(d.expires_at IS NULL OR d.expires_at > $1)"
_OF_DOCUMENT = ", ".join(f"d.{name}" for name in METADATA.split(", "))
_VALUES = (
    f"SELECT {_OF_DOCUMENT}, d.value, d.upload, d.key FROM {{s}}.document AS d "  # noqa: S608
    f"WHERE d.key = ANY($2::text[]) AND {_IS_LIVE}"
)


class PostgresObjectStore(ObjectStore):
    """Documents in one schema of a PostgreSQL database; safe between tasks, processes and machines.

    A write that returned is as durable as the database's ``synchronous_commit`` says. Nothing is
    opened before the first call, which makes the tables when they are missing. After `close` the
    store may be used again. Each event loop, and a forked child, has connections of its own.

    Args:
        dsn: ``postgresql://user:password@host:port/database`` of version 13 or later. Not of a
            pooler that shares sessions between transactions, and not of a replica.
        schema: holds the tables and nothing else; 1 to 48 of ``a-z``, ``0-9`` and ``_``.
        max_connections: of each process, at least 3: one writes, one listens, the others read.
        busy_timeout_ms: how long a write waits while another server writes, before it raises
            `StoreUnavailableError`.
        clock: tells the time of a write, and whether a value has expired.

    Raises:
        ValueError: an argument is refused; the message names the rule.
    """

    can_apply = True

    def __init__(
        self,
        dsn: str,
        *,
        schema: str = "starfish",
        max_connections: int = 10,
        busy_timeout_ms: int = 10_000,
        clock: Clock | None = None,
    ) -> None:
        if not dsn.startswith(("postgresql://", "postgres://")):
            raise ValueError("the address of the database must begin with 'postgresql://'")
        if _SCHEMA.fullmatch(schema) is None or schema.startswith("pg_"):
            raise ValueError(
                f"schema is {schema!r}; it must be 1 to 48 of a-z, 0-9 and _, "
                "must not begin with a digit, and must not begin with 'pg_'"
            )
        if max_connections < 3:
            raise ValueError(f"max_connections is {max_connections}; it must be at least 3")
        self._address = Address(dsn, schema, max_connections, busy_timeout_ms)
        self._clock = clock or SystemClock()
        self._opened_by: WeakKeyDictionary[asyncio.AbstractEventLoop, _Opened] = WeakKeyDictionary()
        self._changes = PostgresChangeLog(schema, self._read, self._connect, self._address.channel)

    @property
    @override
    def changes(self) -> ChangeLog:
        return self._changes

    def _opened(self) -> _Opened:
        loop = asyncio.get_running_loop()
        opened = self._opened_by.get(loop)
        if opened is None or opened.pid != os.getpid():  # a socket must not be shared with a parent
            opened = self._opened_by[loop] = _Opened(self._address, self._clock)
        return opened

    async def _read(self, statement: str, *values: object) -> list[Row]:
        return await self._opened().connections.read(statement, *values)

    async def _connect(self) -> Any:
        return await self._opened().connections.connect()

    def _sql(self, text: str) -> str:
        return text.replace("{s}", self._address.schema)

    # Reading.

    @override
    async def get(self, key: str, *, context: StoreContext | None = None) -> Stored | None:
        row = await self._opened().reader.read(check_key(key))
        if row is None:
            return None
        if row[8] is not None:
            return await self.read_range(key, 0, None)
        return Stored(row[7], metadata_of(row))

    @override
    async def get_many(
        self, keys: Sequence[str], *, context: StoreContext | None = None
    ) -> dict[str, Stored]:
        asked = [check_key(key) for key in keys]
        rows = await self._read(self._sql(_VALUES), self._clock.now_ms(), asked)
        found: dict[str, Stored] = {}
        for row in rows:
            if row[8] is None:
                found[row[9]] = Stored(row[7], metadata_of(row))
            elif (large := await self.read_range(row[9], 0, None)) is not None:
                found[row[9]] = large
        return found

    @override
    async def stat(self, key: str, *, context: StoreContext | None = None) -> Metadata | None:
        rows = await self._read(
            self._sql(f"SELECT {_OF_DOCUMENT} FROM {{s}}.document AS d "  # noqa: S608
                      f"WHERE d.key = $2 AND {_IS_LIVE}"),
            self._clock.now_ms(), check_key(key),
        )  # fmt: skip
        return metadata_of(rows[0]) if rows else None

    @override
    async def read_range(
        self, key: str, first: int, last: int | None, *, context: StoreContext | None = None
    ) -> Stored | None:
        check_key(key)
        check_range(first, last)
        first = min(first, _MAX_INTEGER // 2)
        end = _MAX_INTEGER // 2 if last is None else max(min(last + 1, _MAX_INTEGER // 2), first)
        # One statement sees one moment, so the parts are those of the row.
        rows = await self._read(
            self._sql(
                f"SELECT {_OF_DOCUMENT}, d.upload, CASE WHEN d.upload IS NULL THEN "  # noqa: S608
                "substring(d.value FROM least($3::bigint, d.size)::integer + 1 "
                "FOR (least($4::bigint, d.size) - least($3::bigint, d.size))::integer) "
                "ELSE p.bytes END FROM {s}.document AS d LEFT JOIN {s}.part AS p "
                f"ON p.upload = d.upload AND p.number BETWEEN $3::bigint / {PART_BYTES} "
                f"AND ($4::bigint - 1) / {PART_BYTES} AND $4::bigint > $3::bigint "
                f"WHERE d.key = $2 AND {_IS_LIVE} ORDER BY p.number"
            ),
            self._clock.now_ms(), key, first, end,
        )  # fmt: skip
        if not rows:
            return None
        metadata = metadata_of(rows[0])
        body = b"".join(row[8] for row in rows if row[8] is not None)
        if rows[0][7] is not None:
            offset = first // PART_BYTES * PART_BYTES
            body = body[first - offset : end - offset]
        return Stored(body, metadata)

    @override
    async def scan(
        self,
        prefix: str,
        *,
        after: str | None = None,
        limit: int | None = None,
        context: StoreContext | None = None,
    ) -> Sequence[Entry]:
        lower, comparison = check_prefix(prefix), ">="
        if after is not None and check_prefix(after) >= prefix:
            lower, comparison = after, ">"
        upper = prefix_upper_bound(prefix)
        size = check_limit(limit)
        rows = await self._read(
            self._sql(
                f"SELECT {_OF_DOCUMENT}, d.key FROM {{s}}.document AS d "  # noqa: S608  no input
                f"WHERE d.key {comparison} $2 AND ($3::text IS NULL OR d.key < $3) AND {_IS_LIVE} "
                "ORDER BY d.key LIMIT $4"
            ),
            self._clock.now_ms(), lower, upper, None if size is None else min(size, _MAX_INTEGER),
        )  # fmt: skip
        return [Entry(row[7], metadata_of(row)) for row in rows]

    # Writing.

    @override
    async def write(
        self,
        key: str,
        value: Value,
        *,
        when: Precondition = ANY,
        change: ChangeRecord | None = None,
        context: StoreContext | None = None,
    ) -> Written:
        check_size(check_key(key), len(value.body), self.limits)
        value = replace(value, body=bytes(value.body))  # a caller may change it meanwhile
        [written] = await self._submit([Write(key, value, when, change)])
        assert isinstance(written, Written)  # noqa: S101  a write it was
        return written

    @override
    async def write_stream(
        self,
        key: str,
        chunks: AsyncIterator[bytes],
        value: Value,
        *,
        when: Precondition = ANY,
        change: Callable[[str, int], ChangeRecord] | None = None,
        context: StoreContext | None = None,
    ) -> tuple[Written, Metadata]:
        upload = new_write_id()
        try:
            size, digest = await self._receive(check_key(key), chunks, upload)
            whole = replace(
                value,
                body=b"",
                hash=value.hash or digest,
                written_at=self._clock.now_ms() if value.written_at is None else value.written_at,
            )
            record = None if change is None else change(whole.hash or digest, size)
            step = replace(self._step(Write(key, whole, when, record)), upload=upload, size=size)
            [row] = await self._settled([step])
            written = _written(step, row)
        except PreconditionFailedError:
            await self._forget(upload)
            raise
        except BaseException as error:
            # An unknown outcome may have taken the parts; expiry finds those that were not.
            if not isinstance(error, StoreError) or isinstance(error, ValueTooLargeError):
                await asyncio.shield(self._forget(upload))
            raise
        metadata = Metadata(
            etag=written.etag,
            size=size,
            content_type=whole.content_type,
            hash=whole.hash,
            written_at=whole.written_at or 0,
            expires_at=whole.expires_at,
            write_id=whole.write_id,
            generation=written.generation,
        )
        return written, metadata

    @override
    async def remove(
        self,
        key: str,
        *,
        when: Precondition = ANY,
        change: ChangeRecord | None = None,
        context: StoreContext | None = None,
    ) -> Removed:
        check_key(key)
        [removed] = await self._submit([Delete(key, when, change)])
        assert isinstance(removed, Removed)  # noqa: S101  a delete it was
        return removed

    @override
    async def apply(
        self, steps: Sequence[Step], *, context: StoreContext | None = None
    ) -> Sequence[Written | Removed]:
        check_steps(steps, self.limits)
        return await self._submit(list(steps)) if steps else []

    async def _submit(self, steps: Sequence[Step]) -> list[Written | Removed]:
        uploads: list[int] = []
        rows: list[StepRow] = []
        try:
            for step in steps:
                row = self._step(step)
                if isinstance(step, Write) and len(step.value.body) > PART_BYTES:
                    uploads.append(new_write_id())
                    await self._receive(step.key, _whole(step.value.body), uploads[-1])
                    row = replace(row, upload=uploads[-1], value=b"")
                rows.append(row)
            outcomes = await self._settled(rows)
            for row, outcome in zip(rows, outcomes, strict=True):
                _check_outcome(row, outcome)
        except PreconditionFailedError:
            for upload in uploads:
                await self._forget(upload)
            raise
        return [
            Removed(outcome[0] == DONE, outcome[2]) if row.is_delete else _written(row, outcome)
            for row, outcome in zip(rows, outcomes, strict=True)
        ]

    def _step(self, step: Step) -> StepRow:
        condition, expected = condition_of(step.when)
        change = step.change
        row = StepRow(step.key, isinstance(step, Delete), condition, expected)
        if change is not None:
            row = replace(
                row,
                place=place_of(change),
                change_hash=_text(change.hash, "hash"),
                timestamp=_integer(change.timestamp, "timestamp"),
                identity=identity_of(change),
            )
        if isinstance(step, Delete):
            return row
        value = step.value
        now = self._clock.now_ms()
        return replace(
            row,
            write_id=_integer(value.write_id, "write_id"),
            written_at=_integer(
                now if value.written_at is None else value.written_at, "written_at"
            ),
            expires_at=None
            if value.expires_at is None
            else _integer(value.expires_at, "expires_at"),
            size=len(value.body),
            hash=None if value.hash is None else _text(value.hash, "hash"),
            content_type=_text(value.content_type, "content_type"),
            value=bytes(value.body),
        )

    async def _settled(self, steps: Sequence[StepRow]) -> list[Row]:
        opened = self._opened()
        rows = await opened.writer.submit(steps)
        if any(row[2] is not None for row in rows):
            self._changes.wake()
        if any(row[9] for row in rows):
            opened.spawn(self._drop_parts(opened, 0))
        return rows

    async def _receive(
        self, key: str, chunks: AsyncIterator[bytes], upload: int
    ) -> tuple[int, str]:
        """Send a body in parts, apart from the lock of writers; its size and SHA-256."""
        digest = hashlib.sha256()
        pending = bytearray()
        size = number = 0
        await self._read(
            self._sql("INSERT INTO {s}.upload VALUES ($1, $2) ON CONFLICT DO NOTHING"),
            upload, self._clock.now_ms(),
        )  # fmt: skip

        async def keep(length: int) -> None:
            nonlocal number
            parts = [
                bytes(pending[start : min(start + PART_BYTES, length)])
                for start in range(0, length, PART_BYTES)
            ]
            del pending[:length]
            first, number = number, number + len(parts)
            # A repetition after a lost answer writes the same parts.
            await self._read(
                self._sql(
                    "INSERT INTO {s}.part SELECT $1, u.number, u.bytes "
                    "FROM unnest($2::integer[], $3::bytea[]) AS u(number, bytes) "
                    "ON CONFLICT DO NOTHING"
                ),
                upload, list(range(first, number)), parts,
            )  # fmt: skip

        async for chunk in chunks:
            size += len(chunk)
            if size > self.limits.value_bytes:
                raise ValueTooLargeError(key, size, self.limits.value_bytes)
            digest.update(chunk)
            pending += chunk
            while len(pending) >= _PARTS_AT_ONCE * PART_BYTES:
                await keep(_PARTS_AT_ONCE * PART_BYTES)
        if pending:
            await keep(len(pending))
        return size, digest.hexdigest()

    async def _forget(self, upload: int) -> None:
        """Leave the parts of an upload that nothing took to `_drop_parts`."""
        opened = self._opened()
        await opened.connections.read(
            self._sql("UPDATE {s}.upload SET started_at = 0 WHERE id = $1"),
            upload,
        )
        opened.spawn(self._drop_parts(opened, 0))

    async def _drop_parts(self, opened: _Opened, until: int) -> None:
        """Delete parts that belong to nothing, some at a time."""
        while True:
            [(dropped, uploads)] = await opened.connections.read(
                self._sql(
                    "WITH dead AS MATERIALIZED (SELECT id FROM {s}.upload WHERE started_at <= $1 "
                    "ORDER BY started_at LIMIT 16 FOR UPDATE SKIP LOCKED), "
                    "parts AS MATERIALIZED (SELECT p.upload, p.number FROM {s}.part AS p "
                    "JOIN dead ON dead.id = p.upload LIMIT $2), "
                    "gone AS (DELETE FROM {s}.part AS p USING parts WHERE p.upload = parts.upload "
                    "AND p.number = parts.number), "
                    "ended AS (DELETE FROM {s}.upload AS u USING dead WHERE u.id = dead.id "
                    "AND (SELECT count(*) FROM parts) < $2 RETURNING 1) "
                    "SELECT (SELECT count(*) FROM parts), (SELECT count(*) FROM ended)"
                ),
                until, _DROPPED_AT_ONCE,
            )  # fmt: skip
            if not dropped and not uploads:
                return

    # Life.

    @override
    async def ping(self) -> None:
        await self._read(self._sql("SELECT 1 FROM {s}.log"))

    @override
    async def expire(self, now: int, *, limit: int = 1000) -> int:
        rows = await self._read(
            self._sql(
                "SELECT d.key, d.expires_at, c.place, c.deleted FROM {s}.document AS d "
                "LEFT JOIN LATERAL (SELECT e.place, e.deleted FROM {s}.change AS e "
                "WHERE e.key = d.key ORDER BY e.sequence DESC LIMIT 1) AS c ON true "
                "WHERE d.expires_at <= $1 ORDER BY d.expires_at LIMIT $2"
            ),
            now, limit,
        )  # fmt: skip
        due: list[StepRow] = []
        for key, expires_at, place, is_deleted in rows:
            step = StepRow(key, is_delete=True, condition=IS_DUE, expected=now)
            if place is not None and not is_deleted:
                step = replace(step, place=place, change_hash="", timestamp=expires_at)
            due.append(step)
        # Each by itself, so that they go in several batches and writes among them.
        outcomes = await asyncio.gather(*(self._settled([step]) for step in due))
        await self._drop_parts(self._opened(), now - _ABANDONED_MS)
        return sum(outcome[0] == DONE for [outcome] in outcomes)

    @override
    async def close(self) -> None:
        await self._changes.close()
        opened = self._opened_by.pop(asyncio.get_running_loop(), None)
        if opened is not None and opened.pid == os.getpid():
            await opened.close()


class _Opened:
    """The connections of one event loop between the first call and `close`."""

    def __init__(self, address: Address, clock: Clock) -> None:
        self.pid = os.getpid()
        self.connections = Connections(address)
        self.writer = GroupWriter(self.connections, address, clock)
        statement = _VALUES.replace("{s}", address.schema)
        self.reader = GroupReader(self.connections, clock, statement)
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside the calls; what fails is done again by `expire`."""
        task = asyncio.create_task(_quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        await asyncio.gather(self.writer.close(), self.reader.close())
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self.connections.close()


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except StoreError:
        return


async def _whole(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _check_outcome(step: StepRow, row: Row) -> None:
    if row[0] == REFUSED:
        current = None if row[3] is None else metadata_of((*row[3:9], row[1]))
        raise PreconditionFailedError(step.key, current)
    if row[0] == UPLOAD_GONE:
        raise StoreUnavailableError(
            f"key {step.key[:200]!r}", "its upload took longer than a day and was given up"
        )


def _written(step: StepRow, row: Row) -> Written:
    _check_outcome(step, row)
    assert row[0] != NOT_TRIED  # noqa: S101  the refusal before it was raised
    return Written(str(step.write_id), row[1], row[2])


def _integer(number: int, name: str) -> int:
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{name} is {number}; it must fit a signed 64-bit integer")
    return number


def _text(text: str, name: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        is_good = False
    else:
        is_good = "\x00" not in text
    if not is_good:
        raise ValueError(f"{name} is {text[:100]!r}; it must have no NUL and no lone surrogate")
    return text
