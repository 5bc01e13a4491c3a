"""How much may be unpacked at once: a queue with a bound in bytes, first come, first served."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starfish_mpack_wire.server.errors import UnpackBusyError

__all__ = ("UnpackQueue",)


class UnpackQueue:
    """Lets work in while its weights are below a bound; work that is heavier runs alone.

    Args:
        capacity: the bound, in bytes.
        wait_s: how long somebody waits in the queue.
    """

    def __init__(self, capacity: int, wait_s: float) -> None:
        self._capacity = capacity
        self._wait_s = wait_s
        self._held = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, weight: int) -> AsyncGenerator[None]:
        """Wait for room, and take it until the block ends.

        Raises:
            UnpackBusyError: there was none in time.
        """
        weight = min(weight, self._capacity)
        if self._waiting or self._held + weight > self._capacity:
            place = weight, asyncio.get_running_loop().create_future()
            self._waiting.append(place)
            await self._wait_for(place)
        else:
            self._held += weight
        try:
            yield
        finally:
            self._held -= weight
            self._let_in()

    async def _wait_for(self, place: tuple[int, asyncio.Future[None]]) -> None:
        weight, ready = place
        try:
            await asyncio.wait_for(asyncio.shield(ready), self._wait_s)
        except (TimeoutError, asyncio.CancelledError) as error:
            timed_out = isinstance(error, TimeoutError)
            if not ready.done():
                self._waiting.remove(place)
                self._let_in()
                if timed_out:
                    raise UnpackBusyError from None
            elif not timed_out:
                self._held -= weight
                self._let_in()
            if not timed_out:
                raise

    def _let_in(self) -> None:
        while self._waiting and self._held + self._waiting[0][0] <= self._capacity:
            weight, ready = self._waiting.popleft()
            self._held += weight
            ready.set_result(None)
