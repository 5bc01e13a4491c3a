"""One bit that says "look again": all that a watcher needs, however slow it is.

Rule: the flag is taken down before looking, so that whatever comes while somebody looks puts it
up again.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Final

from starfish_watcher.errors import StoreClosed
from starfish_watcher.model.event import Event

__all__ = ("WakeFlag",)

_Sleeper = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]
FOREVER: Final = threading.TIMEOUT_MAX


class WakeFlag:
    """A `HubListener` that threads and asyncio tasks can wait for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._up = threading.Event()
        self._sleepers: list[_Sleeper] = []
        self._error: BaseException | None = None

    def offer(self, event: Event) -> bool:  # noqa: ARG002 - that something came is all it keeps
        """Put the flag up."""
        if not self._up.is_set():
            self.put_up()
        return True

    def fail(self, error: BaseException) -> None:
        """Put the flag up for good; `take_down` raises from now on."""
        self._error = error
        self.put_up()

    def put_up(self) -> None:
        """Wake everybody who waits."""
        with self._lock:
            self._up.set()
            sleepers, self._sleepers = self._sleepers, []
        for loop, future in sleepers:
            with contextlib.suppress(RuntimeError):  # the loop ended while its task slept
                loop.call_soon_threadsafe(_wake, future)

    def take_down(self) -> bool:
        """Take the flag down; whether it was up.

        Raises:
            StoreClosed: nothing more comes.
        """
        if self._error is not None:
            raise StoreClosed.because_of(self._error)
        was_up = self._up.is_set()
        self._up.clear()
        if self._error is not None:
            self._up.set()
        return was_up

    def wait(self, timeout: float | None) -> bool:
        """Block until the flag is up; false when the time is up."""
        return self._up.wait(min(timeout, FOREVER) if timeout is not None else None)

    async def wait_async(self) -> None:
        """Sleep until the flag is up; a cancelled call leaves it as it is."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if self._up.is_set():
                return
            self._sleepers.append((loop, future))
        try:
            await future
        finally:
            with self._lock:
                self._sleepers = [one for one in self._sleepers if one[1] is not future]


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
