"""Those who wait for the next change of a store, on one event loop.

A commit of this process wakes them at once. For commits of other processes one task looks now and
then, however many wait; it is there only while somebody does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from weakref import WeakKeyDictionary

__all__ = ("ChangeWaiters", "WaitersByLoop")

_LOOK_EVERY_S = 0.05
"""How late a change made by another process may be noticed by default; a look is one small read."""


class ChangeWaiters:
    """Waits until a sequence is passed.

    Args:
        last_sequence: asks the store.
        look_every_s: how late a change made by another process may be noticed.
    """

    def __init__(
        self, last_sequence: Callable[[], Awaitable[int]], look_every_s: float = _LOOK_EVERY_S
    ) -> None:
        self._last_sequence = last_sequence
        self._look_every_s = look_every_s
        self._waiting: dict[asyncio.Future[int], int] = {}
        self._looking: asyncio.Task[None] | None = None
        self._committed = asyncio.Event()

    def wake(self) -> None:
        """A change was committed: look now."""
        self._committed.set()

    async def wait(self, after: int, timeout: float) -> int:
        """The newest sequence, once it is above ``after`` or the time is up."""
        last = await self._last_sequence()
        if last > after or timeout <= 0:
            return last
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting[future] = after
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            return last
        finally:
            self._waiting.pop(future, None)

    async def close(self) -> None:
        """Let go of the event loop; those who still wait are told the time is up."""
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()
            await asyncio.wait([looking])

    async def _look(self) -> None:
        while self._waiting:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._look_every_s):
                    await self._committed.wait()
            self._committed.clear()
            try:
                last = await self._last_sequence()
            except Exception as error:  # noqa: BLE001  those who wait must hear of it
                for future in self._waiting:
                    if not future.done():
                        future.set_exception(error)
                return
            for future, after in self._waiting.items():
                if after < last and not future.done():
                    future.set_result(last)
            await asyncio.sleep(0)  # they take themselves off the list


class WaitersByLoop:
    """The waiters of a store that serves several event loops, one after the other or at once.

    Args:
        last_sequence: asks the store.
        look_every_s: how late a change made by another process may be noticed.
    """

    def __init__(
        self, last_sequence: Callable[[], Awaitable[int]], *, look_every_s: float = _LOOK_EVERY_S
    ) -> None:
        self._last_sequence = last_sequence
        self._look_every_s = look_every_s
        self._by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, ChangeWaiters] = (
            WeakKeyDictionary()
        )

    def wake(self) -> None:
        """Wake those who wait on this event loop: a change was committed."""
        waiters = self._by_loop.get(asyncio.get_running_loop())
        if waiters is not None:
            waiters.wake()

    async def wait(self, after: int, timeout: float) -> int:
        """Wait as `ChangeWaiters.wait`."""
        loop = asyncio.get_running_loop()
        waiters = self._by_loop.setdefault(
            loop, ChangeWaiters(self._last_sequence, self._look_every_s)
        )
        return await waiters.wait(after, timeout)

    async def close(self) -> None:
        """Stop looking; on this event loop."""
        waiters = self._by_loop.pop(asyncio.get_running_loop(), None)
        if waiters is not None:
            await waiters.close()
