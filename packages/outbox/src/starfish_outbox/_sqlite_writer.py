"""The one thread of a `SqliteOutbox` that talks to SQLite.

Rule 1: every job that waits is in the next transaction; one commit covers them all. Rule 2: when
that transaction fails, each job gets its own, so that one cannot spoil the others. Rule 3: results
reach an event loop in the order in which the jobs were handed in.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from starfish_outbox._sqlite_schema import open_for_writing, translate
from starfish_outbox.errors import OutboxClosedError

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Job:
    """Work inside a transaction."""

    work: Callable[[sqlite3.Connection], Any]
    durable: bool
    """Whether its commit must survive power loss."""
    future: asyncio.Future[Any] | None
    """Who waits for the result."""
    committed: Callable[[], None] | None = None
    """Called on the thread once it is on disk."""
    result: Any = None
    error: Exception | None = None


class SqliteWriter:
    """Runs jobs in order, as many in one transaction as there are.

    Args:
        path: the file; opened by the first job.
        beat: called in its own transaction every ``beat_s`` after `keep_beating`, for as long as
            it answers ``True``.
        beat_s: seconds between beats.
        farewell: called in a last transaction before the file is closed.
    """

    def __init__(
        self,
        path: Path,
        *,
        beat: Callable[[sqlite3.Connection], bool],
        beat_s: float,
        farewell: Callable[[sqlite3.Connection], object],
    ) -> None:
        self._path = path
        self._beat = beat
        self._beat_s = beat_s
        self._farewell = farewell
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._connection: sqlite3.Connection | None = None
        self._full = True
        self._next_beat: float | None = None

    def submit(
        self,
        work: Callable[[sqlite3.Connection], Any],
        *,
        durable: bool,
        committed: Callable[[], None] | None = None,
    ) -> asyncio.Future[Any]:
        """Hand work in; the future of the running event loop has its result after the commit."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not self._put(Job(work, durable, future, committed)):
            future.set_exception(OutboxClosedError(str(self._path)))
        return future

    def submit_and_forget(self, work: Callable[[sqlite3.Connection], Any]) -> None:
        """Hand work in whose result nobody waits for; works without an event loop."""
        self._put(Job(work, durable=False, future=None))

    async def close(self) -> None:
        """Finish what was handed in, then close the file; calling it twice is harmless."""
        with self._lock:
            first, self._closed = not self._closed, True
            thread = self._thread
        if thread is None:
            return
        if first:
            self._jobs.put(None)
        await asyncio.get_running_loop().run_in_executor(None, thread.join)

    def _put(self, job: Job) -> bool:
        with self._lock:
            if not self._closed:
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._run, name="starfish-outbox-writer", daemon=True
                    )
                    self._thread.start()
                self._jobs.put(job)
            return not self._closed

    def keep_beating(self) -> None:
        """Begin to beat; called on the thread."""
        if self._next_beat is None:
            self._next_beat = time.monotonic() + self._beat_s

    def _run(self) -> None:
        job: Job | None
        while True:
            try:
                job = self._jobs.get(timeout=self._until_beat())
            except Empty:
                self._tick()
                continue
            jobs: list[Job] = []
            while job is not None:
                jobs.append(job)
                if self._jobs.empty():
                    break
                job = self._jobs.get()
            if jobs:
                self._perform(jobs)
            if job is None:
                break
            if self._next_beat is not None and time.monotonic() >= self._next_beat:
                self._tick()
        if self._connection is not None:
            self._attempt([Job(self._farewell, durable=False, future=None)])
            self._connection.close()

    def _until_beat(self) -> float | None:
        return None if self._next_beat is None else max(0.0, self._next_beat - time.monotonic())

    def _tick(self) -> None:
        job = Job(self._beat, durable=False, future=None)
        self._attempt([job])
        goes_on = job.error is not None or job.result
        self._next_beat = time.monotonic() + self._beat_s if goes_on else None

    def _perform(self, jobs: list[Job]) -> None:
        self._attempt(jobs)
        if len(jobs) > 1 and jobs[0].error is not None:
            for job in jobs:
                job.error = None
                self._attempt([job])
        for job in jobs:
            if job.error is None and job.committed is not None:
                job.committed()
        _deliver(jobs)

    def _attempt(self, jobs: list[Job]) -> None:
        """One transaction; every job has its result or every job has the error."""
        try:
            if self._connection is None:
                self._connection = open_for_writing(self._path)
            self._transact(self._connection, jobs)
        except sqlite3.Error as error:
            self._fail(jobs, translate(error, self._path), error)
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
            self._fail(jobs, error, error.__cause__)

    def _transact(self, connection: sqlite3.Connection, jobs: list[Job]) -> None:
        full = any(job.durable for job in jobs)
        if full is not self._full:
            connection.execute(f"PRAGMA synchronous={'FULL' if full else 'NORMAL'}")
            self._full = full
        connection.execute("BEGIN IMMEDIATE")
        try:
            for job in jobs:
                job.result = job.work(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _fail(self, jobs: list[Job], error: Exception, cause: BaseException | None) -> None:
        error.__cause__ = cause
        for job in jobs:
            job.error = error
            if job.future is None:
                logger.warning("%s: work nobody waits for failed: %s", self._path, error)


def _deliver(jobs: list[Job]) -> None:
    """Wake each event loop once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in jobs:
        if job.future is not None:
            by_loop.setdefault(job.future.get_loop(), []).append(job)
    for loop, waiting in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle, waiting)
        except RuntimeError:
            logger.debug("an event loop was closed before its result came")


def _settle(jobs: list[Job]) -> None:
    for job in jobs:
        if job.future is None or job.future.done():
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)
