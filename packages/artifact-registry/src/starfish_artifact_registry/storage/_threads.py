"""Threads for calls that block, and waiting for them to the end.

Rule: a caller that has waited may release what the calls use, also when the waiting was cancelled. So a
cancel is passed on only after the calls have returned.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

__all__ = ("Threads", "ended", "results")

T = TypeVar("T")


class Threads:
    """Up to so many threads, started when needed, gone with this object; anew after a fork.

    Args:
        count: calls that run at once; more wait.
        name: what the threads are called in a stack dump.
    """

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._pool: ThreadPoolExecutor | None = None
        self._pid = 0

    def start(self, *calls: Callable[[], T]) -> list[asyncio.Future[T]]:
        """Begin calls, side by side; each is to be waited for with `ended` or `results`."""
        loop = asyncio.get_running_loop()
        return [loop.run_in_executor(self._executor(), call) for call in calls]

    async def run(self, call: Callable[[], T]) -> T:
        """What the call returns or raises."""
        (result,) = await results(self.start(call))
        return result

    def _executor(self) -> ThreadPoolExecutor:
        if self._pool is None or self._pid != os.getpid():
            self._pool = ThreadPoolExecutor(self._count, thread_name_prefix=self._name)
            self._pid = os.getpid()
        return self._pool


async def ended(futures: Sequence[asyncio.Future[Any]]) -> None:
    """Wait until all have ended, well or not."""
    cancelled: asyncio.CancelledError | None = None
    while not all(future.done() for future in futures):
        try:
            await asyncio.wait(futures)
        except asyncio.CancelledError as error:
            cancelled = error
    for future in futures:
        future.exception()  # looked at, so that asyncio does not report it as lost
    if cancelled is not None:
        raise cancelled


async def results(futures: Sequence[asyncio.Future[T]]) -> list[T]:
    """What the calls returned.

    Raises:
        BaseException: what one of them raised, after all have ended.
    """
    await ended(futures)
    return [future.result() for future in futures]
