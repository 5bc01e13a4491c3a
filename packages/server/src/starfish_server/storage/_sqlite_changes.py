"""The change log in the file of `SqliteObjectStore`."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from typing_extensions import override

from starfish_server.storage._change_waiters import ChangeWaiters
from starfish_server.storage.base import StoreContext
from starfish_server.storage.changes import Change, ChangeLog, DocumentVersion

__all__ = ("SqliteChangeLog", "record_change")

_Ask: TypeAlias = Callable[[Callable[[sqlite3.Connection], Any]], Awaitable[Any]]
_COLUMNS = "sequence, collection, params, key, generation, hash, timestamp, namespace, identity"
_LAST_OF_KEY = "SELECT generation FROM change WHERE key = ? ORDER BY sequence DESC LIMIT 1"


def record_change(
    connection: sqlite3.Connection, key: str, context: StoreContext, version: DocumentVersion
) -> None:
    """Add a change to the transaction of its write; the writer alone gives out sequences."""
    connection.execute(
        "INSERT INTO change "  # noqa: S608  no input
        "(collection, params, key, generation, hash, timestamp, namespace, identity) "
        f"VALUES (?, ?, ?, coalesce(({_LAST_OF_KEY}), 0) + 1, ?, ?, ?, ?)",
        (
            *(
                context.collection,
                json.dumps(dict(context.params)),
                key,
                key,
                version.hash,
                version.timestamp,
            ),
            *(context.namespace, context.identity),
        ),
    )


class SqliteChangeLog(ChangeLog):
    """Reads what `record_change` wrote.

    Args:
        ask: runs a read in the thread that has a connection for reading.
    """

    def __init__(self, ask: _Ask) -> None:
        self._ask = ask
        self._waiters: WeakKeyDictionary[asyncio.AbstractEventLoop, ChangeWaiters] = (
            WeakKeyDictionary()
        )

    @override
    async def read(self, after: int, limit: int, *, key: str | None = None) -> Sequence[Change]:
        of_key, values = ("", (after,)) if key is None else ("AND key = ? ", (after, key))
        rows = await self._ask(
            lambda connection: connection.execute(
                f"SELECT {_COLUMNS} FROM change WHERE sequence > ? "  # noqa: S608  no input
                f"{of_key}ORDER BY sequence LIMIT ?",
                (*values, limit),
            ).fetchall()
        )
        return [Change(row[0], row[1], json.loads(row[2]), *row[3:]) for row in rows]

    @override
    async def last_sequence(self, *, wait_after: int | None = None, timeout: float = 0) -> int:
        if wait_after is None:
            return await self._last()
        return await self._waiting_here().wait(wait_after, timeout)

    @override
    async def generation(self, key: str) -> int:
        found = await self._ask(
            lambda connection: connection.execute(_LAST_OF_KEY, (key,)).fetchone()
        )
        return 0 if found is None else int(found[0])

    def committed(self, context: StoreContext | None) -> None:
        """Wake those who wait on this event loop, if a change was recorded."""
        if context is not None and context.version is not None:
            waiters = self._waiters.get(asyncio.get_running_loop())
            if waiters is not None:
                waiters.wake()

    async def close(self) -> None:
        """Stop looking; on this event loop."""
        waiters = self._waiters.pop(asyncio.get_running_loop(), None)
        if waiters is not None:
            await waiters.close()

    def _waiting_here(self) -> ChangeWaiters:
        return self._waiters.setdefault(asyncio.get_running_loop(), ChangeWaiters(self._last))

    async def _last(self) -> int:
        (last,) = await self._ask(
            lambda connection: connection.execute("SELECT max(sequence) FROM change").fetchone()
        )
        return last or 0
