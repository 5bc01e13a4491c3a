"""The error of this package for each error of SQLite."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from starfish_disk import _system
from starfish_disk.errors import (
    BusyError,
    ClosedError,
    DamagedError,
    DiskError,
    FullError,
    MissingError,
    PlaceChangedError,
    ReadOnlyError,
    ShortageError,
    UnavailableError,
    from_os_error,
)

__all__ = ("from_sqlite_error", "sqlite_errors_translated")

_KINDS: Final[dict[int, type[DiskError]]] = {
    sqlite3.SQLITE_BUSY: BusyError,
    sqlite3.SQLITE_LOCKED: BusyError,
    sqlite3.SQLITE_FULL: FullError,
    sqlite3.SQLITE_CORRUPT: DamagedError,
    sqlite3.SQLITE_NOTADB: DamagedError,
    sqlite3.SQLITE_READONLY: ReadOnlyError,
    sqlite3.SQLITE_PERM: ReadOnlyError,
    sqlite3.SQLITE_AUTH: ReadOnlyError,
    sqlite3.SQLITE_NOMEM: ShortageError,
}


def from_sqlite_error(path: str | os.PathLike[str], error: sqlite3.Error) -> DiskError:
    """The error of this package for an error of SQLite.

    Errors of a statement itself (a constraint, a wrong name) become `UnavailableError`: a store
    that expects one catches it before.

    Args:
        path: of the database.
        error: as the driver raised it.
    """
    name: str = getattr(error, "sqlite_errorname", "")
    code: int = getattr(error, "sqlite_errorcode", 0)
    reason = f"{error} ({name})" if name else str(error)
    if code == sqlite3.SQLITE_READONLY_DBMOVED:
        return PlaceChangedError(path, "it was moved or removed while it was open")
    if code & 0xFF == sqlite3.SQLITE_CANTOPEN:
        return _cannot_open(path, reason)
    if isinstance(error, sqlite3.ProgrammingError) and "closed database" in str(error):
        return ClosedError(path, "it is closed")
    kind = _KINDS.get(code & 0xFF, UnavailableError)
    if kind is BusyError:
        reason = f"another process or thread has held its lock for too long: {reason}"
    return kind(path, reason)


def _cannot_open(path: str | os.PathLike[str], reason: str) -> DiskError:
    """SQLite does not say why; the operating system does."""
    try:
        _system.calls.close(_system.calls.open(os.devnull, os.O_RDONLY | _system.CLOEXEC))
    except OSError as error:
        return from_os_error(path, error)
    try:
        _system.calls.status(path)
    except FileNotFoundError:
        return MissingError(path, f"there is nothing of that name, and it cannot be made: {reason}")
    except OSError as error:
        return from_os_error(path, error)
    if not os.access(path, os.R_OK | os.W_OK):
        return ReadOnlyError(path, f"it may not be read and written: {reason}")
    return UnavailableError(path, reason)


@contextmanager
def sqlite_errors_translated(path: str | os.PathLike[str]) -> Generator[None]:
    """Raise `from_sqlite_error` of any `sqlite3.Error` in the block, with that as its cause."""
    try:
        yield
    except sqlite3.Error as error:
        raise from_sqlite_error(path, error) from error
