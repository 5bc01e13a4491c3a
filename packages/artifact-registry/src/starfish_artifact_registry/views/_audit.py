"""The audit of the tables: each row beside the one that the log comes to.

Rule 1: the expected rows are a dry fold of a package's events, never read from a table. Rule 2: one
package is in memory at a time. Rule 3: a difference is reported and the audit goes on; only a
database that does not answer ends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import Connection, Table, exists, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from starfish_artifact_registry.db._append_only import APPEND_ONLY_NAMES
from starfish_artifact_registry.db._database import Database
from starfish_artifact_registry.db.schema import (
    artifact_files,
    artifact_metadata,
    artifact_packages,
    events,
    log_tiles,
    retention_state,
    storage_locations,
)
from starfish_artifact_registry.errors import LogDamagedError, UnknownEventTypeError
from starfish_artifact_registry.log._histories import read_history
from starfish_artifact_registry.log._log import head_of_log
from starfish_artifact_registry.log._tiles import tile_is_right
from starfish_artifact_registry.model._catalogue import NO_PACKAGE, FileIngested, PackageCreated
from starfish_artifact_registry.model._history import PackageHistory
from starfish_artifact_registry.model._package_metadata import index_entry
from starfish_protocol.hash import stable_stringify

__all__ = (
    "Difference",
    "audit",
    "differences_of_package",
    "expected_rows",
    "packages_of_log",
)

_Rows = dict[tuple[object, ...], dict[str, Any]]
_PAGE: Final = 500
_MOST: Final = 20
"""Differences of one table of one package that are told one by one."""
_KEYS: Final[dict[Table, tuple[str, ...]]] = {
    artifact_packages: ("id",),
    artifact_metadata: ("key",),
    artifact_files: ("id",),
    storage_locations: ("artifact_file_id",),
    retention_state: ("package_id",),
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where the registry is not as its log says, or its log not as it must be."""

    kind: Literal["history", "view", "trigger"]
    """The history of a package, a row of a table, or the triggers that protect the log."""
    package_id: UUID | None
    """The package, if it is about one."""
    text: str
    """A sentence that names it."""


async def audit(database: Database) -> AsyncGenerator[Difference]:
    """Compare histories, tables and triggers of the whole registry.

    Raises:
        DatabaseUnavailableError: the database does not answer.
    """
    async with database.read() as connection:
        missing = await connection.run_sync(_missing_triggers)
    for name in missing:
        yield Difference("trigger", None, f"the trigger {name} on the table events is gone")
    async for package_id in packages_of_log(database):
        async with database.read() as connection:
            found = await differences_of_package(connection, package_id)
        if found:
            # Looked at again while nobody appends: a commit between two reads is not a difference.
            async with database.locked() as connection:
                found = await differences_of_package(connection, package_id)
        for difference in found:
            yield difference
    async for sentence in _tile_differences(database):
        yield Difference("view", None, f"log_tiles: {sentence}")
    async with database.read() as connection:
        strangers = await _strangers(connection)
    if strangers:
        async with database.locked() as connection:
            strangers = await _strangers(connection)
    for table, sentence in strangers:
        yield Difference("view", None, f"{table}: {sentence}")


async def packages_of_log(database: Database) -> AsyncGenerator[UUID]:
    """Every package that has an event, in the order of the ids."""
    last: UUID | None = None
    column = events.c.package_id
    wanted = select(column).where(
        events.c.event_type != FileIngested.event_type,
        events.c.event_type == PackageCreated.event_type,
    )
    while True:
        page = wanted if last is None else wanted.where(column > last)
        async with database.read() as connection:
            found = list((await connection.execute(page.order_by(column).limit(_PAGE))).scalars())
        for package_id in found:
            if package_id != last:
                yield package_id
            last = package_id
        if len(found) < _PAGE:
            return


async def differences_of_package(connection: AsyncConnection, package_id: UUID) -> list[Difference]:
    """The differences between the log and the tables about one package."""
    try:
        history = await read_history(connection, package_id)
        history.end()
    except (LogDamagedError, UnknownEventTypeError) as error:
        return [Difference("history", package_id, str(error))]
    expected = await asyncio.to_thread(expected_rows, history)
    found: list[Difference] = []
    for table, rows in expected.items():
        try:
            there = await _rows_of(connection, table, package_id)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            sentences: Iterable[str] = [f"a row cannot be read: {error}"]
        else:
            sentences = await asyncio.to_thread(_compared, rows, there)
        found += [
            Difference("view", package_id, f"{table.name} of package {package_id}: {sentence}")
            for sentence in sentences
        ]
    return found


def expected_rows(history: PackageHistory) -> dict[Table, _Rows]:
    """The rows of one package that its history comes to, by table and key."""
    created = history.created
    assert created is not None  # noqa: S101  a history that was read has one
    package = {
        "id": history.package_id,
        "name": created.name,
        "producer": created.producer,
        "subject": created.subject,
        "retention_class": created.retention_class,
        "status": history.status,
        "metadata": created.metadata,
        "file_count": history.file_count,
        "total_bytes": sum(file.ingested.size for _, file in history.each_file()),
        "manifest_digest": None
        if history.manifest_digest is None
        else f"blake3:{history.manifest_digest.hex()}",
        "created_at": history.created_at,
        "created_by": history.created_by,
        "finalized_at": history.finalized_at,
        "finalized_by": history.finalized_by,
        "imported_at": history.imported_at,
        "imported_by": history.imported_by,
        "last_event_sequence": history.last_sequence,
    }
    entries = dict(index_entry(*member) for member in created.metadata.items())
    retention = {
        "package_id": history.package_id,
        "retention_days": created.retention_days,
        "retain_until": history.retain_until,
        "holds": [
            {
                "hold_id": str(hold.hold_id),
                "reason": hold.reason,
                "actor": hold.actor,
                "sequence": hold.sequence,
            }
            for hold in history.holds.values()
        ],
        "expired_at": history.expired_at,
        "deleted_at": history.deleted_at,
    }
    files: _Rows = {}
    places: _Rows = {}
    for path, file in history.each_file():
        ingested = file.ingested
        key = (ingested.file_id,)
        files[key] = {
            "id": ingested.file_id,
            "package_id": history.package_id,
            "relative_path": path,
            "media_type": ingested.media_type,
            "size_bytes": ingested.size,
            "content_address": str(ingested.content_address),
            "sha256": str(ingested.sha256),
            "ingested_at": file.at,
            "ingested_by": file.by,
            "event_sequence": file.sequence,
        }
        places[key] = {
            "artifact_file_id": ingested.file_id,
            "storage_location_id": ingested.storage_location_id,
            "backend_id": ingested.backend_id,
            "content_address": str(ingested.content_address),
        }
    return {
        artifact_packages: {(history.package_id,): package},
        artifact_metadata: {
            (key,): {"package_id": history.package_id, "key": key, "value": value}
            for key, value in entries.items()
        },
        artifact_files: files,
        storage_locations: places,
        retention_state: {(history.package_id,): retention},
    }


async def _rows_of(connection: AsyncConnection, table: Table, package_id: UUID) -> _Rows:
    if table is artifact_packages:
        wanted = select(table).where(artifact_packages.c.id == package_id)
    elif table is storage_locations:
        of_file = artifact_files.c.id == storage_locations.c.artifact_file_id
        wanted = (
            select(table)
            .join(artifact_files, of_file)
            .where(artifact_files.c.package_id == package_id)
        )
    else:
        wanted = select(table).where(table.c.package_id == package_id)
    rows = (await connection.execute(wanted)).mappings()
    return {tuple(row[name] for name in _KEYS[table]): dict(row) for row in rows}


def _compared(expected: _Rows, found: _Rows) -> list[str]:
    return list(_compare(expected, found))


def _compare(expected: _Rows, found: _Rows) -> Iterable[str]:
    told = 0
    for key in [*expected, *(key for key in found if key not in expected)]:
        for sentence in _compare_row(key, expected.get(key), found.get(key)):
            told += 1
            if told > _MOST:
                yield "and more"
                return
            yield sentence


def _compare_row(
    key: tuple[object, ...], expected: Mapping[str, Any] | None, found: Mapping[str, Any] | None
) -> Iterable[str]:
    name = key[0]
    if found is None:
        path = (expected or {}).get("relative_path")
        yield f"the row of {name}{f' ({path!r:.200})' if path else ''} is missing"
    elif expected is None:
        yield f"the row of {name} is there, and no event made it"
    else:
        for column, value in expected.items():
            there = found.get(column)
            if not _is_same(there, value):
                yield f"{column} of {name} is {there!s:.200}, the log says {value!s:.200}"


def _is_same(found: Any, expected: Any) -> bool:
    if type(expected) in {dict, list}:
        # `True` is `1` to Python, and not to the log.
        return stable_stringify(found) == stable_stringify(expected)
    return bool(found == expected)


async def _strangers(connection: AsyncConnection) -> list[tuple[str, str]]:
    """Rows of packages and files that no event made."""
    made = exists(
        select(events.c.sequence).where(
            events.c.package_id == artifact_packages.c.id,
            events.c.event_type != FileIngested.event_type,
            events.c.event_type == PackageCreated.event_type,
        )
    )
    odd = {
        artifact_packages: select(artifact_packages.c.id).where(~made),
        artifact_metadata: select(artifact_metadata.c.package_id).where(
            artifact_metadata.c.package_id.not_in(select(artifact_packages.c.id))
        ),
        artifact_files: select(artifact_files.c.id).where(
            artifact_files.c.package_id.not_in(select(artifact_packages.c.id))
        ),
        storage_locations: select(storage_locations.c.artifact_file_id).where(
            storage_locations.c.artifact_file_id.not_in(select(artifact_files.c.id))
        ),
        retention_state: select(retention_state.c.package_id).where(
            retention_state.c.package_id.not_in(select(artifact_packages.c.id))
        ),
    }
    unmade = select(events.c.sequence, events.c.package_id).where(
        events.c.package_id != NO_PACKAGE,
        events.c.package_id.not_in(
            select(events.c.package_id).where(
                events.c.event_type != FileIngested.event_type,
                events.c.event_type == PackageCreated.event_type,
            )
        ),
    )
    found: list[tuple[str, str]] = []
    for table, query in odd.items():
        try:
            rows = list((await connection.execute(query.limit(_MOST))).scalars())
        except ValueError as error:
            found.append((table.name, f"a row cannot be read: {error}"))
            continue
        found += [(table.name, f"the row of {key} is there, and no event made it") for key in rows]
    strays = (await connection.execute(unmade.limit(_MOST))).all()
    found += [
        (
            "events",
            f"event {row.sequence} is about package {row.package_id}, which none created",
        )
        for row in strays
    ]
    return found


async def _tile_differences(database: Database) -> AsyncGenerator[str]:
    async with database.read() as connection:
        tiles = select(log_tiles.c.level, log_tiles.c.position).order_by(
            log_tiles.c.level, log_tiles.c.position
        )
        stored = [(row.level, row.position) for row in await connection.execute(tiles)]
        size = (await head_of_log(connection)).sequence
    for level, position in stored:
        try:
            async with database.read() as connection:
                same = await tile_is_right(connection, level, position, size)
            if not same:
                async with database.locked() as connection:
                    size = (await head_of_log(connection)).sequence
                    same = await tile_is_right(connection, level, position, size)
        except LogDamagedError as error:
            yield f"tile {position} of level {level} cannot be checked: {error}"
            continue
        if not same:
            yield f"tile {position} of level {level} does not have the hashes of the events"


def _missing_triggers(connection: Connection) -> list[str]:
    dialect = connection.dialect.name
    if dialect == "sqlite":
        query = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'events'"
    else:
        query = (
            "SELECT tgname FROM pg_trigger WHERE tgrelid = 'events'::regclass "
            "AND NOT tgisinternal AND tgenabled <> 'D'"
        )
    there = set(connection.execute(text(query)).scalars())
    return [name for name in APPEND_ONLY_NAMES[dialect] if name not in there]
