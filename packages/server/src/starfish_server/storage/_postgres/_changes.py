"""The change log in the tables of `PostgresObjectStore`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from typing_extensions import override

from starfish_server.storage._change_waiters import WaitersByLoop
from starfish_server.storage._positions import LogState, sequence_of
from starfish_server.storage._postgres._connections import Row
from starfish_server.storage._postgres._rows import change_of
from starfish_server.storage.changes import Change, ChangeLog
from starfish_server.storage.values import Position

__all__ = ("PostgresChangeLog",)

_Read: TypeAlias = Callable[..., Awaitable[list[Row]]]

_LOOK_EVERY_S = 0.5
"""How late a change of another server may be noticed when its notification got lost."""
_STATE = (
    "SELECT epoch, floor, coalesce((SELECT max(sequence) FROM {s}.change), 0) AS last, "
    "(SELECT array_agg(began ORDER BY began) FROM {s}.start) AS began, "
    "(SELECT array_agg(stamp ORDER BY began) FROM {s}.start) AS stamps FROM {s}.log"
)
_PAGE = (
    f"SELECT page.*, state.* FROM ({_STATE}) AS state LEFT JOIN LATERAL ("  # noqa: S608  no input
    "SELECT sequence, key, place, generation, hash, timestamp, identity, deleted "
    "FROM {s}.change WHERE sequence > $1 AND ($3::text IS NULL OR key = $3) "
    "ORDER BY sequence LIMIT $2) AS page ON true ORDER BY sequence"
)
_LAST = "SELECT max(sequence) FROM {s}.change"
_GENERATION = "SELECT generation FROM {s}.change WHERE key = $1 ORDER BY sequence DESC LIMIT 1"
_COMPACT = """
WITH removable AS MATERIALIZED (
    SELECT sequence, is_newest FROM (
        SELECT sequence, deleted, timestamp, NOT EXISTS (
            SELECT 1 FROM {s}.change AS newer
            WHERE newer.key = change.key AND newer.sequence > change.sequence
        ) AS is_newest FROM {s}.change
    ) AS judged
    WHERE (NOT is_newest OR (deleted AND timestamp < $1))
        AND sequence < (SELECT max(sequence) FROM {s}.change)  -- which tells where the log ends
    ORDER BY sequence LIMIT $2
), removed AS (
    DELETE FROM {s}.change WHERE sequence IN (SELECT sequence FROM removable)
), raised AS (
    UPDATE {s}.log SET floor = newest.sequence
    FROM (SELECT max(sequence) AS sequence FROM removable WHERE is_newest) AS newest
    WHERE newest.sequence > floor
)
SELECT count(*) FROM removable
"""


class PostgresChangeLog(ChangeLog):
    """Reads what the function of the database recorded.

    Args:
        schema: of the tables.
        read: runs a statement on a connection of the running event loop's pool.
        connect: opens a connection that may listen.
        channel: where changes are notified.
    """

    def __init__(
        self, schema: str, read: _Read, connect: Callable[[], Awaitable[Any]], channel: str
    ) -> None:
        self._schema = schema
        self._read = read
        self._connect = connect
        self._channel = channel
        self._waiters = WaitersByLoop(self._last, look_every_s=_LOOK_EVERY_S)
        self._listening: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[Any]] = (
            WeakKeyDictionary()
        )

    def _statement(self, text: str) -> str:
        return text.replace("{s}", self._schema)

    @override
    async def _state(self) -> LogState:
        [row] = await self._read(self._statement(_STATE))
        return _state_of(row)

    @override
    async def _page(
        self, after: Position | int | None, limit: int, key: str | None
    ) -> tuple[LogState, int, Sequence[Change]]:
        start = after if isinstance(after, int) else 0 if after is None else sequence_of(after)
        rows = await self._read(
            self._statement(_PAGE), min(start, 2**63 - 1), min(limit, 2**31), key
        )
        state = _state_of(rows[0][8:])
        if not isinstance(after, int):
            start = state.after(after)
        return state, start, [change_of(row, state) for row in rows if row[0] is not None]

    @override
    async def _wait(self, after: int, timeout: float) -> None:
        self._listen()
        await self._waiters.wait(after, timeout)

    @override
    async def generation(self, key: str) -> int:
        rows = await self._read(self._statement(_GENERATION), key)
        return rows[0][0] if rows else 0

    @override
    async def compact(self, *, tombstones_before: int, limit: int = 1000) -> int:
        [(count,)] = await self._read(
            self._statement(_COMPACT), min(tombstones_before, 2**63 - 1), limit
        )
        return int(count)

    def wake(self) -> None:
        """Wake those who wait on this event loop: a change was committed."""
        self._waiters.wake()

    async def close(self) -> None:
        """Stop listening; on this event loop."""
        await self._waiters.close()
        opening = self._listening.pop(asyncio.get_running_loop(), None)
        if opening is not None:
            opening.cancel()  # nothing, when it is done
            await asyncio.wait([opening])
            if not opening.cancelled() and opening.exception() is None:
                with contextlib.suppress(Exception):  # it is broken, and gone either way
                    await opening.result().close(timeout=1)

    async def _last(self) -> int:
        [(last,)] = await self._read(self._statement(_LAST))
        return last or 0

    def _listen(self) -> None:
        """See to it that notifications wake those who wait, where the database lets us listen."""
        loop = asyncio.get_running_loop()
        opening = self._listening.get(loop)
        if opening is not None and opening.done():
            is_good = not opening.cancelled() and opening.exception() is None
            if not is_good or opening.result().is_closed():
                opening = None
        if opening is None:  # until it is there, those who wait look by themselves
            self._listening[loop] = loop.create_task(self._open_listener())

    async def _open_listener(self) -> Any:
        connection = await self._connect()
        loop = asyncio.get_running_loop()

        def notified(*_arguments: object) -> None:
            if not loop.is_closed():
                loop.call_soon(self._waiters.wake)

        try:
            await connection.add_listener(self._channel, notified)
        except BaseException:
            connection.terminate()
            raise
        connection.add_termination_listener(notified)
        self._waiters.wake()  # for what came before this was listening
        return connection


def _state_of(row: Row) -> LogState:
    epoch, floor, last, began, stamps = row
    return LogState(epoch, tuple(zip(began or (), stamps or (), strict=True)), last, floor)
