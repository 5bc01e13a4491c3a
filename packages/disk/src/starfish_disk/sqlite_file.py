"""A SQLite file that a store owns: opened safely, durable, bounded, and refused when it is not ours.

Rule 1: a file that is refused is left as it was, byte for byte. Rule 2: no descriptor of a database
is opened and closed here besides SQLite's own; that would take away this process's locks on it.
Rule 3: nothing is open any more when a call to open has raised.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Generator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from starfish_disk import _system
from starfish_disk._sqlite_header import SqliteHeader, read_header, read_pragma
from starfish_disk.durable import make_folder, sync_folder
from starfish_disk.errors import (
    DamagedError,
    ForeignError,
    ForkedError,
    MissingError,
    NewerLayoutError,
    PlaceChangedError,
    UnavailableError,
    os_errors_translated,
)
from starfish_disk.place import Place
from starfish_disk.sqlite_errors import sqlite_errors_translated
from starfish_disk.sqlite_wal import check_wal, pages_in_wal, shared_memory_path, wal_path, wal_size

__all__ = ("Adopt", "Check", "Durability", "Layout", "SqliteFile", "roll_back")

Durability: TypeAlias = Literal["full", "normal"]
"""``full``: a commit that returned survives a power cut. ``normal``: it survives the death of the
process; a power cut may take back the newest commits, and never damages the file."""
Check: TypeAlias = Literal["none", "wal", "quick"]
"""Looked at on opening besides the header: nothing, the checksums of the log, or the whole
structure as well (``PRAGMA quick_check``)."""
Layout: TypeAlias = Sequence[str | Callable[[sqlite3.Connection], object]]
"""The statements, or functions of a connection, that turn the layout before into this one. All of
them run inside one transaction: a function must not end it."""
Adopt: TypeAlias = Callable[[AbstractSet[str], int], int | None]
"""Given the names of all tables, and ``user_version``, of a file that has no application id: the
number of its layout, counted from 1, or ``None`` when it is not one of ours."""

_WAL_LIMIT_BYTES: Final = 8 * 1024 * 1024
_POLL_S: Final = 0.005
_LOOKS: Final = 5
_CHECKPOINT_WAIT_MS: Final = 100
_SMALLEST: Final = 100
"""Bytes of the header of a database; SQLite drops the log beside a file that is shorter."""
_WAL_HEADER: Final = 32

_creating = threading.Lock()
"""Between making a file and closing it again no other thread may open it."""


class SqliteFile:
    """One database file and its rules; gives connections. Does no I/O when it is made.

    The folders above are made, durably. The file, its log (``-wal``) and the log's index (``-shm``)
    get ``mode``; those of an existing file are narrowed to it. In a process that was forked after
    the first connection every call raises `ForkedError`.

    Args:
        path: of the file; must not be on a network file system.
        application_id: number in the header by which files of this kind are known, not 0.
        layouts: the first one makes a new file, each later one changes the one before.
        durability: of a commit; `set_durability` changes it for a connection.
        busy_timeout_ms: how long a call waits while another process or thread writes.
        wal_limit_bytes: the length that the log is brought back to.
        check: things that the first connection looks at.
        mode: permissions of the files.
        page_size: bytes, for a new file; ``None`` for SQLite's default.
        adopt: tells which unmarked files are ours, written before they had an application id.

    Examples:
        >>> import tempfile
        >>> notes = SqliteFile(
        ...     f"{tempfile.mkdtemp()}/notes.sqlite",
        ...     application_id=0x4E4F5445,
        ...     layouts=[["CREATE TABLE note (text TEXT NOT NULL)"]],
        ... )
        >>> connection = notes.connect()
        >>> with notes.transaction(connection):
        ...     _ = connection.execute("INSERT INTO note VALUES ('hello')")
        >>> connection.execute("SELECT text FROM note").fetchall()
        [('hello',)]
        >>> connection.close()
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        application_id: int,
        layouts: Sequence[Layout],
        durability: Durability = "full",
        busy_timeout_ms: int = 10_000,
        wal_limit_bytes: int = _WAL_LIMIT_BYTES,
        check: Check = "none",
        mode: int = 0o600,
        page_size: int | None = None,
        adopt: Adopt | None = None,
    ) -> None:
        if not 0 < application_id < 2**31:
            raise ValueError(f"application_id must be from 1 to 2**31 - 1, not {application_id}")
        if not layouts:
            raise ValueError("layouts must have at least one layout")
        self.path = Path(path)
        """The path, as it was given."""
        self.application_id = application_id
        """The number in the header."""
        self.newest_layout = len(layouts)
        """The layout that an opened file has."""
        self._layouts = layouts
        self._durability: Durability = durability
        self._busy_timeout_s = busy_timeout_ms / 1000
        self._wal_limit_bytes = wal_limit_bytes
        self._check: Check = check
        self._mode = mode
        self._page_size = page_size
        self._adopt = adopt
        self._place = Place(self.path)
        self._wal: Place | None = None
        self._pid: int | None = None

    # Opening.

    def connect(self, *, create: bool = True) -> sqlite3.Connection:
        """A connection in autocommit mode to the file, which has the newest layout.

        It may be used by several threads, one at a time.

        Args:
            create: make the file when it is missing.

        Raises:
            MissingError: there is no file, and ``create`` is false.
            ForeignError: the file is of another application.
            NewerLayoutError: a later version wrote it.
            DamagedError: it is not a SQLite database, is too short, or does not fit its log.
            PlaceChangedError: another file than before is there.
            BusyError: another process has locked it for too long.
            DiskError: it cannot be opened, for any other reason.
        """
        self._enter_process()
        _system.require_posix(self.path, "a SQLite file")
        if self._place.is_known():
            self._place.check()  # nothing may be made in the place of the one that was there
        else:
            self._look_and_create(create=create)
        with sqlite_errors_translated(self.path):
            connection = self._connected()
        try:
            self._place.check()
            self._remember_wal()
        except BaseException:
            connection.close()
            raise
        return connection

    def ensure(self) -> None:
        """Have the file, at the newest layout, before another library opens it.

        Costs one ``stat`` after the first time.

        Raises:
            DiskError: as `connect`.
        """
        self._enter_process()
        if self._place.is_known():
            self._place.check()
        else:
            self.connect().close()

    def prepare(self, connection: Any, _record: object = None) -> None:
        """Give the settings of `connect` to a connection that another library opened.

        Fits SQLAlchemy's event ``connect``; call `ensure` before (event ``do_connect``), and
        `check_in_place` on ``begin`` and on ``commit``.

        Args:
            connection: of the DB-API, or an adapter with ``cursor()``.

        Raises:
            DiskError: as `connect`; or the driver's own error.
        """
        self._enter_process()
        cursor = connection.cursor()
        try:
            for pragma in self._pragmas():
                cursor.execute(pragma)
                cursor.fetchall()
            cursor.execute("SELECT count(*) FROM sqlite_schema")  # now the log is open
            cursor.fetchall()
        finally:
            cursor.close()
        self._place.check()
        self._remember_wal()

    @contextmanager
    def read_only(self) -> Generator[sqlite3.Connection]:
        """A connection that changes neither the file nor its log, at whatever layout it has.

        Raises:
            MissingError: there is no such file.
            DiskError: as `connect`.
        """
        self._enter_process()
        with os_errors_translated(self.path):
            _system.calls.status(self.path)
        with sqlite_errors_translated(self.path), closing(self._look()) as connection:
            header = read_header(connection)
            if not self._layout_of(header):
                raise DamagedError(self.path, "it is an empty database, without any layout")
            yield connection

    def _look_and_create(self, *, create: bool) -> None:
        with sqlite_errors_translated(self.path):
            self._refuse_strangers()
        with _creating:
            try:
                _system.calls.status(self.path)
            except FileNotFoundError:
                if not create:
                    raise MissingError(self.path, "there is no such file") from None
                make_folder(self.path.parent)
                self._create()
        if self._check != "none":
            check_wal(self.path)
        for path in (self.path, wal_path(self.path), shared_memory_path(self.path)):
            with suppress(OSError):  # not there, or another user's
                mode = _system.calls.status(path).st_mode & 0o777
                if mode & ~self._mode:
                    _system.calls.set_mode(path, mode & self._mode)

    def _create(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _system.CLOEXEC
        with os_errors_translated(self.path), suppress(FileExistsError):
            _system.calls.close(_system.calls.open(self.path, flags, self._mode))
        sync_folder(self.path.parent)

    def _refuse_strangers(self) -> None:
        """Look at the file in a way that changes nothing, not even when it is closed again."""
        for attempt in range(_LOOKS):
            logged = wal_size(self.path)  # before the file: a log with frames has a whole file
            try:
                size = _system.calls.status(self.path).st_size
            except FileNotFoundError:
                size = 0
            except OSError:
                with os_errors_translated(self.path):
                    raise
            if size < _SMALLEST:
                if logged > _WAL_HEADER or size:
                    log = f" beside a write-ahead log of {logged}" if logged else ""
                    said = f"it has {size} bytes{log}, too few for a SQLite database"
                    raise DamagedError(self.path, f"{said}; nothing was touched")
                return
            try:
                with closing(self._look()) as connection:
                    self._layout_of(read_header(connection))
                    if logged:
                        self._refuse_missing_pages(connection, size)
            except (sqlite3.DatabaseError, DamagedError):
                # Another process may have begun to write between the two looks.
                if attempt + 1 == _LOOKS or wal_size(self.path) == logged == 0:
                    raise
                _system.calls.sleep(_POLL_S)
            else:
                return

    def _look(self) -> sqlite3.Connection:
        """A connection that cannot fold the log into the file, which closing another one does."""
        # Without a log nobody has written, and nothing must be made beside the file.
        return self._connected_for_a_look(alone=not wal_size(self.path))

    def _connected_for_a_look(self, *, alone: bool) -> sqlite3.Connection:
        how = "mode=ro&immutable=1" if alone else "mode=ro"
        uri = f"{self.path.absolute().as_uri()}?{how}"
        return sqlite3.connect(
            uri,
            uri=True,
            isolation_level=None,
            timeout=self._busy_timeout_s,
            check_same_thread=False,
        )

    def _refuse_missing_pages(self, connection: sqlite3.Connection, size: int) -> None:
        """SQLite sees that a file is too short, but not when there is a log beside it."""
        if self._is_as_long_as_its_header_says():
            return
        pages, page_size = (
            read_pragma(connection, "page_count"),
            read_pragma(connection, "page_size"),
        )
        missing = set(range(size // page_size + 1, pages + 1)) - pages_in_wal(self.path)
        if missing:
            raise DamagedError(
                self.path,
                f"it is cut off: {len(missing)} of {pages} pages are neither in it nor in its log",
            )

    def _is_as_long_as_its_header_says(self) -> bool:
        """Without its log; an interrupted checkpoint may have left it shorter, and all is well."""
        try:
            with closing(self._connected_for_a_look(alone=True)) as connection:
                read_pragma(connection, "application_id")  # reads the header
        except sqlite3.DatabaseError:
            return False
        return True

    def _connected(self) -> sqlite3.Connection:
        # SQLite does not wait for its lock in all of what follows: several processes that open
        # a new file at once see SQLITE_BUSY from the change to a write-ahead log.
        give_up_at = _system.calls.monotonic() + self._busy_timeout_s
        while True:
            connection = sqlite3.connect(
                self.path,
                timeout=self._busy_timeout_s,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=256,
            )
            try:
                self._bring_up_to_date(connection)
            except BaseException as error:
                connection.close()
                code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                if code != sqlite3.SQLITE_BUSY or _system.calls.monotonic() >= give_up_at:
                    raise
                _system.calls.sleep(_POLL_S)
            else:
                return connection

    def _bring_up_to_date(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")  # so that all that is looked at is of one moment
        header = read_header(connection)
        layout = self._layout_of(header)
        connection.execute("COMMIT")
        if not layout and self._page_size is not None:
            connection.execute(f"PRAGMA page_size = {self._page_size:d}")
        for pragma in self._pragmas():
            row = connection.execute(pragma).fetchone()
            if pragma.startswith("PRAGMA journal_mode") and row != ("wal",):
                raise UnavailableError(
                    self.path, f"its file system cannot hold a write-ahead log (mode {row[0]})"
                )
        if self._check == "quick" and not self._place.is_known():
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise DamagedError(self.path, str(verdict))
        if layout < self.newest_layout or header.application_id != self.application_id:
            connection.execute("PRAGMA synchronous = FULL")
            self._change_layout(connection)
            self.set_durability(connection, self._durability)

    def _change_layout(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have done it in the meantime.
            for steps in self._layouts[self._layout_of(read_header(connection)) :]:
                for step in steps:
                    if isinstance(step, str):
                        connection.execute(step)
                    else:
                        step(connection)
            connection.execute(f"PRAGMA application_id = {self.application_id:d}")
            connection.execute(f"PRAGMA user_version = {self.newest_layout:d}")
            connection.execute("COMMIT")
        except BaseException:
            roll_back(connection)
            raise

    def _layout_of(self, header: SqliteHeader) -> int:
        """The layout of a file, 0 when it is new."""
        if header == (0, 0, frozenset()):
            return 0
        layout: int | None = header.version
        if header.application_id != self.application_id:
            layout = None
            if header.application_id == 0 and self._adopt is not None:
                layout = self._adopt(header.tables, header.version)
        elif not layout:
            raise DamagedError(self.path, "its header has an application id, but not a layout")
        if layout is None:
            raise ForeignError(self.path, "it is a database of another application")
        if layout > self.newest_layout:
            raise NewerLayoutError(self.path, layout, self.newest_layout)
        return layout

    def _pragmas(self) -> tuple[str, ...]:
        return (
            f"PRAGMA busy_timeout = {int(self._busy_timeout_s * 1000)}",
            "PRAGMA fullfsync = ON",  # only macOS tells fsync from a write that reaches the disk
            "PRAGMA checkpoint_fullfsync = ON",
            "PRAGMA journal_mode = WAL",
            f"PRAGMA synchronous = {self._durability.upper()}",
            f"PRAGMA journal_size_limit = {self._wal_limit_bytes:d}",
            "PRAGMA cell_size_check = ON",  # damage is found earlier
            "PRAGMA trusted_schema = OFF",
        )

    # Using.

    def check_in_place(self, *_event: object) -> None:
        """Fail when the file or its log was moved, removed or replaced since it was opened.

        Two ``stat``, a few microseconds. Call it with a connection open, before a transaction and
        after its commit; `transaction` does. Takes and ignores the arguments of SQLAlchemy's events.

        Raises:
            PlaceChangedError: it was; a commit to the old one would be lost.
            ForkedError: this process was forked from the one that opened the file.
        """
        self._enter_process()
        self._place.check()
        if self._wal is not None:
            try:
                self._wal.check()
            except PlaceChangedError as error:
                raise PlaceChangedError(
                    self.path, f"its write-ahead log: {error.reason}"
                ) from error

    @contextmanager
    def transaction(self, connection: sqlite3.Connection) -> Generator[sqlite3.Connection]:
        """Write inside one transaction: committed, and in place, when the block has ended.

        An exception in the block rolls it back and goes on as it is, errors of SQLite translated.

        Raises:
            PlaceChangedError: the file is not in its place, before or after the commit.
            DiskError: the translation of an error of SQLite.
        """
        with sqlite_errors_translated(self.path):
            if not connection.in_transaction:  # a closed connection says here that it is
                self.check_in_place()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                roll_back(connection)
                raise
        self.check_in_place()

    def set_durability(self, connection: sqlite3.Connection, durability: Durability) -> None:
        """Choose for the commits of a connection from now on; not inside a transaction."""
        connection.execute(f"PRAGMA synchronous = {durability.upper()}")

    def keep_wal_bounded(self, connection: sqlite3.Connection) -> bool:
        """Fold the log into the file and begin it anew, when it is longer than its limit.

        The checkpoints that SQLite does by itself do not get there as long as there is always a
        reader. Call it now and then, outside a transaction; one ``stat`` when there is nothing to do.

        Returns:
            Whether the log is within its limit now; readers may hold it up for a while.

        Raises:
            DiskError: the translation of an error of SQLite.
        """
        if wal_size(self.path) <= self._wal_limit_bytes:
            return True
        with sqlite_errors_translated(self.path):
            connection.execute(f"PRAGMA busy_timeout = {_CHECKPOINT_WAIT_MS}")
            try:
                (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                connection.execute(f"PRAGMA busy_timeout = {int(self._busy_timeout_s * 1000)}")
        return not busy

    def _remember_wal(self) -> None:
        wal = Place(wal_path(self.path))
        with suppress(MissingError):
            wal.check()
        self._wal = wal if wal.is_known() else None

    def _enter_process(self) -> None:
        if self._pid is None:
            self._pid = os.getpid()
        elif self._pid != os.getpid():
            raise ForkedError(
                self.path, "it was opened before this process was forked; open it here anew"
            )


def roll_back(connection: sqlite3.Connection) -> None:
    """End a transaction that failed; a connection that cannot do that is closed."""
    try:
        if connection.in_transaction:  # or SQLite has done it
            connection.execute("ROLLBACK")
    except sqlite3.Error:
        connection.close()
