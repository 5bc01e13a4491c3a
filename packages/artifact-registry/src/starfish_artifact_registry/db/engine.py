"""An engine whose SQLite connections are durable and wait for each other."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from typing import Any

from sqlalchemy import URL, event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import await_only

__all__ = ("create_engine",)

BUSY_TIMEOUT_MS = 30_000
"""How long a writer waits for the one before it; each holds the lock for one group commit."""
_PRAGMAS = (
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
)


def create_engine(url: str | URL, **options: Any) -> AsyncEngine:
    """Make the engine that a `Registry` likes best.

    On SQLite readers and the writer do not wait for each other (write-ahead log), a commit is on
    disk when it returns (``synchronous = FULL``), and a busy database is waited for. A plain
    ``create_async_engine`` is as safe; readers wait there, and a busy database is given up earlier.

    Args:
        url: ``sqlite+aiosqlite:///<path>`` or ``postgresql+asyncpg://…``; without a driver's name
            these two are taken.
        options: handed on to ``create_async_engine``.

    Raises:
        ImportError: the driver is not installed.
    """
    parsed = make_url(url)
    drivers = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
    if parsed.drivername in drivers:
        parsed = parsed.set(drivername=drivers[parsed.drivername])
    engine = create_async_engine(parsed, **options)
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "do_connect", _refuse_early)
        event.listen(engine.sync_engine, "connect", _set_pragmas)
    return engine


def _refuse_early(
    _dialect: object, _record: object, arguments: Sequence[Any], options: dict[str, Any]
) -> None:
    """Raise what opening the file raises.

    aiosqlite would have begun a thread by then, which ends after the caller was told, and fails
    loudly when the event loop is gone meanwhile.
    """
    own = {"async_creator_fn", "iter_chunk_size"}
    of_sqlite = {name: value for name, value in options.items() if name not in own}
    await_only(asyncio.to_thread(_open_once, arguments, of_sqlite))


def _open_once(arguments: Sequence[Any], options: dict[str, Any]) -> None:
    sqlite3.connect(*arguments, **options).close()


def _set_pragmas(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()
