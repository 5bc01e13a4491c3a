"""Find the events of a region by the indexes, so that a query costs about as much as it finds.

Rule: whatever the region, the events come in the order of their sequences. Where one index gives
them in that order the engine does the work. A namespace and a category are several stretches of an
index: their first sequences are merged. Where they are many, most of the log lies in them, and the
log is read as it is.
"""

# ruff: noqa: S608 - only names of this module are put into a statement's text

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import islice
from typing import Any, Final

from starfish_watcher._model.region import Region
from starfish_watcher.log.sqlite._columns import CHECKED_COLUMNS

__all__ = ("find", "namespace_bounds")

MAX_STRETCHES: Final = 64
"""Entities or kinds whose sequences are merged."""
_MAX_COUNTED: Final = 4096
"""Entities of a namespace that are counted to find out how rare its events are."""
_RARE: Final = 8
"""Sorting what an index finds costs less than reading the log where it is so much rarer."""


def namespace_bounds(prefix: str) -> tuple[str, str, str]:
    """The entity itself, and where its child namespaces begin and end."""
    return prefix, f"{prefix}:", f"{prefix};"  # ';' follows ':' in every collation by code


def find(
    connection: sqlite3.Connection, after: int, limit: int, entity: str | None, region: Region
) -> list[tuple[Any, ...]]:
    """The rows of the first ``limit`` events that match, with the check of the payload at the end."""
    if entity is None and (found := _by_stretches(connection, after, limit, region)) is not None:
        return found
    wheres, values = ["sequence > ?"], list[Any]([after])
    if entity is not None:
        wheres.append("entity = ?")
        values.append(entity)
    _add(region, wheres, values)
    query = f"SELECT {CHECKED_COLUMNS} FROM events WHERE {' AND '.join(wheres)}"
    return connection.execute(f"{query} ORDER BY sequence LIMIT ?", (*values, limit)).fetchall()


def _add(region: Region, wheres: list[str], values: list[Any]) -> None:
    # A plus keeps SQLite on the order of the table, which these indexes do not give.
    if region.entity_prefix is not None:
        wheres.append("(+entity = ? OR (+entity >= ? AND +entity < ?))")
        values += namespace_bounds(region.entity_prefix)
    codes = region.kind_codes
    if codes is not None:
        single = codes[0] == codes[1]
        wheres.append("kind = ?" if single else "(kind BETWEEN ? AND ?)")
        values += codes[:1] if single else codes
    if region.scope is not None:
        wheres.append("scope = ?")
        values.append(region.scope)


def _by_stretches(
    connection: sqlite3.Connection, after: int, limit: int, region: Region
) -> list[tuple[Any, ...]] | None:
    """What matches, from the stretches of one index; nothing where they are too many."""
    keys: Sequence[str | int] | None
    if region.entity_prefix is not None:
        keys = _entities(connection, after, region.entity_prefix)
        column = "entity"
    elif region.kind_codes is not None and region.kind_codes[0] != region.kind_codes[1]:
        keys = _kinds(connection, *region.kind_codes)
        column = "kind"
    else:
        return None
    if keys is None:
        if region.entity_prefix is not None and _is_rare(connection, after, region.entity_prefix):
            return _sorted(connection, after, limit, region)
        return None
    wheres, values = [f"{column} = ?", "sequence > ?"], list[Any]()
    _add(region, others := list[str](), values)
    if column == "entity":
        # The stretch is the namespace already.
        del others[0], values[:3]
    else:
        del others[0], values[:2]
    wheres += (f"+{each}" for each in others)
    stretch = f"SELECT sequence FROM events WHERE {' AND '.join(wheres)} ORDER BY sequence LIMIT ?"
    merged = merge(
        *(_column(connection.execute(stretch, (key, after, *values, limit))) for key in keys)
    )
    return _rows(connection, list(islice(merged, limit)))


def _is_rare(connection: sqlite3.Connection, after: int, prefix: str) -> bool:
    counted, events = connection.execute(
        "SELECT count(*), sum(generation - removed) FROM (SELECT generation, removed FROM entities"
        " WHERE (entity = ? OR (entity >= ? AND entity < ?)) AND sequence > ? LIMIT ?)",
        (*namespace_bounds(prefix), after, _MAX_COUNTED),
    ).fetchone()
    (last,) = connection.execute("SELECT last_sequence FROM log").fetchone()
    return bool(counted < _MAX_COUNTED and events * _RARE < last - after)


def _sorted(
    connection: sqlite3.Connection, after: int, limit: int, region: Region
) -> list[tuple[Any, ...]]:
    others, values = list[str](), list[Any]()
    _add(region, others, values)
    wheres = ["(entity = ? OR (entity >= ? AND entity < ?))", "+sequence > ?"]
    wheres += (f"+{each}" for each in others[1:])
    found = connection.execute(
        f"SELECT sequence FROM events WHERE {' AND '.join(wheres)} ORDER BY +sequence LIMIT ?",
        (*values[:3], after, *values[3:], limit),
    )
    return _rows(connection, list(_column(found)))


def _column(rows: sqlite3.Cursor) -> Iterator[int]:
    return (sequence for (sequence,) in rows)


def _rows(connection: sqlite3.Connection, sequences: list[int]) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for start in range(0, len(sequences), 500):
        part = sequences[start : start + 500]
        rows += connection.execute(
            f"SELECT {CHECKED_COLUMNS} FROM events WHERE sequence IN ({','.join('?' * len(part))})"
            " ORDER BY sequence",
            part,
        )
    return rows


def _entities(connection: sqlite3.Connection, after: int, prefix: str) -> list[str] | None:
    found = connection.execute(
        "SELECT entity FROM entities WHERE (entity = ? OR (entity >= ? AND entity < ?))"
        " AND sequence > ? LIMIT ?",
        (*namespace_bounds(prefix), after, MAX_STRETCHES + 1),
    ).fetchall()
    return None if len(found) > MAX_STRETCHES else [entity for (entity,) in found]


def _kinds(connection: sqlite3.Connection, first: int, last: int) -> list[int] | None:
    """The kinds of the category that there are, each found by one step into the index."""
    kinds: list[int] = []
    kind = first - 1
    while True:
        (found,) = connection.execute(
            "SELECT min(kind) FROM events WHERE kind > ? AND kind <= ?", (kind, last)
        ).fetchone()
        if found is None:
            return kinds
        kinds.append(kind := int(found))
        if len(kinds) > MAX_STRETCHES:
            return None
