"""Notice that another process has committed: SQLite has no message for it, only a counter.

``PRAGMA data_version`` of a connection changes when any other connection committed. Asking costs
some microseconds, so it is asked often while others write and seldom otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Final

from starfish_disk.sqlite_file import SqliteFile
from starfish_watcher._supervised_thread import SupervisedThread
from starfish_watcher.errors import StoreClosed
from starfish_watcher.log.sqlite._file import translated

__all__ = ("SqliteListener",)

BUSY_INTERVAL_S: Final = 0.002
"""Between two questions just after another process had appended."""
IDLE_INTERVAL_S: Final = 0.025
"""Between two questions when nobody appends; a quarter of what waking may take."""


class SqliteListener:
    """A thread that asks until it is closed; also whether the file is still in its place."""

    def __init__(
        self,
        file: SqliteFile,
        closings: int,
        *,
        patience_s: float,
        changed: Callable[[], bool],
        failed: Callable[[BaseException], None],
    ) -> None:
        """Begin to ask.

        Raises:
            StoreUnavailableError: the process may not have more threads.
        """
        self._file = file
        self._location = str(file.path)
        self._closings = closings
        self._changed = changed
        self._thread = SupervisedThread(
            "starfish-listener", self._location, self._ask, failed=failed, patience_s=patience_s
        )
        self._thread.start()

    def close(self) -> None:
        """Stop asking; the thread ends by itself."""
        self._thread.stopping.set()

    @property
    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.alive

    def join(self) -> None:
        """Return when the thread has released the file."""
        self._thread.join()

    def _ask(self) -> None:
        with translated(self._location), closing(self._file.connect(create=False)) as connection:
            seen = None
            interval = IDLE_INTERVAL_S
            while not self._thread.stopping.wait(interval if seen is not None else 0.0):
                (version,) = connection.execute("PRAGMA data_version").fetchone()
                if version == seen:
                    self._file.check_in_place()
                    interval = min(interval * 2, IDLE_INTERVAL_S)
                    continue
                (closings,) = connection.execute("SELECT closings FROM log").fetchone()
                if closings != self._closings:
                    msg = "another handle of it was closed everywhere"
                    raise StoreClosed(msg)
                interval = BUSY_INTERVAL_S if self._changed() else IDLE_INTERVAL_S
                # Last: when telling failed, it is tried again.
                seen = version
                self._thread.went_well()
