"""Hear that another process has committed: LISTEN on a connection of its own.

After a lost connection it connects again, and then tells of news whether there are any or not:
what was notified in between was not heard.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from psycopg import sql

from starfish_watcher.errors import StoreUnavailableError, WatcherError
from starfish_watcher.log.postgres._connections import (
    Connection,
    PostgresConnections,
    translated,
)

__all__ = ("CLOSED", "PostgresListener")

CLOSED: Final = "closed"
"""Payload of the notification that the store is closed everywhere."""
FIRST_PAUSE_S: Final = 0.05
"""Before the second attempt to connect again; doubles up to the next."""
LONGEST_PAUSE_S: Final = 2.0


class PostgresListener:
    """A thread that listens until it is closed, or until the server was away for too long."""

    def __init__(
        self,
        connections: PostgresConnections,
        channel: str,
        check_open: Callable[[Connection], None],
        *,
        patience_s: float,
        changed: Callable[[], Any],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._connections = connections
        self._channel = channel
        self._check_open = check_open
        self._patience_s = patience_s
        self._changed = changed
        self._failed = failed
        self._stopping = threading.Event()
        # So that the thread need not wake now and then only to see whether it may sleep on.
        self._woken, self._wake = socket.socketpair()
        self._lost_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="starfish-listener", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop listening; the thread ends by itself."""
        self._stopping.set()
        with suppress(OSError):
            self._wake.send(b"x")

    def join(self) -> None:
        """Return when the thread has released its connection."""
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        pause = 0.0
        try:
            while not self._stopping.wait(pause):
                try:
                    self._listen()
                except StoreUnavailableError as error:
                    pause = min(max(2 * pause, FIRST_PAUSE_S), LONGEST_PAUSE_S)
                    if self._lost_at is None:
                        self._lost_at, pause = time.monotonic(), 0.0
                    if time.monotonic() - self._lost_at > self._patience_s:
                        raise StoreUnavailableError(
                            error.location, f"{error.reason}; for {self._patience_s:g} s"
                        ) from error
        except WatcherError as error:
            if not self._stopping.is_set():
                self._failed(error)
        finally:
            self._woken.close()
            self._wake.close()

    def _listen(self) -> None:
        connection = self._connections.open()
        try:
            with translated(self._connections.location):
                connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
                self._lost_at = None
                said: set[str] | None = {CLOSED}
                while said is not None:
                    if CLOSED in said:
                        self._check_open(connection)
                    self._changed()
                    said = self._wait(connection)
        finally:
            connection.close()

    def _wait(self, connection: Connection) -> set[str] | None:
        """Return what was said as soon as something is; ``None`` when it is time to stop."""
        while not (said := {notice.payload for notice in connection.notifies(timeout=0)}):
            select.select([connection.fileno(), self._woken.fileno()], [], [])
            if self._stopping.is_set():
                return None
        return said
