"""The parts of a database's header that tell whose file it is and which layout it has."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

__all__ = ("SqliteHeader", "read_header", "read_pragma")


class SqliteHeader(NamedTuple):
    """Owner, layout and content of a database, by name."""

    application_id: int
    version: int
    tables: frozenset[str]


def read_header(connection: sqlite3.Connection) -> SqliteHeader:
    """Read it."""
    names = connection.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')")
    return SqliteHeader(
        read_pragma(connection, "application_id"),
        read_pragma(connection, "user_version"),
        frozenset(name for (name,) in names),
    )


def read_pragma(connection: sqlite3.Connection, pragma: str) -> int:
    """The value of a pragma that is a number."""
    (value,) = connection.execute(f"PRAGMA {pragma}").fetchone()
    return int(value)
