"""A clock that is set back, or ahead: a rest and a lease last as long as they are long."""

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
    now.jump(-DAY)
    queue = await reopen() if restarts else queue
    waited = 0
    while not (await drain_outbox(queue, succeed, backoff=backoff, now_ms=now)).sent:
        waited, now.ms = waited + 1000, now.ms + 1000

    assert waited <= 5000


async def two_queues(open_outbox, now) -> tuple[OutboxQueue, OutboxQueue]:
    """On one file; the first claims an entry."""
    first, second = OutboxQueue(open_outbox(), now_ms=now), OutboxQueue(open_outbox(), now_ms=now)
    await first.hydrate("k")
    await second.hydrate("k")
    await first.enqueue("a", 1)
    assert await first.claim("a")
    return first, second


@pytest.mark.parametrize("jump", [-DAY, DAY])
async def test_a_clock_that_is_set_ends_no_lease_and_makes_none_longer(
    open_outbox, now, jump: int
) -> None:
    _, second = await two_queues(open_outbox, now)
    now.jump(jump)

    assert not await second.claim("a")
    await second.refresh()
    assert [entry.status for entry in second.get()] == ["sending"]
    now.ms += 29_999
    assert not await second.claim("a")
    now.ms += 1
    assert await second.claim("a")


@pytest.mark.parametrize("owner", ["elsewhere/4026531836/7/1234/ab", "/7//ab"])
@pytest.mark.parametrize("jump", [-DAY, DAY])
async def test_a_lease_of_another_machine_is_over_when_it_seems_longer_than_it_is(
    open_outbox, now, owner: str, jump: int
) -> None:
    """Its clock since boot is not ours."""
    outbox = open_outbox()
    queue = OutboxQueue(outbox, now_ms=now)
    await queue.hydrate("k")
    await queue.enqueue("a", 1)
    await queue.claim("a")
    await queue.hydrate("other")
    outbox._thread.engine.connection.execute(
        "INSERT OR REPLACE INTO starfish_outbox_states (seq, status, owner, lease_until, lease_ms, rest_until)"
        " VALUES (1, 'sending', ?, ?, 30000, 1)",
        (owner, now() + 30_000),
    )
    second = OutboxQueue(open_outbox(), now_ms=now)
    await second.hydrate("k")
    assert not await second.claim("a")
    now.jump(jump)

    assert await second.claim("a")
