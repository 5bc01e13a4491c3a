from __future__ import annotations

import asyncio
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_http.errors import RequestRefusedError
from starfish_http.rate_limit import (
    Counter,
    Lease,
    LeasedCounters,
    Limit,
    MemoryCounters,
    RateLimiter,
    SharedCounters,
)

NOW = 1_700_000_000_000


class ManualClock:
    def __init__(self) -> None:
        self.ms = 1_700_000_000_000

    def now_ms(self) -> int:
        return self.ms

    def now(self) -> object:
        raise NotImplementedError


requests = st.lists(
    st.tuples(
        st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True), st.integers(-30, 120)
    ),
    max_size=60,
)


@given(requests, st.integers(0, 4))
def test_shared_memory_counts_as_the_memory_of_one_process_does(
    asked: list[tuple[list[str], int]], most: int
) -> None:
    limit, now = Limit(most, 100), 1_700_000_000_000
    memory, shared = MemoryCounters(), SharedCounters(64)
    for keys, later in asked:
        now += later
        counters = [Counter(limit, key) for key in keys]

        assert memory.take_now(counters, now) == shared.take_now(counters, now)


@given(st.lists(st.integers(0, 60), max_size=80), st.integers(1, 5))
def test_no_window_lets_more_through_than_its_maximum(steps: list[int], most: int) -> None:
    counters, now = MemoryCounters(), 0
    let_through: list[int] = []
    for step in steps:
        now += step
        resets_at = counters.take_now([Counter(Limit(most, 100), "ada")], now)
        if resets_at is None:
            let_through.append(now)
        else:
            assert now < resets_at <= now + 100

    # Any span of one window meets two of them at most.
    for begin in let_through:
        assert sum(begin <= each < begin + 100 for each in let_through) <= 2 * most


@pytest.mark.parametrize("counters", [MemoryCounters, lambda: SharedCounters(64)])
async def test_a_request_is_counted_everywhere_or_nowhere(counters: type[MemoryCounters]) -> None:
    clock = ManualClock()
    limiter = RateLimiter(counters(), clock=clock)
    one, two = Counter(Limit(1, 10_000), "one"), Counter(Limit(2, 60_000), "two")
    assert await limiter.take([one, two]) is None
    assert await limiter.take([one, two]) == 10

    assert await limiter.take([two]) is None
    assert await limiter.take([two]) == 60

    clock.ms += 60_000
    assert await limiter.take([one, two]) is None


async def test_a_refused_request_says_when_to_come_back() -> None:
    clock = ManualClock()
    limiter = RateLimiter(clock=clock)
    one = Counter(Limit(1, 1_500), "one")
    await limiter.admit([one])

    with pytest.raises(RequestRefusedError) as refusal:
        await limiter.admit([one])

    assert (refusal.value.status, refusal.value.headers) == (429, {"retry-after": "2"})
    clock.ms -= 1_000_000  # a clock that is set back stops nobody
    await limiter.admit([one])


async def test_memory_forgets_the_counter_that_is_unused_for_longest() -> None:
    counters = MemoryCounters(2)
    for key in ("a", "b", "c"):
        await counters.take([Counter(Limit(1, 1000), key)], 0)

    assert len(counters) == 2


def test_the_processes_of_one_machine_count_exactly_together() -> None:
    counters = SharedCounters(64)
    limits = [Counter(Limit(500, 10**9), "a"), Counter(Limit(10**9, 10**9), "b")]
    pipes = []
    for _ in range(4):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            passed = sum(counters.take_now(limits, 1000) is None for _ in range(400))
            os.write(write, passed.to_bytes(4))
            os._exit(0)
        os.close(write)
        pipes.append((pid, read))
    passed = []
    for pid, read in pipes:
        os.waitpid(pid, 0)
        passed.append(int.from_bytes(os.read(read, 4)))
        os.close(read)

    assert sum(passed) == 500
    assert counters.take_now(limits, 1000) is not None


def test_the_threads_of_one_process_count_exactly_together() -> None:
    counters = SharedCounters(64)
    passed: list[bool] = []

    def ask() -> None:
        passed.extend(
            counters.take_now([Counter(Limit(50, 10**9), "a")], 0) is None for _ in range(50)
        )

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(passed) == 50


class OneStore:
    """Permits of a database, in memory."""

    def __init__(self) -> None:
        self.used: dict[str, tuple[int, int]] = {}
        self.asked = 0

    async def lease(self, digest: str, limit: Limit, wanted: int, now_ms: int) -> Lease:
        self.asked += 1
        await asyncio.sleep(0)
        resets_at, used = self.used.get(digest, (now_ms + limit.window_ms, 0))
        if resets_at <= now_ms:
            resets_at, used = now_ms + limit.window_ms, 0
        permits = min(wanted, limit.max_requests - used)
        self.used[digest] = (resets_at, used + permits)
        return Lease(permits, resets_at)


async def test_machines_take_permits_in_lots_and_never_more_than_there_are() -> None:
    store, clock = OneStore(), ManualClock()
    machines = [RateLimiter(LeasedCounters(store), clock=clock) for _ in range(3)]
    counter = Counter(Limit(100, 60_000), "ada")

    answers = await asyncio.gather(*(machines[n % 3].take([counter]) for n in range(300)))

    assert answers.count(None) == 100
    assert {each for each in answers if each is not None} == {60}
    assert store.asked <= 100 / 5 + 3
    assert "ada" not in str(store.used)
    clock.ms += 60_000
    assert await machines[0].take([counter]) is None


async def test_without_limits_nothing_is_counted() -> None:
    assert await RateLimiter().take([]) is None
    assert await RateLimiter().take([Counter(Limit(0, 1000), "never")]) == 1


def in_a_process(counters: SharedCounters, counter: Counter, requests: int) -> int:
    """How many of so many requests a forked process may send."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        allowed = sum(counters.take_now([counter], NOW) is None for _ in range(requests))
        os.write(writing, allowed.to_bytes(8))
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    allowed = int.from_bytes(os.read(reading, 8))
    os.close(reading)
    return allowed


@pytest.mark.parametrize("most", [1, 100, 2047])
def test_a_limit_of_every_day_is_counted_exactly_by_several_processes(most: int) -> None:
    counters, counter = SharedCounters(64), Counter(Limit(most, 60_000), "ada")
    part = most // 3
    taken = sum(counters.take_now([counter], NOW) is None for _ in range(part))

    assert (
        taken + in_a_process(counters, counter, part) + in_a_process(counters, counter, 10_000)
        == most
    )
    assert counters.take_now([counter], NOW) == NOW + 60_000


def test_of_a_great_limit_a_process_holds_little_and_never_more_than_there_is() -> None:
    counters, counter = SharedCounters(64), Counter(Limit(100_000, 60_000), "ada")
    taken = sum(counters.take_now([counter], NOW) is None for _ in range(100))
    others = [in_a_process(counters, counter, 100), in_a_process(counters, counter, 200_000)]

    assert 100_000 - 3 * 64 <= taken + sum(others) <= 100_000


def test_a_lot_ends_with_its_window_and_a_fork_does_not_copy_it() -> None:
    counters, counter = SharedCounters(64), Counter(Limit(100_000, 1000), "ada")
    assert counters.take_now([counter], NOW) is None
    assert in_a_process(counters, counter, 200_000) <= 100_000 - 65
    assert counters.take_now([counter], NOW + 999) is None  # of the lot that is held
    assert counters.take_now([counter], NOW + 1000) is None  # of the next window
    assert counters.take_now([counter], NOW + 1001) is None


def test_a_lot_of_one_counter_does_not_open_another() -> None:
    counters = SharedCounters(64)
    great, small = Counter(Limit(100_000, 1000), "ada"), Counter(Limit(2, 1000), "ip")
    taken = [counters.take_now([great, small], NOW) for _ in range(4)]

    assert taken == [None, None, NOW + 1000, NOW + 1000]
    assert counters.take_now([great], NOW) is None
