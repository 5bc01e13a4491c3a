# ruff: noqa: S608 - the names of the tables are constants
"""The one connection of a `SqliteOutbox`: on the event loop while the disk is quick, on a thread else.

Rule 1: the holder of the lock has the connection. Rule 2: a commit on the event loop never waits: neither
for the lock nor for another process. Rule 3: on a full disk everything but a new item gets the
reserve. Rule 4: a change is told of after its commit, by a file that is in its place.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, cast

from starfish_disk.batch_thread import BatchThread, Call
from starfish_disk.errors import BusyError, ClosedError, DiskError, FullError
from starfish_disk.sqlite_errors import from_sqlite_error
from starfish_disk.sqlite_file import roll_back
from starfish_outbox._sqlite.index import KnownIds
from starfish_outbox._sqlite.layout import ENTRIES, own_error
from starfish_outbox._sqlite.reserve import RESERVE_BYTES, Reserve
from starfish_outbox.errors import OutboxForkedError

logger = logging.getLogger(__name__)

T = TypeVar("T")

CHECKPOINT_PAGES = 1000
"""Pages in the log after which it is folded into the file."""
CHECKPOINT_BYTES = RESERVE_BYTES // 3
"""Bytes of new items in the log after which it is folded in: the file grows by no more than twice as
many, since two items that fill more than half a page take two pages. So the reserve is enough."""
CALM_COMMITS = 8
"""Quick commits in a row on the thread after which the event loop commits again."""
LEAST_FREE_PAGES = 64
"""Below a quarter of a megabyte it is not worth the while."""
POLL_S = 0.002
"""Between two looks whether another process is through with its transaction."""


class File(Protocol):
    """The database: a `SqliteFile`, or one of an application."""

    @property
    def path(self) -> Path:
        """Of the file."""
        ...

    def connect(self) -> sqlite3.Connection:
        """A connection, the tables made when missing."""
        ...

    def check_in_place(self) -> None:
        """Fail when the file is not under its path any more."""
        ...


@dataclass(slots=True)
class Job(Generic[T]):
    """Work with the connection."""

    work: Callable[[sqlite3.Connection], T]
    writes: bool = True
    """Whether it needs a transaction; a lone statement has its own."""
    is_lone: bool = False
    """Whether it is one statement."""
    durable: bool = True
    """Whether its commit must survive power loss."""
    adds: bool = False
    """Whether it stores new items, and so may not use the reserve."""
    committed: Callable[[], None] | None = None
    """Called with the lock held once it is on disk."""
    pages: int = 2
    """About how many it writes into the log."""
    size: int = 0
    """Bytes of items that are new."""

    def __call__(self, connection: sqlite3.Connection) -> T:
        """Do it."""
        return self.work(connection)


class Engine:
    """The connection and its rules; the worker of the thread."""

    def __init__(
        self,
        file: File,
        *,
        inline_commit_ms: float,
        busy_timeout_ms: int,
        beat: Callable[[], Callable[[sqlite3.Connection], None] | None],
        farewell: Callable[[sqlite3.Connection], None],
        owns_file: bool = True,
    ) -> None:
        self.file = file
        """The database."""
        self.ids = KnownIds()
        """The ids that this process knows."""
        self.connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()
        self._budget_s = inline_commit_ms / 1000
        self._busy_s = busy_timeout_ms / 1000
        self._beat = beat
        self._farewell = farewell
        self._owns_file = owns_file
        self._reserve = Reserve(file.path)
        self._pid = os.getpid()
        self._calm = CALM_COMMITS
        self._is_full_sync = True
        self._pages = self._new_bytes = 0

    # On the caller's thread.

    def try_now(self, job: Job[Any]) -> tuple[bool, Any]:
        """Do a job here and now, if that needs no waiting.

        Returns:
            Whether it was done, and its result.

        Raises:
            OutboxError: the file did not take it.
        """
        self._refuse_in_a_child()
        connection = self.connection
        if connection is None or self._calm < CALM_COMMITS or self._budget_s <= 0:
            return False, None
        if self._is_log_long() or not self._lock.acquire(blocking=False):
            return False, None
        begin = time.perf_counter()
        try:
            if job.is_lone and self._is_full_sync:
                result = self._attempt_lone(connection, job)
            else:
                result = self._attempt([job])[0]
        except BusyError:
            return False, None
        except (DiskError, sqlite3.Error) as error:
            told = self._told(error)
            if isinstance(error, DiskError) and _is_without_room(error):
                return False, None  # the thread makes room
            raise told from told.__cause__
        finally:
            self._lock.release()
        if job.writes and time.perf_counter() - begin > self._budget_s:
            self._calm = 0
        return True, result

    def read_now(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Read on the caller's thread, however long that takes.

        Raises:
            OutboxError: the file cannot be read.
        """
        self._refuse_in_a_child()
        with self._translated(), self._lock:
            connection = self._opened()
            self.file.check_in_place()
            return work(connection)

    def _refuse_in_a_child(self) -> None:
        """A connection must not be used on both sides of a fork, and its lock may be held for ever."""
        if os.getpid() != self._pid:
            raise OutboxForkedError(str(self.file.path))

    # On the thread.

    def run(self, calls: Sequence[Call[Engine]]) -> None:
        """Do the jobs of a batch, in one transaction if that works, else one by one."""
        jobs = [cast("Job[Any]", call.operation) for call in calls]
        begin = time.perf_counter()
        try:
            for call, result in zip(calls, self._patiently(jobs), strict=True):
                call.result = result
            is_quick = time.perf_counter() - begin <= self._budget_s
            self._calm = self._calm + 1 if is_quick else 0
        except Exception as error:  # noqa: BLE001 - each caller must hear of it
            if len(calls) == 1 or isinstance(error, BusyError):
                for call in calls:
                    call.error = self._told(error)
            else:
                for call, job in zip(calls, jobs, strict=True):
                    self._do_alone(call, job)
        if self._is_log_long():
            self._checkpoint()

    def tick(self) -> None:
        """Extend the leases; keep the reserve."""
        if self.connection is None:
            return
        beat = self._beat()
        if beat is not None:
            self._patiently([Job(beat, durable=False)])
        if self._pages:
            self._checkpoint()
        if self._owns_file:
            self._reserve.keep()

    def finish(self) -> None:
        """Give the claims back, let go of unused space, close the file."""
        with self._lock:
            connection, self.connection = self.connection, None
        if connection is None:
            return
        try:
            self.file.check_in_place()
            connection.execute("PRAGMA busy_timeout = 1000")
            connection.execute("BEGIN IMMEDIATE")
            self._farewell(connection)
            connection.execute("COMMIT")
            if not self._owns_file:
                return
            _shrink(connection)
            (is_used,) = connection.execute(
                f"SELECT EXISTS (SELECT 1 FROM {ENTRIES} WHERE item IS NOT NULL)"
            ).fetchone()
            if not is_used:
                self._reserve.release()
        except (sqlite3.Error, DiskError) as error:
            logger.warning("%s: claims could not be given back: %s", self.file.path, error)
            roll_back(connection)
        finally:
            connection.close()

    def _do_alone(self, call: Call[Engine], job: Job[Any]) -> None:
        try:
            (call.result,) = self._patiently([job])
        except Exception as error:  # noqa: BLE001 - as above
            call.error = self._told(error)

    def _patiently(self, jobs: Sequence[Job[Any]]) -> list[Any]:
        """Wait for another process's transaction, and make room on a full disk."""
        give_up_at = time.monotonic() + self._busy_s
        made_room = False
        while True:
            try:
                with self._lock:
                    return self._attempt(jobs)
            except BusyError:
                if time.monotonic() >= give_up_at:
                    raise
                time.sleep(POLL_S)
            except DiskError as error:
                adds = any(job.adds for job in jobs)
                if made_room or not _is_without_room(error):
                    raise
                if not self._make_room(may_use_reserve=not adds):
                    raise
                made_room = True

    # With the lock held.

    def _attempt(self, jobs: Sequence[Job[Any]]) -> list[Any]:
        """Do jobs in one transaction."""
        try:
            connection = self._opened()
            if not any(job.writes for job in jobs):
                self.file.check_in_place()
                return [job.work(connection) for job in jobs]
            is_full_sync = any(job.durable for job in jobs)
            if is_full_sync is not self._is_full_sync:
                connection.execute(f"PRAGMA synchronous = {'FULL' if is_full_sync else 'NORMAL'}")
                self._is_full_sync = is_full_sync
            self.ids.begin()
            results = self._transact(connection, jobs)
        except sqlite3.Error as error:
            raise from_sqlite_error(self.file.path, error) from error
        self.file.check_in_place()
        for job in jobs:
            self._pages += job.pages
            self._new_bytes += job.size
            if job.committed is not None:
                job.committed()
        return results

    def _attempt_lone(self, connection: sqlite3.Connection, job: Job[T]) -> T:
        """One statement, which is a transaction by itself."""
        self.ids.begin()
        try:
            result = job.work(connection)
        except BaseException as error:
            roll_back(connection)
            self.ids.take_back()
            if isinstance(error, sqlite3.Error):
                raise from_sqlite_error(self.file.path, error) from error
            raise
        self.file.check_in_place()
        self._pages += job.pages
        self._new_bytes += job.size
        if job.committed is not None:
            job.committed()
        return result

    def _transact(self, connection: sqlite3.Connection, jobs: Sequence[Job[Any]]) -> list[Any]:
        try:
            if len(jobs) == 1 and jobs[0].is_lone:
                return [jobs[0].work(connection)]
            connection.execute("BEGIN IMMEDIATE")
            results = [job.work(connection) for job in jobs]
            connection.execute("COMMIT")
        except BaseException:
            roll_back(connection)
            self.ids.take_back()
            raise
        return results

    def _opened(self) -> sqlite3.Connection:
        if self.connection is not None:
            try:
                _ = self.connection.in_transaction
            except sqlite3.ProgrammingError:
                self.connection = None  # it was closed because it could not roll back
        if self.connection is None:
            self.connection = self._connect()
            self.connection.execute("PRAGMA busy_timeout = 0")
            self.connection.execute("PRAGMA wal_autocheckpoint = 0")
            self._is_full_sync = True
            if self._owns_file:
                self._reserve.keep()
        return self.connection

    def _connect(self) -> sqlite3.Connection:
        try:
            return self.file.connect()
        except BusyError:
            raise
        except DiskError as error:
            if not _is_without_room(error) or not self._reserve.release():
                raise
            return self.file.connect()

    def _is_log_long(self) -> bool:
        return self._pages >= CHECKPOINT_PAGES or self._new_bytes >= CHECKPOINT_BYTES

    def _make_room(self, *, may_use_reserve: bool) -> bool:
        """Use the log again from its start, and the reserve where it may be used."""
        with self._lock:
            released = may_use_reserve and self._reserve.release()
            return self._fold_log() or released

    def _checkpoint(self) -> None:
        with self._lock:
            self._fold_log()

    def _fold_log(self) -> bool:
        """Fold the log into the file; whether it begins anew."""
        if self.connection is None:
            return False
        self._pages = 0
        try:
            (busy, _, _) = self.connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        except sqlite3.Error as error:
            logger.warning("%s: its log could not be folded in: %s", self.file.path, error)
            return False
        self._new_bytes = self._new_bytes // 2 if busy else 0
        return not busy

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except (DiskError, sqlite3.Error) as error:
            raise self._told(error) from error.__cause__

    def _told(self, error: Exception) -> Exception:
        if isinstance(error, sqlite3.Error):
            cause, error = error, from_sqlite_error(self.file.path, error)
            error.__cause__ = cause
        return own_error(self.file.path, error) if isinstance(error, DiskError) else error


class EngineThread:
    """Hands jobs to an engine: at once where it can, else by its thread."""

    def __init__(self, engine: Engine, beat_s: float) -> None:
        self.engine = engine
        """Does the work."""
        self._thread = BatchThread("starfish-outbox", engine, tick_s=beat_s)
        self._is_closed = False

    def try_now(self, job: Job[T]) -> tuple[bool, T]:
        """Do a job here and now, if that needs no waiting: whether it was done, and its result.

        Raises:
            OutboxError: the file did not take it.
        """
        return (False, cast("T", None)) if self._is_closed else self.engine.try_now(job)

    def submit(self, job: Job[T]) -> asyncio.Future[T]:
        """Have a job done; the future has its result after the commit."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T]
        if self._is_closed:
            return self.submit_to_thread(job)
        try:
            is_done, result = self.engine.try_now(job)
        except Exception as error:  # noqa: BLE001 - the caller waits for the future
            future = loop.create_future()
            future.set_exception(error)
            return future
        if is_done:
            future = loop.create_future()
            future.set_result(result)
            return future
        return self.submit_to_thread(job)

    def submit_to_thread(self, job: Job[T]) -> asyncio.Future[T]:
        """Have a job done that may take a while."""
        future: asyncio.Future[T]
        try:
            if self._is_closed:
                raise ClosedError(self.engine.file.path, "it is closed")
            return self._thread.submit(cast("Callable[[Engine], T]", job))
        except DiskError as error:
            future = asyncio.get_running_loop().create_future()
            future.set_exception(own_error(self.engine.file.path, error))
            return future

    def submit_and_forget(self, job: Job[Any]) -> None:
        """Have a job done that nobody waits for; works without an event loop."""
        try:
            self._thread.submit_from_thread(cast("Callable[[Engine], Any]", job))
        except DiskError as error:
            logger.warning("%s: %s", self.engine.file.path, error)

    async def stop(self) -> None:
        """End after the jobs that were handed in; twice is harmless."""
        self._is_closed = True
        try:
            await self._thread.stop()
        except DiskError as error:
            raise own_error(self.engine.file.path, error) from error


def _is_without_room(error: DiskError) -> bool:
    """Whether the disk is full, or a quota is used up, which SQLite calls an error of writing."""
    return isinstance(error, FullError) or "SQLITE_IOERR" in error.reason


def _shrink(connection: sqlite3.Connection) -> None:
    """Give unused pages back when most of them are; skipped while another process has the file."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    if free < LEAST_FREE_PAGES or free * 2 < pages:
        return
    try:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error as error:
        logger.info("unused pages stay in the file: %s", error)
