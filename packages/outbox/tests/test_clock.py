"""A clock that is set back, or ahead: a rest and a lease last no longer than they are long."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_outbox import (
    ExponentialBackoff,
    OutboxEntry,
    OutboxQueue,
    Rest,
    RetryAfterError,
    Unreachable,
    drain_outbox,
)

Reopen = Callable[[], Awaitable[OutboxQueue]]
DAY = 86_400_000


@given(st.integers(0, 10**6), st.integers(1, 10**4), st.integers(-(10**7), 10**7))
def test_a_rest_never_outlasts_its_length(begin: int, length: int, jump: int) -> None:
    rest = Rest(begin + length, length)
    now = begin + jump

    assert rest.is_over(now) or rest.is_over(now + length)
    assert not rest.is_over(begin)
    assert rest.is_over(begin + length)


@pytest.mark.parametrize(
    "error",
    [OSError("down"), RetryAfterError("busy", 4000), Unreachable("away", delay_ms=4000)],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("restarts", [False, True])
async def test_a_clock_set_back_delays_nothing(
    reopen: Reopen, now, error: Exception, *, restarts: bool
) -> None:
    queue = await reopen()
    await queue.enqueue("a", 1)
    backoff = ExponentialBackoff(base_ms=1000, max_ms=5000)

    async def fail(entry: OutboxEntry) -> None:
        raise error

    async def succeed(entry: OutboxEntry) -> None:
        pass

    await drain_outbox(queue, fail, backoff=backoff, now_ms=now)
    assert (await drain_outbox(queue, succeed, backoff=backoff, now_ms=now)).sent == 0
    now.ms -= DAY
    queue = await reopen() if restarts else queue
    waited = 0
    while not (await drain_outbox(queue, succeed, backoff=backoff, now_ms=now)).sent:
        waited, now.ms = waited + 1000, now.ms + 1000

    assert waited <= 5000


async def test_a_lease_of_a_holder_that_is_gone_ends_though_the_clock_was_set_back(
    open_outbox, now
) -> None:
    first, second = OutboxQueue(open_outbox(), now_ms=now), OutboxQueue(open_outbox(), now_ms=now)
    await first.hydrate("k")
    await second.hydrate("k")
    await first.enqueue("a", 1)
    assert await first.claim("a")
    now.ms -= DAY

    assert await second.claim("a")
