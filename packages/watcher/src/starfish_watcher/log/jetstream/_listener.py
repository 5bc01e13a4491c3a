"""Tell a store that its replica shows what another handle wrote."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final

from starfish_watcher.errors import StoreUnavailableError, WatcherError
from starfish_watcher.log.jetstream._replica import Replica

__all__ = ("ReplicaListener",)

RETRY_S: Final = 0.05
"""Before news are told again to a store that could not read them."""


class ReplicaListener:
    """A thread that sleeps until the replica shows something foreign."""

    def __init__(
        self,
        replica: Replica,
        changed: Callable[[], Any],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._replica = replica
        self._changed = changed
        self._failed = failed
        self._error: WatcherError | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="starfish-listener", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop telling; the thread ends by itself."""
        self._closed = True
        self._replica.wake()

    def fail(self, error: WatcherError) -> None:
        """Tell that nothing more will come."""
        if self._error is None:
            self._error = error
            self._replica.wake()

    def join(self) -> None:
        """Return when the thread has ended."""
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _is_ending(self) -> bool:
        return self._closed or self._error is not None

    def _run(self) -> None:
        seen = -1
        while not self._is_ending():
            foreign = self._replica.wait_for_foreign(seen, self._is_ending)
            try:
                if not self._is_ending():
                    self._changed()
                    seen = foreign
            except StoreUnavailableError:
                time.sleep(RETRY_S)
            except WatcherError as error:
                self.fail(error)
        if self._error is not None and not self._closed:
            self._failed(self._error)
