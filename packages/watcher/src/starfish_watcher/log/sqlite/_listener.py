"""Notice that another process has committed: SQLite has no message for it, only a counter.

``PRAGMA data_version`` of a connection changes when any other connection committed. Asking costs
some microseconds, so it is asked often while others write and seldom otherwise.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from starfish_watcher.errors import StoreClosed, WatcherError
from starfish_watcher.log.sqlite._file import connect, translated

__all__ = ("SqliteListener",)

BUSY_INTERVAL_S: Final = 0.002
"""Between two questions just after another process had appended."""
IDLE_INTERVAL_S: Final = 0.025
"""Between two questions when nobody appends; a quarter of what waking may take."""


class SqliteListener:
    """A thread that asks until it is closed."""

    def __init__(
        self,
        path: Path,
        closings: int,
        changed: Callable[[], bool],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._path = path
        self._closings = closings
        self._changed = changed
        self._failed = failed
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="starfish-listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop asking; the thread ends by itself."""
        self._stopping.set()

    @property
    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def join(self) -> None:
        """Return when the thread has released the file."""
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        try:
            with translated(str(self._path)):
                self._ask()
        except WatcherError as error:
            if not self._stopping.is_set():
                self._failed(error)

    def _ask(self) -> None:
        connection = connect(self._path)
        try:
            seen = None
            interval = IDLE_INTERVAL_S
            while not self._stopping.wait(interval if seen is not None else 0.0):
                (version,) = connection.execute("PRAGMA data_version").fetchone()
                if version == seen:
                    interval = min(interval * 2, IDLE_INTERVAL_S)
                    continue
                seen = version
                (closings,) = connection.execute("SELECT closings FROM log").fetchone()
                if closings != self._closings:
                    msg = "another handle of it was closed everywhere"
                    raise StoreClosed(msg)
                interval = BUSY_INTERVAL_S if self._changed() else IDLE_INTERVAL_S
        finally:
            connection.close()
