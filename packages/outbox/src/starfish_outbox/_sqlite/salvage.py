# ruff: noqa: S608 - the names of the tables are constants
"""Reading every queue of a file without changing it, past damaged pages.

Rows are read in ranges of their numbers. A range that cannot be read is cut in two, until the rows that
are lost stand alone.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starfish_disk.errors import DamagedError, DiskError, ForeignError
from starfish_disk.sqlite_errors import sqlite_errors_translated
from starfish_outbox._queue.entry import OutboxEntry, OutboxStatus
from starfish_outbox._sqlite.layout import ENTRIES, QUARANTINE, STATES, outbox_file, own_error
from starfish_outbox._sqlite.rows import failure_of

RANGE = 512
"""Rows that are read together."""
FAR_AHEAD = 1 << 20
"""Numbers looked at behind the last row that could be read, when the end of the table is damaged."""
_OLD = (
    "SELECT seq, key, id, status, attempts, enqueued_at, item, NULL FROM entries"
    " WHERE seq BETWEEN ? AND ? ORDER BY seq"
)
_NEW = (
    f"SELECT seq, key, id, 'queued', 0, enqueued_at, item, NULL FROM {ENTRIES}"
    " WHERE seq BETWEEN ? AND ? AND item IS NOT NULL ORDER BY seq"
)
_STATES = f"SELECT seq, status, attempts, failure FROM {STATES} WHERE seq BETWEEN ? AND ?"

_State = tuple[OutboxStatus, int, str | None]


@dataclass(slots=True)
class Salvage:
    """The content of a file, as far as it can be read."""

    queues: dict[str, list[OutboxEntry]] = field(default_factory=dict[str, list[OutboxEntry]])
    unreadable: list[str] = field(default_factory=list[str])
    """Rows that are not entries, one sentence each."""
    damage: list[str] = field(default_factory=list[str])
    """Parts of the file that cannot be read, one sentence each."""


def read_all_queues(path: Path) -> Salvage:
    """Every queue of a file by key; the file stays as it is.

    Raises:
        OutboxPersistenceError: the file cannot be opened, or is not an outbox.
    """
    salvage = Salvage()
    try:
        with _read_only(path) as connection:
            tables = {
                name
                for (name,) in connection.execute(
                    "SELECT name FROM sqlite_schema WHERE type = 'table'"
                )
            }
            if ENTRIES not in tables and "entries" not in tables:
                raise DamagedError(path, "it holds no table of entries")
            is_new = ENTRIES in tables
            states: dict[int, _State] = {}
            if is_new:
                for seq, status, attempts, failure in _rows(connection, STATES, _STATES, salvage):
                    states[seq] = (status, attempts, failure)
            table, query = (ENTRIES, _NEW) if is_new else ("entries", _OLD)
            for row in _rows(connection, table, query, salvage):
                _add(row, states, salvage)
            quarantine = QUARANTINE if is_new else "quarantine"
            _read_quarantine(connection, quarantine, salvage)
    except DiskError as error:
        raise own_error(path, error) from error
    return salvage


@contextmanager
def _read_only(path: Path) -> Generator[sqlite3.Connection]:
    try:
        with outbox_file(path).read_only() as connection:
            yield connection
            return
    except ForeignError:
        pass
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with sqlite_errors_translated(path), closing(sqlite3.connect(uri, uri=True)) as connection:
        found = connection.execute(
            "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", (ENTRIES,)
        ).fetchone()
        if found is None:
            raise ForeignError(path, "it is a database of another application")
        yield connection


def _rows(
    connection: sqlite3.Connection, table: str, query: str, salvage: Salvage
) -> Iterator[tuple[Any, ...]]:
    first = _edge(connection, f"SELECT min(seq) FROM {table}")
    last = _edge(connection, f"SELECT max(seq) FROM {table}")
    begin = 0 if first is None else first
    end = last if last is not None else begin + FAR_AHEAD
    lost: list[tuple[int, int]] = []
    start = begin
    while start <= end:
        stop = min(start + RANGE - 1, end)
        yield from _range(
            lambda a, b: connection.execute(query, (a, b)).fetchall(), start, stop, lost
        )
        start = stop + 1
    for a, b in _joined(lost):
        salvage.damage.append(f"{table}: rows {a} to {b} cannot be read")


def _edge(connection: sqlite3.Connection, query: str) -> int | None:
    try:
        (value,) = connection.execute(query).fetchone()
    except sqlite3.DatabaseError:
        return None
    return 0 if value is None else int(value)


def _range(
    read: Callable[[int, int], list[tuple[Any, ...]]],
    start: int,
    stop: int,
    lost: list[tuple[int, int]],
) -> Iterator[tuple[Any, ...]]:
    waiting = [(start, stop)]
    while waiting:
        a, b = waiting.pop()
        try:
            yield from read(a, b)
        except sqlite3.DatabaseError:
            if a >= b:
                lost.append((a, b))
            else:
                middle = (a + b) // 2
                waiting += [(middle + 1, b), (a, middle)]


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for a, b in sorted(ranges):
        if joined and joined[-1][1] + 1 >= a:
            joined[-1] = (joined[-1][0], b)
        else:
            joined.append((a, b))
    return joined


def _add(row: tuple[Any, ...], states: dict[int, _State], salvage: Salvage) -> None:
    seq, key, entry_id, status, attempts, at, item, failure = row
    if seq in states:
        status, attempts, failure = states[seq]
    try:
        entry = OutboxEntry(
            entry_id,
            json.loads(item),
            status,
            attempts,
            at,
            failure_of(failure),
        )
    except (ValueError, RecursionError) as error:
        salvage.unreadable.append(f"{key}: entry {entry_id!r}: {error}")
    else:
        salvage.queues.setdefault(str(key), []).append(entry)


def _read_quarantine(connection: sqlite3.Connection, table: str, salvage: Salvage) -> None:
    try:
        rows = connection.execute(f"SELECT key, reason FROM {table} ORDER BY seq").fetchall()
    except sqlite3.DatabaseError as error:
        salvage.damage.append(f"{table}: {error}")
        return
    salvage.unreadable += [f"{key}: put aside earlier: {reason}" for key, reason in rows]
