"""A time limit that costs nothing where nothing waits.

Most resolvers answer from memory and most bodies are there when they are asked for. A timer for
each of them would be a good part of what a request costs, so it is set only at the first pause.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, TypeVar, cast

__all__ = ("within",)

_T = TypeVar("_T")


async def within(seconds: float, awaitable: Awaitable[_T]) -> _T:
    """Await something for so many seconds at most.

    Raises:
        TimeoutError: it took longer, and was cancelled.

    Examples:
        >>> import asyncio
        >>> asyncio.run(within(1, asyncio.sleep(0, "done")))
        'done'
    """
    if not isinstance(awaitable, Coroutine):
        async with asyncio.timeout(seconds):
            return await awaitable
    coroutine = cast("Coroutine[Any, Any, _T]", awaitable)
    try:
        paused_for = coroutine.send(None)
    except StopIteration as done:
        result: _T = done.value
        return result
    async with asyncio.timeout(seconds):
        return await _Resumed(coroutine, paused_for)


class _Resumed(Awaitable[_T]):
    """A coroutine that was begun already and pauses for something."""

    def __init__(self, coroutine: Coroutine[Any, Any, _T], paused_for: Any) -> None:
        self._coroutine = coroutine
        self._paused_for = paused_for

    def __await__(self) -> Generator[Any, Any, _T]:
        coroutine, paused_for = self._coroutine, self._paused_for
        while True:
            try:
                try:
                    sent = yield paused_for
                except BaseException as error:  # noqa: BLE001 - a cancellation belongs inside too
                    paused_for = coroutine.throw(error)
                else:
                    paused_for = coroutine.send(sent)
            except StopIteration as done:
                result: _T = done.value
                return result
