"""Queues in one SQLite file that several processes may share."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from starfish_outbox._clock import system_now_ms, system_since_boot_ms
from starfish_outbox._sqlite.engine import Engine, EngineThread, File
from starfish_outbox._sqlite.guest import GuestFile
from starfish_outbox._sqlite.layout import outbox_file
from starfish_outbox._sqlite.lease import LeaseClock
from starfish_outbox._sqlite.session import SqliteSession


class SqliteOutbox:
    """Queues in one SQLite file: rows, WAL, ``synchronous=FULL``.

    An enqueue that returned survives power loss. A mutation costs the same however long the queue
    is. Several processes, and several queues of one process, may share the file.

    Args:
        path: the file; made when missing, with mode 0600, opened by the first use.
        lease_ms: how long a claim outlives its process where its death cannot be seen.
        inline_commit_ms: commits are made on the event loop's own thread while the disk takes no
            longer than this for one, milliseconds; else, and always with 0, on another thread.
        busy_timeout_ms: how long a change waits while another process writes.
        now_ms: the clock, milliseconds since the epoch.
        since_boot_ms: a clock of the machine that nobody sets, milliseconds; leases are measured on it.

    Raises:
        ValueError: ``lease_ms`` or ``busy_timeout_ms`` is below 1, or ``inline_commit_ms`` below 0.

    Examples:
        >>> import asyncio, tempfile
        >>> from starfish_outbox import OutboxQueue
        >>> async def main() -> None:
        ...     async with SqliteOutbox(tempfile.mkdtemp() + "/outbox.sqlite") as outbox:
        ...         queue = OutboxQueue(outbox)
        ...         await queue.hydrate("outbox.ada")
        ...         await queue.enqueue("note-1", {"text": "hi"})
        ...         print(len(queue.get()))
        >>> asyncio.run(main())
        1
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        lease_ms: int = 30_000,
        inline_commit_ms: float = 2.0,
        busy_timeout_ms: int = 10_000,
        now_ms: Callable[[], int] = system_now_ms,
        since_boot_ms: Callable[[], int] = system_since_boot_ms,
    ) -> None:
        self._prepare(
            outbox_file(Path(path), busy_timeout_ms),
            lease_ms=lease_ms,
            inline_commit_ms=inline_commit_ms,
            busy_timeout_ms=busy_timeout_ms,
            now_ms=now_ms,
            since_boot_ms=since_boot_ms,
            owns_file=True,
        )

    @classmethod
    def inside(
        cls,
        path: str | os.PathLike[str],
        *,
        lease_ms: int = 30_000,
        inline_commit_ms: float = 2.0,
        busy_timeout_ms: int = 10_000,
        now_ms: Callable[[], int] = system_now_ms,
        since_boot_ms: Callable[[], int] = system_since_boot_ms,
    ) -> Self:
        """Queues in the application's own SQLite database, beside its tables.

        `enqueue_in` adds to them inside a transaction of the application. The tables
        ``starfish_outbox_*`` are made when missing; the journal mode stays as the application chose it.

        Args:
            path: the database, which must be there.
            lease_ms: as for the class.
            inline_commit_ms: as for the class.
            busy_timeout_ms: as for the class.
            now_ms: as for the class.
            since_boot_ms: as for the class.

        Raises:
            ValueError: as for the class.
        """
        outbox = cls.__new__(cls)
        outbox._prepare(  # noqa: SLF001 - its own, before anybody has it
            GuestFile(Path(path)),
            lease_ms=lease_ms,
            inline_commit_ms=inline_commit_ms,
            busy_timeout_ms=busy_timeout_ms,
            now_ms=now_ms,
            since_boot_ms=since_boot_ms,
            owns_file=False,
        )
        return outbox

    def _prepare(
        self,
        file: File,
        *,
        lease_ms: int,
        inline_commit_ms: float,
        busy_timeout_ms: int,
        now_ms: Callable[[], int],
        since_boot_ms: Callable[[], int],
        owns_file: bool,
    ) -> None:
        for name, value in (("lease_ms", lease_ms), ("busy_timeout_ms", busy_timeout_ms)):
            if value < 1:
                raise ValueError(f"{name} is {value}, must be at least 1")
        if inline_commit_ms < 0:
            raise ValueError(f"inline_commit_ms is {inline_commit_ms}, must not be negative")
        self._lease_clock = LeaseClock(lease_ms, now_ms, since_boot_ms)
        self._now_ms = now_ms
        self._sessions = _Sessions()
        self._thread = EngineThread(
            Engine(
                file,
                inline_commit_ms=inline_commit_ms,
                busy_timeout_ms=busy_timeout_ms,
                beat=self._sessions.beat,
                farewell=self._sessions.give_back,
                owns_file=owns_file,
            ),
            beat_s=lease_ms / 3000,
        )

    def bind(self, key: str) -> SqliteSession:
        """Access to one queue of the file; does no I/O."""
        session = SqliteSession(
            self._thread, key, lease_clock=self._lease_clock, now_ms=self._now_ms
        )
        self._sessions.add(session)
        return session

    async def close(self) -> None:
        """Finish the changes that were handed in, give back the claims, close the file.

        Calling it twice is harmless.

        Raises:
            OutboxForkedError: it was opened before this process was forked.
        """
        await self._thread.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


class _Sessions:
    """The sessions of an outbox; apart from it, so that an outbox that was dropped is collected."""

    def __init__(self) -> None:
        self._sessions: list[SqliteSession] = []

    def add(self, session: SqliteSession) -> None:
        self._sessions = [s for s in self._sessions if not s.released] + [session]

    def beat(self) -> Callable[[sqlite3.Connection], None] | None:
        """Extends the leases that are held; ``None`` when there are none."""
        return self._extend if any(session.holds() for session in self._sessions) else None

    def _extend(self, connection: sqlite3.Connection) -> None:
        for session in list(self._sessions):
            session.extend(connection)

    def give_back(self, connection: sqlite3.Connection) -> None:
        """Make every claim ``queued``."""
        for session in list(self._sessions):
            session.give_back(connection)
