"""The files of SQLite databases: marked as ours, and looked after while they are open."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

from sqlalchemy import Engine
from sqlalchemy.engine import URL

from starfish_artifact_registry.db._sqlite_thread import Kind, SqliteThread
from starfish_disk import Place, SqliteFile

__all__ = (
    "APPLICATION_ID",
    "BUSY_TIMEOUT_MS",
    "PRAGMAS",
    "check_of",
    "database_path",
    "file_of",
    "remember_file",
    "thread_of",
    "threads_to_stop",
)

APPLICATION_ID: Final = 0x53465247
"""``SFRG`` in the header of the file; other applications' files are refused."""
BUSY_TIMEOUT_MS: Final = 30_000
"""How long a writer waits for the one before it; each holds the lock for one group commit."""
PRAGMAS: Final = (f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}", "PRAGMA foreign_keys = ON")
"""What a new connection is told."""
_OURS: Final = {"events", "artifact_packages", "retention_classes"}
_files: WeakKeyDictionary[Engine, SqliteFile] = WeakKeyDictionary()
_places: WeakKeyDictionary[Engine, Place] = WeakKeyDictionary()
_threads: WeakKeyDictionary[Engine, dict[Kind, SqliteThread]] = WeakKeyDictionary()


def database_path(url: URL) -> Path | None:
    """The file of a database, ``None`` for one in memory and for an SQLite URI."""
    name = url.database
    if not name or name == ":memory:" or name.startswith("file:"):
        return None
    return Path(name)


def file_of(path: Path) -> SqliteFile:
    """The file of a registry; its tables and their revision are SQLAlchemy's and Alembic's."""
    return SqliteFile(
        path,
        application_id=APPLICATION_ID,
        layouts=[()],
        busy_timeout_ms=BUSY_TIMEOUT_MS,
        adopt=_adopt,
    )


def remember_file(engine: Engine, file: SqliteFile) -> None:
    """Have `check_of` look at this file."""
    _files[engine] = file


def thread_of(engine: Engine, kind: Kind) -> SqliteThread | None:
    """The thread for transactions of one kind; ``None`` where an engine is not of `remember_file`."""
    file = _files.get(engine)
    if file is None:
        return None
    threads = _threads.setdefault(engine, {})
    if kind not in threads:
        threads[kind] = SqliteThread(file, PRAGMAS, kind)
    return threads[kind]


def threads_to_stop(engine: Engine) -> list[SqliteThread]:
    """The threads of an engine that is disposed of; later calls begin new ones."""
    return list(_threads.pop(engine, {}).values())


def check_of(engine: Engine) -> Callable[[], None]:
    """A check that the database of an engine is still the one that was opened.

    Raises:
        DiskError: by the check: the file was moved, removed or replaced.
    """
    file = _files.get(engine)
    if file is not None:
        return file.check_in_place
    path = database_path(engine.url)
    if engine.dialect.name != "sqlite" or path is None:
        return lambda: None
    return _places.setdefault(engine, Place(path)).check


def _adopt(tables: Collection[str], _version: int) -> int | None:
    """Databases that were made before files were marked, or by an engine of the caller's own."""
    return 1 if set(tables) >= _OURS else None
