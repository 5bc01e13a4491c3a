"""One bit that says "look again": all that a watcher needs, however slow it is.

Rule: the flag is taken down before looking, so that whatever comes while somebody looks puts it
up again.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Final

from starfish_watcher._fork_guard import ForkGuard
from starfish_watcher._model.event import Event
from starfish_watcher.errors import StoreClosed

__all__ = ("WakeFlag",)

FOREVER: Final = threading.TIMEOUT_MAX
_awaited: Final[set[WakeFlag]] = set()
"""Flags that somebody waits for: a hub holds its listeners weakly, and a task that only its own
event loop knows must not vanish with what it waits for."""


class WakeFlag:
    """A `HubListener` that threads and asyncio tasks can wait for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._up = False
        self._actions: list[Callable[[], object]] = []
        self._error: BaseException | None = None
        self._guard = ForkGuard()

    def offer(self, event: Event) -> bool:  # noqa: ARG002 - that something came is all it keeps
        """Put the flag up."""
        if not self._up:
            self.put_up()
        return True

    def touch(self, entity: str) -> None:  # noqa: ARG002 - likewise
        """Put the flag up."""
        self.put_up()

    def fail(self, error: BaseException) -> None:
        """Put the flag up for good; `take_down` raises from now on."""
        self._error = error
        self.put_up()

    def put_up(self) -> None:
        """Wake everybody who waits."""
        if self._guard.is_inherited:
            return
        with self._lock:
            self._up = True
            actions, self._actions = self._actions, []
            if actions:
                _awaited.discard(self)
        for action in actions:
            action()

    def take_down(self) -> bool:
        """Take the flag down; whether it was up.

        Raises:
            StoreClosed: nothing more comes.
        """
        self.check()
        with self._lock:
            was_up, self._up = self._up, self._error is not None
        return was_up

    def check(self) -> None:
        """Return while something may come.

        Raises:
            StoreClosed: nothing more comes.
        """
        self._guard.check()
        if self._error is not None:
            raise StoreClosed.because_of(self._error)

    def when_up(self, action: Callable[[], object]) -> None:
        """Call ``action`` once, when the flag is put up, or now; it must not block or raise."""
        self._guard.check()
        with self._lock:
            if not self._up:
                self._actions.append(action)
                _awaited.add(self)
                return
        action()

    def forget(self, action: Callable[[], object]) -> None:
        """Do not call ``action`` any more; a call that is under way may still come."""
        with self._lock:
            if action in self._actions:
                self._actions.remove(action)
                if not self._actions:
                    _awaited.discard(self)

    def wait(self, timeout: float | None) -> bool:
        """Block until the flag is up; false when the time is up."""
        gate = threading.Lock()
        gate.acquire()
        self.when_up(gate.release)
        if gate.acquire(timeout=-1 if timeout is None else min(max(timeout, 0), FOREVER)):
            return True
        self.forget(gate.release)
        return False

    async def wait_async(self) -> None:
        """Sleep until the flag is up; a cancelled call leaves it as it is."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop ended while its task slept
                loop.call_soon_threadsafe(_wake, future)

        self.when_up(wake)
        try:
            await future
        finally:
            self.forget(wake)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
