"""A background thread that never dies unseen.

Whatever its work raises is one of two: a shortage of a moment (no descriptors, a lock, a full disk,
a lost connection), after which the work begins again, or final, and then the owner is told.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Final

from starfish_watcher.errors import StoreUnavailableError, WatcherError

__all__ = ("SupervisedThread", "start_thread")

FIRST_PAUSE_S: Final = 0.05
"""Before the second attempt in a row; doubles up to the next."""
LONGEST_PAUSE_S: Final = 2.0


def start_thread(thread: threading.Thread, location: str) -> None:
    """Start ``thread``.

    Raises:
        StoreUnavailableError: the process may not have more threads.
    """
    try:
        thread.start()
    except RuntimeError as error:
        raise StoreUnavailableError(location, str(error)) from error


class SupervisedThread:
    """Runs ``work`` until it is stopped, or until its errors are final.

    Args:
        name: Of the thread.
        location: For messages: which store it works for.
        work: Returns when `stopping` is set; says `went_well` when it could do what it is for.
        failed: Called once, by the thread, with the error that ended it.
        patience_s: How long errors that pass may last.
        release: Called last, by the thread.
    """

    def __init__(
        self,
        name: str,
        location: str,
        work: Callable[[], object],
        *,
        failed: Callable[[BaseException], object],
        patience_s: float,
        release: Callable[[], object] = lambda: None,
    ) -> None:
        self._release = release
        self.stopping = threading.Event()
        """Set when the work is to end."""
        self._location = location
        self._work = work
        self._failed = failed
        self._patience_s = patience_s
        self._failing_since: float | None = None
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin.

        Raises:
            StoreUnavailableError: the process may not have more threads.
        """
        start_thread(self._thread, self._location)

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._thread.is_alive()

    def went_well(self) -> None:
        """Called by the work: what failed before was a matter of a moment."""
        self._failing_since = None

    def join(self) -> None:
        """Return when the thread has ended; at once in the thread itself and after a fork."""
        if threading.current_thread() is not self._thread and os.getpid() == self._pid:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._run_on()
        finally:
            self._release()

    def _run_on(self) -> None:
        pause = 0.0
        while not self.stopping.wait(pause):
            try:
                self._work()
            except StoreUnavailableError as error:
                now = time.monotonic()
                if self._failing_since is None:
                    self._failing_since, pause = now, 0.0
                pause = min(max(2 * pause, FIRST_PAUSE_S), LONGEST_PAUSE_S)
                if now - self._failing_since > self._patience_s:
                    reason = f"{error.reason}; for {self._patience_s:g} s"
                    self._end(StoreUnavailableError(error.location, reason), error)
                    return
            except WatcherError as error:
                self._end(error, error.__cause__)
                return
            except BaseException as error:  # noqa: BLE001 - its owner is told of it
                self._end(error, error.__cause__)
                return

    def _end(self, error: BaseException, cause: BaseException | None) -> None:
        error.__cause__ = cause
        if not self.stopping.is_set():
            self._failed(error)
