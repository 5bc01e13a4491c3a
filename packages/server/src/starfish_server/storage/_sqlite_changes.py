"""The change log in the file of `SqliteObjectStore`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from typing_extensions import override

from starfish_server.storage._change_waiters import WaitersByLoop
from starfish_server.storage._positions import LogState, new_stamp
from starfish_server.storage.changes import Change, ChangeLog, ChangeRecord
from starfish_server.storage.values import Position

__all__ = ("ChangeRecorder", "SqliteChangeLog", "last_generation", "log_state")

_Ask: TypeAlias = Callable[[Callable[[sqlite3.Connection], Any]], Awaitable[Any]]
_COLUMNS = (
    "sequence, collection, params, key, generation, hash, timestamp, namespace, identity, deleted"
)
_NEWEST_START = "SELECT epoch, (SELECT stamp FROM start ORDER BY began DESC LIMIT 1) FROM log"
_MAX_STARTS = 1000
"""Starts that are remembered; a reader that stands before all of them reads everything anew."""


def last_generation(connection: sqlite3.Connection, key: str) -> int:
    """How many writes of a key the log knows of, 0 for none."""
    found = connection.execute(
        "SELECT generation FROM change WHERE key = ? ORDER BY sequence DESC LIMIT 1", (key,)
    ).fetchone()
    return 0 if found is None else int(found[0])


class ChangeRecorder:
    """Adds changes to the transactions of one process.

    It remembers nothing but its stamp, so a transaction that is rolled back leaves nothing behind.
    """

    def __init__(self) -> None:
        self._stamp = new_stamp()

    def record(
        self,
        connection: sqlite3.Connection,
        key: str,
        change: ChangeRecord,
        generation: int,
        *,
        is_deleted: bool = False,
    ) -> Position:
        """Add a change to the transaction of its write; its position."""
        epoch, stamp = connection.execute(_NEWEST_START).fetchone()
        if stamp != self._stamp and self._record_start(connection):
            stamp = self._stamp
        done = connection.execute(
            "INSERT INTO change (collection, params, key, generation, hash, timestamp, namespace, "
            "identity, deleted) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                change.collection,
                json.dumps(dict(change.params)),
                key,
                generation,
                "" if is_deleted else change.hash,
                change.timestamp,
                change.namespace,
                change.identity,
                is_deleted,
            ),
        )
        # The newest change is of the newest start, whichever process writes it.
        return f"{epoch}-{stamp}-{done.lastrowid}"

    def _record_start(self, connection: sqlite3.Connection) -> bool:
        """Record that this process writes from here on; ``False`` when it did so before."""
        done = connection.execute(
            "INSERT INTO start (began, stamp) "
            "SELECT (SELECT coalesce(max(sequence), 0) FROM change), ? "
            "WHERE NOT EXISTS (SELECT 1 FROM start WHERE stamp = ?)",
            (self._stamp, self._stamp),
        )
        if not done.rowcount:
            return False
        connection.execute(
            "DELETE FROM start WHERE began < "
            "(SELECT began FROM start ORDER BY began DESC LIMIT 1 OFFSET ?)",
            (_MAX_STARTS,),
        )
        return True


def log_state(connection: sqlite3.Connection) -> LogState:
    """The state of the log in the transaction of the connection."""
    epoch, floor = connection.execute("SELECT epoch, floor FROM log").fetchone()
    (last,) = connection.execute("SELECT max(sequence) FROM change").fetchone()
    starts = connection.execute("SELECT began, stamp FROM start ORDER BY began").fetchall()
    return LogState(epoch, tuple(starts), last or 0, floor)


class SqliteChangeLog(ChangeLog):
    """Reads what `ChangeRecorder` wrote.

    Args:
        ask: runs a read in the thread that has a connection for reading.
        compact: runs a function of the connection in the thread that writes.
    """

    def __init__(self, ask: _Ask, write: _Ask) -> None:
        self._ask = ask
        self._write = write
        self._waiters = WaitersByLoop(self._last)

    @override
    async def _state(self) -> LogState:
        state: LogState = await self._ask(log_state)
        return state

    @override
    async def _page(
        self, after: Position | int | None, limit: int, key: str | None
    ) -> tuple[LogState, int, Sequence[Change]]:
        def read(connection: sqlite3.Connection) -> tuple[LogState, int, Sequence[Change]]:
            state = log_state(connection)
            start = after if isinstance(after, int) else state.after(after)
            of_key, values = ("", (start,)) if key is None else ("AND key = ? ", (start, key))
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM change WHERE sequence > ? "  # noqa: S608  no input
                f"{of_key}ORDER BY sequence LIMIT ?",
                (*values, limit),
            )
            return state, start, [_change(row, state) for row in rows]

        page: tuple[LogState, int, Sequence[Change]] = await self._ask(read)
        return page

    @override
    async def _wait(self, after: int, timeout: float) -> None:
        await self._waiters.wait(after, timeout)

    @override
    async def generation(self, key: str) -> int:
        found: int = await self._ask(lambda connection: last_generation(connection, key))
        return found

    @override
    async def compact(self, *, tombstones_before: int, limit: int = 1000) -> int:
        rows: list[tuple[int, bool]] = await self._ask(
            lambda connection: _removable(connection, tombstones_before, limit)
        )
        if rows:
            sequences = json.dumps([sequence for sequence, _ in rows])
            floor = max((sequence for sequence, is_newest in rows if is_newest), default=0)
            await self._write(lambda connection: _remove(connection, sequences, floor))
        return len(rows)

    def wake(self) -> None:
        """Wake those who wait on this event loop: a change was committed."""
        self._waiters.wake()

    async def close(self) -> None:
        """Stop looking; on this event loop."""
        await self._waiters.close()

    async def _last(self) -> int:
        (last,) = await self._ask(
            lambda connection: connection.execute("SELECT max(sequence) FROM change").fetchone()
        )
        return last or 0


def _change(row: tuple[Any, ...], state: LogState) -> Change:
    return Change(
        sequence=row[0],
        collection=row[1],
        params=json.loads(row[2]),
        key=row[3],
        generation=row[4],
        hash=row[5],
        timestamp=row[6],
        namespace=row[7],
        identity=row[8],
        position=state.at(row[0]),
        is_deleted=bool(row[9]),
    )


def _removable(
    connection: sqlite3.Connection, tombstones_before: int, limit: int
) -> list[tuple[int, bool]]:
    """Sequences that may go, and whether each is the newest of its key."""
    return connection.execute(
        "SELECT sequence, is_newest FROM (SELECT sequence, deleted, timestamp, NOT EXISTS "
        "(SELECT 1 FROM change AS newer WHERE newer.key = change.key "
        "AND newer.sequence > change.sequence) AS is_newest FROM change) "
        "WHERE (NOT is_newest OR (deleted AND timestamp < ?)) "
        "AND sequence < (SELECT max(sequence) FROM change) "  # which tells where the log ends
        "ORDER BY sequence LIMIT ?",
        (tombstones_before, limit),
    ).fetchall()


def _remove(connection: sqlite3.Connection, sequences: str, floor: int) -> None:
    connection.execute(
        "DELETE FROM change WHERE sequence IN (SELECT value FROM json_each(?))", (sequences,)
    )
    connection.execute("UPDATE log SET floor = max(floor, ?)", (floor,))
