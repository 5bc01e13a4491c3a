from __future__ import annotations

import asyncio

import pytest

from starfish_http.time_limit import within


async def test_a_coroutine_that_does_not_wait_costs_no_timer() -> None:
    async def answer() -> int:
        return 7

    assert await within(0, answer()) == 7


async def test_one_that_waits_too_long_is_cancelled_and_one_in_time_is_not() -> None:
    cancelled = asyncio.Event()

    async def wait(seconds: float) -> str:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return "done"

    assert await within(5, wait(0.01)) == "done"
    with pytest.raises(TimeoutError):
        await within(0.01, wait(60))
    assert cancelled.is_set()


async def test_an_error_comes_through_before_and_after_a_pause() -> None:
    async def fail(*, first: bool) -> None:
        if not first:
            await asyncio.sleep(0)
        raise ZeroDivisionError

    for first in (True, False):
        with pytest.raises(ZeroDivisionError):
            await within(5, fail(first=first))


async def test_anything_that_can_be_awaited_is_bounded() -> None:
    with pytest.raises(TimeoutError):
        await within(0.01, asyncio.get_running_loop().create_future())
