"""Reads of single documents: those that wait go in one statement.

Rule: a statement begins after every call that it answers, so each sees the writes that returned
before it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict

from starfish_protocol.clock import Clock
from starfish_server.storage._postgres._connections import Connections, Row

__all__ = ("GroupReader",)

_AT_ONCE = 2
"""Statements under way together: the next keys gather while the database works."""
_MAX_KEYS = 128


class GroupReader:
    """Reads of one event loop.

    Args:
        connections: of the same event loop.
        clock: tells whether a value has expired.
        statement: takes the time and an array of keys; a row ends in its key.
    """

    def __init__(self, connections: Connections, clock: Clock, statement: str) -> None:
        self._connections = connections
        self._clock = clock
        self._statement = statement
        self._waiting: defaultdict[str, list[asyncio.Future[Row | None]]] = defaultdict(list)
        self._tasks: set[asyncio.Task[None]] = set()

    def read(self, key: str) -> asyncio.Future[Row | None]:
        """The row of a key, ``None`` when it has no live value."""
        settled: asyncio.Future[Row | None] = asyncio.get_running_loop().create_future()
        self._waiting[key].append(settled)
        if len(self._tasks) < _AT_ONCE:
            task = asyncio.create_task(self._run(), name="starfish reads")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return settled

    async def close(self) -> None:
        """Answer those who wait."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(self) -> None:
        while self._waiting:
            keys = list(self._waiting)[:_MAX_KEYS]
            calls = {key: self._waiting.pop(key) for key in keys}
            try:
                rows = await self._connections.read(self._statement, self._clock.now_ms(), keys)
            except Exception as error:  # noqa: BLE001  each caller hears of it
                for settled in (each for waiting in calls.values() for each in waiting):
                    if not settled.done():
                        settled.set_exception(error)
                continue
            found = {row[-1]: row for row in rows}
            for key, waiting in calls.items():
                for settled in waiting:
                    if not settled.done():
                        settled.set_result(found.get(key))
