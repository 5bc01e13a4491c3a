"""The rows of a server: repositories, tokens, histories, the index of packs, refs.

One set of tables for SQLite and PostgreSQL; several servers may share them.

Rule 1: a push writes all its rows in one transaction that holds its repository's row, so that what one push sees as
missing stays missing until it is done. Rule 2: rows of objects are added and never changed, so reads need no transaction.
Rule 3: each table of objects begins with the repository; no statement finds an object without one.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    any_,
    bindparam,
    event,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.util import await_only

from starfish_disk import SqliteFile
from starfish_disk.errors import DiskError
from starfish_mpack_wire.server.errors import StorageUnavailableError

__all__ = (
    "APPLICATION_ID",
    "BRANCHES",
    "BUILT_PACKS",
    "CHUNKED",
    "COMMITS",
    "PACKS",
    "PACK_INDEX",
    "REPOS",
    "SETTINGS",
    "SNAPSHOTS",
    "TAGS",
    "TOKENS",
    "WireRows",
    "add_rows",
    "hold_repo",
    "is_one_of",
    "read_by_ids",
)

APPLICATION_ID: Final = 0x4D504B57
"""``MPKW`` in the header of a SQLite file (``PRAGMA application_id``)."""

_METADATA: Final = MetaData()
_ID = Text
_CHUNK = 5_000
_LOCK = 0x6D7061636B  # of PostgreSQL, held while the tables are made


def _repo_column() -> Column[int]:
    return Column("repo_id", Integer, ForeignKey("mpack_repos.id"), primary_key=True)


REPOS: Final = Table(
    "mpack_repos",
    _METADATA,
    Column("id", Integer, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("slug", Text, nullable=False),
    Column("private", Boolean, nullable=False),
    Column("default_branch", Text, nullable=False),
    # Written by pushes from the parents' rows, so true until somebody finds it false.
    Column("generations_hold", Boolean, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Index("mpack_repos_by_name", "owner", "slug", unique=True),
)
TOKENS: Final = Table(
    "mpack_tokens",
    _METADATA,
    Column("token_hash", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger),
)
SETTINGS: Final = Table(
    "mpack_settings",
    _METADATA,
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
COMMITS: Final = Table(
    "mpack_commits",
    _METADATA,
    _repo_column(),
    Column("commit_id", _ID, primary_key=True),
    Column("generation", Integer),
    Column("parent_ids", Text, nullable=False),
    Column("snapshot_id", _ID, nullable=False),
    Column("record", LargeBinary, nullable=False),
    Index("mpack_commits_by_generation", "repo_id", "generation"),
    sqlite_with_rowid=False,
)
SNAPSHOTS: Final = Table(
    "mpack_snapshots",
    _METADATA,
    _repo_column(),
    Column("snapshot_id", _ID, primary_key=True),
    Column("parent_snapshot_id", _ID),
    # How many differences lie between this one and one that is complete.
    Column("depth", Integer, nullable=False),
    Column("record", LargeBinary, nullable=False),
)
PACKS: Final = Table(
    "mpack_packs",
    _METADATA,
    Column("id", Integer, primary_key=True),
    Column("repo_id", Integer, ForeignKey("mpack_repos.id"), nullable=False),
    Column("mpack_id", _ID, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Index("mpack_packs_by_id", "repo_id", "mpack_id", unique=True),
)
PACK_INDEX: Final = Table(
    "mpack_pack_index",
    _METADATA,
    _repo_column(),
    Column("object_id", _ID, primary_key=True),
    Column("pack_id", Integer, ForeignKey("mpack_packs.id"), nullable=False),
    Column("offset", BigInteger, nullable=False),
    # The first three are of the block; it is stored as it is where the two lengths are equal.
    Column("stored_bytes", BigInteger, nullable=False),
    Column("block_bytes", BigInteger, nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
CHUNKED: Final = Table(
    "mpack_chunked",
    _METADATA,
    _repo_column(),
    # A large blob: the chunks that it is made of have places in the index of packs.
    Column("object_id", _ID, primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("chunks", LargeBinary, nullable=False),
)
BRANCHES: Final = Table(
    "mpack_branches",
    _METADATA,
    _repo_column(),
    Column("name", Text, primary_key=True),
    Column("commit_id", _ID, nullable=False),
)
TAGS: Final = Table(
    "mpack_tags",
    _METADATA,
    _repo_column(),
    Column("name", Text, primary_key=True),
    Column("commit_id", _ID, nullable=False),
)
BUILT_PACKS: Final = Table(
    "mpack_built_packs",
    _METADATA,
    _repo_column(),
    Column("cache_key", Text, primary_key=True),
    Column("mpack_id", _ID, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("commit_count", Integer, nullable=False),
    Column("snapshot_count", Integer, nullable=False),
    Column("blob_count", Integer, nullable=False),
    # Set when the pack is a clone of one commit: a base for clones of its descendants.
    Column("clone_of", _ID),
    Column("created_ms", BigInteger, nullable=False),
    Index("mpack_built_packs_by_age", "repo_id", "created_ms"),
)


class WireRows:
    """The database of one server or of several.

    The constructor does no I/O; `open` makes the tables where there are none.

    Args:
        url: of SQLAlchemy, with an async driver: ``sqlite+aiosqlite:///FILE`` or ``postgresql+asyncpg://…``.
    """

    def __init__(self, url: str) -> None:
        options: dict[str, Any] = {}
        if url.startswith("sqlite") and (":memory:" in url or url.endswith("//")):
            options["poolclass"] = StaticPool
        elif not url.startswith("sqlite"):
            options |= {"pool_pre_ping": True, "pool_size": 10, "max_overflow": 20}
        self._engine: AsyncEngine = create_async_engine(url, **options)
        self._opened = False
        self._opening = asyncio.Lock()
        self._process = os.getpid()
        self._file: SqliteFile | None = None
        if self._engine.dialect.name == "sqlite":
            if "poolclass" not in options:
                self._file = SqliteFile(
                    Path(self._engine.url.database or ""),
                    application_id=APPLICATION_ID,
                    layouts=[_layout(_FIRST_TABLES), _layout(["mpack_chunked"])],
                    busy_timeout_ms=20_000,
                    adopt=_written_before_there_was_an_id,
                )
                event.listen(self._engine.sync_engine, "do_connect", self._ensure)
            event.listen(self._engine.sync_engine, "connect", self._set_up_sqlite)
            event.listen(self._engine.sync_engine, "begin", _begin_sqlite)
        self._reading = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._writing = self._engine.execution_options(mpack_writes=True)

    @property
    def is_sqlite(self) -> bool:
        """Whether rows live in a file."""
        return self._engine.dialect.name == "sqlite"

    async def open(self) -> None:
        """Make the tables where there are none; servers that start at once do so one after the other.

        Raises:
            StorageUnavailableError: the database cannot be reached or used.
        """
        self._refuse_forked()
        async with self._opening:
            if self._opened:
                return
            async with _translated():
                if self._file is not None:
                    await asyncio.to_thread(self._file.ensure)
                else:
                    async with self._writing.begin() as connection:
                        if not self.is_sqlite:
                            await connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
                        await connection.run_sync(_METADATA.create_all)
            self._opened = True

    async def close(self) -> None:
        """Give all connections back.

        Raises:
            StorageUnavailableError: in a process that was forked from the one that opened the rows.
        """
        self._refuse_forked()
        await self._engine.dispose()

    def _refuse_forked(self) -> None:
        # The threads and connections behind the engine stay in the parent: the child would wait for ever.
        if os.getpid() != self._process:
            raise StorageUnavailableError(
                "these rows were opened by the process that this one was forked from: make new ones here"
            )

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[AsyncConnection]:
        """A connection on which each statement sees all commits so far.

        Raises:
            StorageUnavailableError: the database cannot be reached or used.
        """
        await self.open()
        async with _translated(), self._reading.connect() as connection:
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncGenerator[AsyncConnection]:
        """A transaction that may write; committed and on disk when the block is left, or gone.

        A SQLite file is looked at before and after: where it was moved, removed or replaced meanwhile, the commit went
        to a file that has lost its name, and is not acknowledged.

        Raises:
            StorageUnavailableError: the database cannot be reached or used, or its file is not in its place any more.
        """
        await self.open()
        async with _translated():
            async with self._writing.begin() as connection:
                if self._file is not None:
                    await asyncio.to_thread(self._file.check_in_place)
                yield connection
            if self._file is not None:
                await asyncio.to_thread(self._file.check_in_place)

    def _ensure(self, *_event: object) -> None:
        if self._file is not None:
            await_only(asyncio.to_thread(self._file.ensure))

    def _set_up_sqlite(self, connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions begin where we say so
        if self._file is not None:
            self._file.prepare(connection)
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()


@asynccontextmanager
async def _translated() -> AsyncGenerator[None]:
    try:
        yield
    except DiskError as error:
        raise StorageUnavailableError(f"the database {error.path}: {error.reason}") from error
    except (SQLAlchemyError, OSError) as error:
        if isinstance(error.__cause__, DiskError):
            cause = error.__cause__
            raise StorageUnavailableError(f"the database {cause.path}: {cause.reason}") from error
        # The text of a driver's error quotes statements and values; its type is enough for a log.
        raise StorageUnavailableError(f"the database failed: {type(error).__name__}") from error


_FIRST_TABLES: Final = (
    "mpack_repos",
    "mpack_tokens",
    "mpack_settings",
    "mpack_commits",
    "mpack_snapshots",
    "mpack_packs",
    "mpack_pack_index",
    "mpack_branches",
    "mpack_tags",
    "mpack_built_packs",
)


def _layout(tables: Collection[str]) -> list[str]:
    """Some tables as statements; a later layout adds to them and never changes an earlier one."""
    dialect = sqlite.dialect()
    statements: list[str] = []
    for table in _METADATA.sorted_tables:
        if table.name not in tables:
            continue
        statements.append(str(CreateTable(table).compile(dialect=dialect)))
        statements += [
            str(CreateIndex(index).compile(dialect=dialect))
            for index in sorted(table.indexes, key=lambda each: str(each.name))
        ]
    return statements


def _written_before_there_was_an_id(tables: Collection[str], version: int) -> int | None:
    return 1 if version == 0 and "mpack_repos" in tables else None


def _begin_sqlite(connection: Any) -> None:
    options = connection.get_execution_options()
    if options.get("isolation_level") != "AUTOCOMMIT":
        # Taking the write lock first: a reader that wants to write later could not wait for it.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("mpack_writes") else "BEGIN")


def is_one_of(
    connection: AsyncConnection, column: ColumnElement[str], values: Collection[str]
) -> ColumnElement[bool]:
    """The condition that a column is one of many values, which travel as one parameter."""
    if connection.dialect.name == "sqlite":
        given = func.json_each(json.dumps(list(values))).table_valued("value")
        return column.in_(select(given.c.value))
    return column == any_(bindparam(None, list(values), type_=ARRAY(Text)))


async def read_by_ids(
    connection: AsyncConnection,
    columns: Sequence[ColumnElement[Any]],
    repo_id: int,
    key: Column[str],
    values: Iterable[str],
    *,
    joined: Table | None = None,
) -> list[tuple[Any, ...]]:
    """The rows of a repository whose key is one of many, in no order; with a table they refer to."""
    wanted = list(values)
    table = key.table
    source = table if joined is None else table.join(joined)
    found: list[tuple[Any, ...]] = []
    for start in range(0, len(wanted), _CHUNK):
        statement = (
            select(*columns)
            .select_from(source)
            .where(
                table.c.repo_id == repo_id,
                is_one_of(connection, key, wanted[start : start + _CHUNK]),
            )
        )
        found.extend(map(tuple, (await connection.execute(statement)).all()))
    return found


async def add_rows(
    connection: AsyncConnection, table: Table, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Insert many rows."""
    for start in range(0, len(rows), _CHUNK):
        await connection.execute(insert(table), rows[start : start + _CHUNK])


async def hold_repo(connection: AsyncConnection, repo_id: int) -> None:
    """Let one transaction at a time past this point for a repository."""
    if connection.dialect.name != "sqlite":
        statement = text("SELECT id FROM mpack_repos WHERE id = :id FOR UPDATE")
        await connection.execute(statement, {"id": repo_id})
