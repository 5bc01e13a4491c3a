"""Group commit over a `SqliteFile`: the calls that wait share one transaction, and one sync.

Rule 1: a call is told of success after the commit, by a file that is in its place. Rule 2: each
call fails alone: an operation that raises is undone, and the others of its batch are not. Rule 3: an
operation may be run again, after everything it did was rolled back; it must do nothing but use its
connection.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeAlias

from starfish_disk.batch_thread import Call
from starfish_disk.errors import BusyError, DiskError, ForkedError, PlaceChangedError
from starfish_disk.sqlite_errors import from_sqlite_error, sqlite_errors_translated
from starfish_disk.sqlite_file import Durability, SqliteFile, roll_back

__all__ = ("GroupCommit", "SnapshotReads")

_Calls: TypeAlias = Sequence[Call[sqlite3.Connection]]


class _Connected:
    """A worker's connection, opened by the first batch and again after a failure."""

    def __init__(
        self, file: SqliteFile, *, as_error: Callable[[DiskError], Exception] | None = None
    ) -> None:
        self.file = file
        """The file, as it was given."""
        self._as_error = as_error
        self._connection: sqlite3.Connection | None = None

    def tick(self) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Close the connection.

        Raises:
            DiskError: SQLite could not; the commits are in the file or its log.
        """
        connection, self._connection = self._connection, None
        if connection is not None:
            with sqlite_errors_translated(self.file.path):
                connection.close()

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self.file.connect()
        return self._connection

    def _drop_if_closed(self) -> None:
        """A connection that could not roll back was closed; the next batch opens another one."""
        if self._connection is not None:
            try:
                _ = self._connection.in_transaction
            except sqlite3.ProgrammingError:
                self._connection = None

    def _told(self, error: Exception) -> Exception:
        """The error of a caller."""
        if isinstance(error, sqlite3.Error):
            translated = from_sqlite_error(self.file.path, error)
            translated.__cause__ = error
            error = translated
        if isinstance(error, DiskError) and self._as_error is not None:
            own = self._as_error(error)
            own.__cause__ = error
            return own
        return error

    def _fail(self, calls: _Calls, error: Exception) -> None:
        """The same error for each of several callers, each its own copy."""
        for call in calls:
            each = error.own_copy() if isinstance(error, DiskError) else error
            call.error = self._told(each)


class GroupCommit(_Connected):
    """A worker of `BatchThread` that runs ``operation(connection)`` of all calls in one transaction.

    An operation sees the writes of those before it. When it raises, its caller gets that exception
    and nothing of it stays. When the commit itself fails (a full disk, say), each call is tried in
    a transaction of its own, so that the small ones may succeed.

    Args:
        file: opened by the first batch.
        committed: called in the thread with the calls whose writes are on disk by then, before
            their callers are told; must not raise.
        tick: called in the thread with the connection, outside a transaction, as often as the
            `BatchThread` says; the log is kept bounded besides.
        farewell: called with the connection before it is closed.
        durability: chooses for a batch; ``None`` leaves it as the file says.
        as_error: makes the caller's error of each `DiskError`.
    """

    def __init__(
        self,
        file: SqliteFile,
        *,
        committed: Callable[[_Calls], object] | None = None,
        tick: Callable[[sqlite3.Connection], object] | None = None,
        farewell: Callable[[sqlite3.Connection], object] | None = None,
        durability: Callable[[_Calls], Durability] | None = None,
        as_error: Callable[[DiskError], Exception] | None = None,
    ) -> None:
        super().__init__(file, as_error=as_error)
        self._durability = durability
        self._current: Durability | None = None
        self._committed = committed
        self._on_tick = tick
        self._farewell = farewell

    def run(self, calls: _Calls) -> None:
        """Run a batch; every call has its result or its error."""
        try:
            self._commit(calls)
        except (BusyError, PlaceChangedError, ForkedError) as error:
            self._fail(calls, error)  # the same would come of every other try
        except (DiskError, MemoryError) as error:
            self._drop_if_closed()
            if len(calls) == 1:
                self._fail(calls, error)
            else:
                for call in calls:
                    self._commit_alone(call)
        if self._committed is not None:
            self._committed([call for call in calls if call.error is None])

    def tick(self) -> None:
        """Do the regular work, when the file is open."""
        if self._connection is not None:
            self.file.check_in_place()
            with sqlite_errors_translated(self.file.path):
                if self._on_tick is not None:
                    self._on_tick(self._connection)
            self.file.keep_wal_bounded(self._connection)

    def finish(self) -> None:
        """Say farewell, and close the connection.

        Raises:
            DiskError: SQLite could not; the commits are in the file or its log.
        """
        try:
            if self._connection is not None and self._farewell is not None:
                with sqlite_errors_translated(self.file.path):
                    self._farewell(self._connection)
        finally:
            super().finish()

    def _commit_alone(self, call: Call[sqlite3.Connection]) -> None:
        try:
            self._commit([call])
        except (DiskError, MemoryError) as error:
            self._drop_if_closed()
            self._fail([call], error)

    def _commit(self, calls: _Calls) -> None:
        """One transaction for all that do not fail alone."""
        connection = self._opened()
        self._choose_durability(connection, calls)
        while calls:
            try:
                with self.file.transaction(connection):
                    for call in calls:
                        self._operate(connection, call)
            except _TornError as torn:
                torn.call.error = self._told(torn.error)
                calls = [call for call in calls if call is not torn.call]
            else:
                return

    def _operate(self, connection: sqlite3.Connection, call: Call[sqlite3.Connection]) -> None:
        changes = connection.total_changes
        call.error = None
        try:
            call.result = call.operation(connection)
        except Exception as error:
            if not connection.in_transaction:  # SQLite has undone all of it: a full disk, say
                raise
            if connection.total_changes != changes:
                raise _TornError(call, error) from error
            call.error = self._told(error)  # nothing of it is left

    def _choose_durability(self, connection: sqlite3.Connection, calls: _Calls) -> None:
        if self._durability is not None and (wanted := self._durability(calls)) != self._current:
            with sqlite_errors_translated(self.file.path):
                self.file.set_durability(connection, wanted)
            self._current = wanted


class SnapshotReads(_Connected):
    """A worker of `BatchThread` that answers a batch of reads from one snapshot.

    The snapshot is taken after the last of them was asked. Each read fails alone.

    Args:
        file: opened by the first batch.
        as_error: makes the caller's error of each `DiskError`.
    """

    def run(self, calls: _Calls) -> None:
        """Answer a batch; every call has its result or its error."""
        try:
            connection = self._opened()
            self.file.check_in_place()
            with sqlite_errors_translated(self.file.path):
                connection.execute("BEGIN")
            try:
                for call in calls:
                    self._answer(connection, call)
            finally:
                roll_back(connection)
        except DiskError as error:
            self._drop_if_closed()
            self._fail(calls, error)

    def _answer(self, connection: sqlite3.Connection, call: Call[sqlite3.Connection]) -> None:
        try:
            call.result = call.operation(connection)
        except Exception as error:  # noqa: BLE001  the caller's own
            call.error = self._told(error)


class _TornError(Exception):
    """An operation raised after it had written; everything was rolled back."""

    def __init__(self, call: Call[sqlite3.Connection], error: Exception) -> None:
        super().__init__(str(error))
        self.call, self.error = call, error
