"""Call an application's function so that nothing it does reaches anybody else.

Rule: it may raise anything, cancellation and the end of the process included, and it may never
return. Only a cancellation of the caller itself goes on.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, cast

__all__ = ("ApplicationRaisedError", "ApplicationTimedOutError", "call_contained")

_abandoned: set[asyncio.Task[Any]] = set()
"""Calls that were given up and have not ended: kept, so that they are not collected while they run."""


class ApplicationRaisedError(Exception):
    """The function raised; the cause has it."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"it raised {type(error).__name__}")
        self.error = error


class ApplicationTimedOutError(Exception):
    """The function did not return in time."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"it did not return within {limit_s:g} s")


async def call_contained(
    function: Callable[..., object], *arguments: object, limit_s: float
) -> object:
    """Call a function and await its answer where it is awaitable.

    Args:
        function: of the application.
        arguments: for it.
        limit_s: seconds that the awaitable may take.

    Raises:
        ApplicationRaisedError: it raised anything.
        ApplicationTimedOutError: it took too long; it was cancelled and is not waited for.
    """
    try:
        answer = function(*arguments)
    except BaseException as error:
        raise ApplicationRaisedError(error) from error
    if not inspect.isawaitable(answer):
        return answer
    # In a task of its own: a function that swallows its cancellation must not hold the caller up.
    task = asyncio.ensure_future(_outcome(cast("Awaitable[object]", answer)))
    try:
        await asyncio.wait([task], timeout=limit_s)
    finally:
        if not task.done():
            _abandoned.add(task)
            task.add_done_callback(_abandoned.discard)
            task.cancel()
    if not task.done() or task.cancelled():
        raise ApplicationTimedOutError(limit_s)
    result, raised = task.result()
    if raised is not None:
        raise ApplicationRaisedError(raised) from raised
    return result


async def _outcome(awaitable: Awaitable[object]) -> tuple[object, BaseException | None]:
    # Nothing may leave this coroutine: an event loop ends when a task raises SystemExit.
    try:
        return await awaitable, None
    except BaseException as error:  # noqa: BLE001
        return None, error
