"""The file of `SqliteObjectStore`: opening it, its tables, and what can be wrong with it.

Rule: no `sqlite3.Error` leaves this module's callers; `SqliteFile.unavailable` makes the typed one.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from starfish_server.errors import StoreUnavailableError
from starfish_server.storage._durable_folder import make_durable_folder
from starfish_server.storage._place import Place
from starfish_server.storage._sqlite_layouts import APPLICATION_ID, LAYOUTS

__all__ = ("SqliteFile",)


class SqliteFile:
    """Opens connections to one database file, the same one each time; knows no documents.

    Args:
        path: of the file; it and the folders above it are created when missing.
        busy_timeout_ms: how long to wait while another process writes.
    """

    def __init__(self, path: Path, *, busy_timeout_ms: int) -> None:
        self.path = path
        self._place = Place(path)
        self._busy_timeout_s = busy_timeout_ms / 1000

    def unavailable(self, error: sqlite3.Error | OSError | str) -> StoreUnavailableError:
        """What a caller is told."""
        if isinstance(error, sqlite3.Error):
            name = getattr(error, "sqlite_errorname", "")
            if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                reason = f"another process has held its lock for {self._busy_timeout_s:g} s"
            else:
                reason = f"{error} ({name})" if name else str(error)
        elif isinstance(error, OSError):
            reason = f"{error.strerror}: {error.filename}" if error.filename else str(error)
        else:
            reason = error
        return StoreUnavailableError(str(self.path), reason)

    def open(self) -> sqlite3.Connection:
        """A connection to the file, which has its tables; for the calling thread only.

        Raises:
            StoreUnavailableError: it cannot be opened, or is not a file of this store.
        """
        try:
            if self._place.is_known():  # by another thread: nothing may be made in its place
                self._place.check()
            make_durable_folder(self.path.parent)
            connection = self._open_when_not_busy()
            self._place.check()
        except (sqlite3.Error, OSError) as error:
            raise self.unavailable(error) from error
        return connection

    def check_in_place(self) -> None:
        """Fail when the file was removed or replaced since it was opened.

        Raises:
            StoreUnavailableError: it was; what is written to the old one would be lost.
        """
        try:
            self._place.check()
        except OSError as error:
            raise self.unavailable(error) from error

    def _open_when_not_busy(self) -> sqlite3.Connection:
        # SQLite does not wait for its lock in all of what follows: several processes that open
        # a new file at once see SQLITE_BUSY from the change to WAL.
        deadline = time.monotonic() + self._busy_timeout_s
        while True:
            connection = sqlite3.connect(
                self.path, timeout=self._busy_timeout_s, isolation_level=None
            )
            try:
                self._prepare(connection)
            except BaseException as error:
                connection.close()
                name = getattr(error, "sqlite_errorname", "")
                if not name.startswith("SQLITE_BUSY") or time.monotonic() >= deadline:
                    raise
                time.sleep(0.005)
            else:
                return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")  # so that all that is looked at is of one moment
        layout = self._layout(connection)
        connection.execute("COMMIT")
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise self.unavailable(f"its file system cannot hold a write-ahead log (mode {mode})")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cell_size_check = ON")  # damage is found earlier
        connection.execute("PRAGMA trusted_schema = OFF")
        if layout < len(LAYOUTS):
            connection.execute("BEGIN IMMEDIATE")
            # Another process may have done it in the meantime.
            for statements in LAYOUTS[self._layout(connection) :]:
                for statement in statements:
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {len(LAYOUTS)}")
            connection.execute("COMMIT")

    def _layout(self, connection: sqlite3.Connection) -> int:
        """The file's layout, 0 when it is new."""
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if (application_id, version, tables) == (0, 0, 0):
            return 0
        if application_id != APPLICATION_ID:
            raise self.unavailable("the file is a database of another application")
        if version > len(LAYOUTS):
            raise self.unavailable(
                f"the file has layout {version}, this version knows up to {len(LAYOUTS)}"
            )
        return int(version)
