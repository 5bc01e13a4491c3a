"""Hear that another process has committed: LISTEN on a connection of its own.

After a lost connection it connects again, and then tells of news whether there are any or not:
all that was notified in between was not heard.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from psycopg import sql

from starfish_watcher._supervised_thread import SupervisedThread
from starfish_watcher.errors import StoreUnavailableError
from starfish_watcher.log.postgres._connections import (
    Connection,
    PostgresConnections,
    translated,
)

__all__ = ("CLOSED", "PostgresListener")

CLOSED: Final = "closed"
"""Payload of the notification that the store is closed everywhere."""


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
        """Begin to listen.

        Raises:
            StoreUnavailableError: the process may not have more threads or descriptors.
        """
        self._connections = connections
        self._channel = channel
        self._check_open = check_open
        self._changed = changed
        try:
            # So that the thread need not wake now and then only to see whether it may sleep on.
            self._woken, self._wake = socket.socketpair()
            self._wake.setblocking(False)  # it is closed on event loops, too
        except OSError as error:
            raise StoreUnavailableError(connections.location, str(error)) from error
        self._thread = SupervisedThread(
            "starfish-listener",
            connections.location,
            self._listen,
            failed=failed,
            patience_s=patience_s,
            release=self._release,
        )
        try:
            self._thread.start()
        except BaseException:
            self._release()
            raise

    @property
    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.alive

    def close(self) -> None:
        """Stop listening; the thread ends by itself."""
        self._thread.stopping.set()
        with suppress(OSError):
            self._wake.send(b"x")

    def join(self) -> None:
        """Return when the thread has released its connection."""
        self._thread.join()

    def _release(self) -> None:
        self._woken.close()
        self._wake.close()

    def _listen(self) -> None:
        try:
            self._hear()
        except OSError as error:
            # No descriptor for a moment; psycopg's own errors are translated already.
            raise StoreUnavailableError(self._connections.location, str(error)) from error

    def _hear(self) -> None:
        connection = self._connections.open()
        try:
            with translated(self._connections.location):
                connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
                self._thread.went_well()
                said: set[str] | None = {CLOSED}
                while said is not None:
                    if CLOSED in said:
                        self._check_open(connection)
                    self._changed()
                    said = self._wait(connection)
        finally:
            connection.close()

    def _wait(self, connection: Connection) -> set[str] | None:
        """Return all that was said as soon as something is; ``None`` when it is time to stop."""
        with selectors.DefaultSelector() as waiting:
            waiting.register(connection.fileno(), selectors.EVENT_READ)
            waiting.register(self._woken.fileno(), selectors.EVENT_READ)
            while not (said := {notice.payload for notice in connection.notifies(timeout=0)}):
                waiting.select()
                if self._thread.stopping.is_set():
                    return None
            return said
