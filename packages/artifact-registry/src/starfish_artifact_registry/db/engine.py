"""An engine whose SQLite connections are durable and wait for each other."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from sqlalchemy import URL, event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import await_only

from starfish_artifact_registry.db._sqlite_place import (
    BUSY_TIMEOUT_MS,
    database_path,
    file_of,
    remember_file,
)
from starfish_disk import SqliteFile

__all__ = ("create_engine",)

_PRAGMAS = (f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}", "PRAGMA foreign_keys = ON")


def create_engine(url: str | URL, **options: Any) -> AsyncEngine:
    """Make the engine that a `Registry` likes best.

    On SQLite readers and the writer do not wait for each other (write-ahead log), a commit is on
    disk when it returns (``synchronous = FULL``), and a busy database is waited for. A file of
    another application is refused and left as it is; one that was moved, removed or replaced while
    it was open is noticed before the next acknowledgement. A plain ``create_async_engine`` works
    too; readers wait there, and a busy database is given up earlier.

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
        path = database_path(engine.url)
        if path is not None:
            file = file_of(path)
            remember_file(engine.sync_engine, file)
            event.listen(engine.sync_engine, "do_connect", partial(_look_first, file))
            event.listen(engine.sync_engine, "connect", file.prepare)
        event.listen(engine.sync_engine, "connect", _set_pragmas)
    return engine


def _look_first(file: SqliteFile, *_event: object) -> None:
    """Raise the refusal of the file before the driver opens it.

    aiosqlite would have begun a thread by then, which ends after the caller was told, and fails
    loudly when the event loop is gone meanwhile.
    """
    await_only(asyncio.to_thread(file.ensure))


def _set_pragmas(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()
