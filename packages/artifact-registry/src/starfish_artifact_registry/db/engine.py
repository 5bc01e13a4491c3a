"""An engine whose SQLite connections are durable and wait for each other."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import Any
from weakref import WeakSet

from sqlalchemy import URL, Engine, event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import await_only

from starfish_artifact_registry.db._sqlite_place import (
    PRAGMAS,
    database_path,
    file_of,
    remember_file,
    threads_to_stop,
)
from starfish_disk import SqliteFile

__all__ = ("create_engine",)
_engines: WeakSet[Engine] = WeakSet()
_inherited: list[object] = []
"""Pools of the parent of this process; never closed here."""


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
            event.listen(engine.sync_engine, "engine_disposed", partial(_stop_threads, os.getpid()))
            _engines.add(engine.sync_engine)
        event.listen(engine.sync_engine, "connect", _set_pragmas)
    return engine


def _look_first(file: SqliteFile, *_event: object) -> None:
    """Raise the refusal of the file before the driver opens it.

    aiosqlite would have begun a thread by then, which ends after the caller was told, and fails
    loudly when the event loop is gone meanwhile.
    """
    await_only(asyncio.to_thread(file.ensure))


def _stop_threads(pid: int, engine: Engine) -> None:
    if os.getpid() == pid:  # else they are threads of the parent
        for thread in threads_to_stop(engine):
            await_only(thread.stop())


def _forget_in_child() -> None:
    """Keep a forked child from waiting for the threads of its parent's connections.

    Nor may it close them: SQLite would take the parent's log for one that nobody uses.
    """
    for engine in list(_engines):
        _inherited.append(engine.pool)
        engine.dispose(close=False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


def _set_pragmas(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(pragma)
    cursor.close()
