"""Rate limits: never more than the maximum in a window, and the answer says when to come back."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from typing_extensions import override

from starfish_http.addresses import client_address
from starfish_http.rate_limit import Counters, MemoryCounters, SharedCounters
from starfish_server.config.schema import SyncConfig
from starfish_server.errors import ConfigError
from starfish_server.requests._request_limits import (
    RECORDS_PREFIX,
    RequestLimits,
    counters_of_store,
)
from starfish_server.storage.base import AbstractObjectStore, StoreContext
from starfish_server.storage.memory import MemoryObjectStore


class Clock:
    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.at = now_ms

    def now_ms(self) -> int:
        return self.at

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at / 1000, tz=UTC)


class InterleavingStore(MemoryObjectStore):
    """Lets other tasks run between any two calls, as a store behind a network does."""

    @override
    async def get(self, key: str, *, context: StoreContext | None = None) -> Any:
        await asyncio.sleep(0)
        found = await super().get(key, context=context)
        await asyncio.sleep(0)
        return found

    @override
    async def write(self, key: str, value: Any, **options: Any) -> Any:
        await asyncio.sleep(0)
        return await super().write(key, value, **options)


class PlainStore(MemoryObjectStore):
    get_with_etag = AbstractObjectStore.get_with_etag
    put_if_match = AbstractObjectStore.put_if_match


def config(rate_limit: dict[str, Any] | None, server: dict[str, int] | None = None) -> SyncConfig:
    collection = {"name": "notes", "storagePath": "notes/{n}", "rateLimit": rate_limit}
    return SyncConfig.model_validate({"collections": [collection], "serverRateLimit": server})


async def push(
    limiter: RequestLimits, identity: str | None = "ada", address: str = "a"
) -> int | None:
    return await limiter.take(identity=identity, address=address, collection="notes", action="push")


def counters(kind: str, clock: Clock) -> Counters:
    if kind == "memory":
        return MemoryCounters()
    if kind == "machine":
        return SharedCounters(64)
    return counters_of_store(MemoryObjectStore(clock=clock))


def limiter_of(
    rate_limit: dict[str, Any] | None,
    clock: Clock,
    kind: str,
    server: dict[str, int] | None = None,
) -> RequestLimits:
    return RequestLimits(config(rate_limit, server), clock=clock, counters=counters(kind, clock))


@pytest.fixture(params=["memory", "machine", "store"])
def which(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_the_request_after_the_last_allowed_one_is_refused_until_the_window_ends(
    which: str,
) -> None:
    clock = Clock()
    limiter = limiter_of({"windowMs": 10_000, "maxRequests": 2}, clock, which)

    assert [await push(limiter) for _ in range(4)] == [None, None, 10, 10]
    clock.at += 8_500
    assert await push(limiter) == 2
    clock.at += 1_499
    assert await push(limiter) == 1
    clock.at += 1
    assert await push(limiter) is None


async def test_an_action_without_a_limit_is_never_refused(which: str) -> None:
    limiter = limiter_of({"push": {"windowMs": 1000, "maxRequests": 1}}, Clock(), which)

    for _ in range(5):
        assert await limiter.take(
            identity="ada", address="a", collection="notes", action="pull"
        ) is None  # fmt: skip


async def test_each_action_has_its_own_counter(which: str) -> None:
    limit = {"windowMs": 1000, "maxRequests": 1}
    limiter = limiter_of({**limit, "pull": {}, "list": {}, "push": {}}, Clock(), which)

    for action in ("push", "pull", "list"):
        call = {"identity": "ada", "address": "a", "collection": "notes", "action": action}
        assert await limiter.take(**call) is None
        assert await limiter.take(**call) == 1


async def test_identities_are_counted_apart_and_anonymous_callers_by_address(which: str) -> None:
    limiter = limiter_of({"windowMs": 1000, "maxRequests": 1}, Clock(), which)

    assert await push(limiter, "ada", "a") is None
    assert await push(limiter, "ada", "b") == 1
    assert await push(limiter, "bob", "a") is None
    assert await push(limiter, None, "a") is None
    assert await push(limiter, None, "a") == 1
    assert await push(limiter, None, "b") is None
    assert await push(limiter, "a", "c") is None  # an identity that looks like an address


async def test_with_both_buckets_a_request_needs_room_in_each_and_counts_in_none_without(
    which: str,
) -> None:
    rule = {
        "windowMs": 1000,
        "identity": {"maxRequests": 2},
        "ip": {"maxRequests": 3},
    }
    limiter = limiter_of({"push": rule}, Clock(), which)

    assert [await push(limiter, "ada", "a") for _ in range(3)] == [None, None, 1]
    assert await push(limiter, "bob", "a") is None  # the refused request took no room of address a
    assert await push(limiter, "bob", "a") == 1
    assert await push(limiter, "bob", "b") is None


async def test_the_limit_of_the_server_is_counted_by_itself(which: str) -> None:
    limiter = limiter_of(None, Clock(), which, {"windowMs": 1000, "maxRequests": 2})
    call = {"identity": "ada", "address": "a"}

    assert limiter.counts_everything
    assert await push(limiter) is None
    assert [await limiter.take_for_server(**call) for _ in range(3)] == [None, None, 1]
    assert await limiter.take_for_server(identity="bob", address="a") is None


async def test_the_longest_wait_is_told(which: str) -> None:
    rule = {
        "maxRequests": 1,
        "identity": {"windowMs": 60_000},
        "ip": {"windowMs": 1000},
    }
    limiter = limiter_of({"push": rule}, Clock(), which)

    assert await push(limiter) is None
    assert await push(limiter) == 60


async def test_namespaces_are_counted_apart() -> None:
    limit = {"windowMs": 1000, "maxRequests": 1}
    collection = {"name": "notes", "storagePath": "notes/{n}", "rateLimit": limit}
    limiter = RequestLimits(
        SyncConfig.model_validate({
            "collections": [collection], "namespaces": {"acme": {"collections": [collection]}},
        }),
        clock=Clock(),
    )  # fmt: skip

    for namespace in (None, "acme"):
        call = {"identity": "ada", "address": "a", "collection": "notes", "namespace": namespace}
        assert await limiter.take(**call, action="push") is None
        assert await limiter.take(**call, action="push") == 1


@given(
    max_requests=st.integers(1, 4),
    steps=st.lists(st.tuples(st.integers(0, 700), st.sampled_from("ab")), max_size=60),
)
@example(max_requests=1, steps=[(0, "a"), (1000, "a"), (0, "a")])
async def test_all_counters_agree_with_a_plain_model(
    max_requests: int, steps: list[tuple[int, str]]
) -> None:
    clock = Clock()
    store = MemoryObjectStore(clock=clock)
    limit = {"windowMs": 1000, "maxRequests": max_requests}
    memory = RequestLimits(config(limit), clock=clock)
    machine = RequestLimits(config(limit), clock=clock, counters=SharedCounters(64))
    shared = RequestLimits(config(limit), clock=clock, counters=counters_of_store(store))
    windows: dict[str, tuple[int, int]] = {}
    admitted: dict[str, list[int]] = {"a": [], "b": []}

    for wait, who in steps:
        clock.at += wait
        start, count = windows.get(who, (clock.at - 1000, 0))
        if clock.at >= start + 1000:
            start, count = clock.at, 0
        expected = None if count < max_requests else -(-(start + 1000 - clock.at) // 1000)
        if expected is None:
            windows[who] = (start, count + 1)
            admitted[who].append(clock.at)

        assert await push(memory, who) == expected
        assert await push(machine, who) == expected
        assert await push(shared, who) == expected

    for times in admitted.values():
        for begin in times:
            assert len([at for at in times if begin <= at < begin + 1000]) <= 2 * max_requests


async def test_concurrent_requests_of_two_processes_get_exactly_the_maximum() -> None:
    clock = Clock()
    store = InterleavingStore(clock=clock)
    limit = {"windowMs": 60_000, "maxRequests": 25}
    processes = [
        RequestLimits(config(limit), clock=clock, counters=counters_of_store(store))
        for _ in range(2)
    ]

    answers = await asyncio.gather(*(push(processes[i % 2]) for i in range(60)))

    assert answers.count(None) == 25
    assert set(answers) == {None, 60}


async def test_a_clock_that_is_set_back_opens_a_new_window(which: str) -> None:
    clock = Clock()
    limiter = limiter_of({"windowMs": 1000, "maxRequests": 1}, clock, which)

    assert await push(limiter) is None
    clock.at -= 3_600_000
    assert await push(limiter) is None
    assert await push(limiter) == 1


async def test_a_shared_counter_says_nothing_about_the_caller() -> None:
    store = MemoryObjectStore(clock=Clock())
    limit = config({"windowMs": 1000, "maxRequests": 5})
    limiter = RequestLimits(limit, clock=Clock(), counters=counters_of_store(store))
    await push(limiter, "ada@example.org", "203.0.113.9")

    (key,) = await store.list_keys("")
    record = await store.get_string(key)

    assert key.startswith(RECORDS_PREFIX)
    assert "ada" not in f"{key}{record}"
    assert "203" not in key


async def test_a_damaged_record_is_repaired_by_the_next_request() -> None:
    clock = Clock()
    store = MemoryObjectStore(clock=clock)
    limit = config({"windowMs": 1000, "maxRequests": 1})
    await push(RequestLimits(limit, clock=clock, counters=counters_of_store(store)))
    (key,) = await store.list_keys("")
    for damage in ("", "{}", "[1]", '{"count": "x", "resetsAt": 1}', "null"):
        await store.put(key, damage)
        limiter = RequestLimits(limit, clock=clock, counters=counters_of_store(store))

        assert await push(limiter) is None
        assert await push(limiter) == 1


async def test_records_of_the_past_expire() -> None:
    clock = Clock()
    store = MemoryObjectStore(clock=clock)
    limit = config({"windowMs": 1000, "maxRequests": 9})
    limiter = RequestLimits(limit, clock=clock, counters=counters_of_store(store))
    await store.put("notes/1", "{}")
    for caller in range(200):
        await push(limiter, f"old-{caller}")
    clock.at += 2 * 3_600_000
    await push(limiter, "new")

    assert await store.expire(clock.at) == 200
    assert len(await store.list_keys(RECORDS_PREFIX)) == 1
    assert await store.list_keys("notes/") == ["notes/1"]


async def test_a_request_is_not_a_write() -> None:
    class Counting(MemoryObjectStore):
        writes = 0

        @override
        async def write(self, key: str, value: Any, **options: Any) -> Any:
            self.writes += 1
            return await super().write(key, value, **options)

    store = Counting(clock=Clock())
    limit = config({"windowMs": 60_000, "maxRequests": 1000})
    limiter = RequestLimits(limit, clock=Clock(), counters=counters_of_store(store))
    for _ in range(1000):
        assert await push(limiter) is None

    assert await push(limiter) == 60
    assert store.writes == 20


def test_a_store_that_cannot_swap_is_refused() -> None:
    with pytest.raises(ConfigError, match="PlainStore has no compare-and-swap"):
        counters_of_store(PlainStore())


@pytest.mark.parametrize(
    ("peer", "headers", "hops", "expected"),
    [
        ("203.0.113.9", [], 0, "203.0.113.9"),
        ("203.0.113.9", ["6.6.6.6"], 0, "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9"], 1, "203.0.113.9"),
        ("10.0.0.1", ["6.6.6.6, 203.0.113.9"], 1, "203.0.113.9"),
        ("10.0.0.1", ["6.6.6.6", "203.0.113.9, 10.0.0.2"], 2, "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9"], 2, "10.0.0.1"),
        ("10.0.0.1", [], 1, "10.0.0.1"),
        ("10.0.0.1", ["unknown"], 1, "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9:4711"], 1, "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8:1:2:3:4:5:6]:4711"], 1, "2001:db8:1:2::/64"),
        ("2001:db8:1:2::77", [], 0, "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", [], 0, "203.0.113.9"),
        ("testclient", [], 0, "testclient"),
        (None, [], 0, "unknown"),
    ],
)
def test_the_header_is_believed_only_where_ones_own_proxies_wrote_it(
    peer: str | None, headers: list[str], hops: int, expected: str
) -> None:
    assert client_address(peer, headers, trusted_proxy_hops=hops) == expected


@given(st.lists(st.text(max_size=30), max_size=4), st.integers(1, 3))
def test_what_a_caller_puts_before_the_proxies_entries_changes_nothing(
    made_up: list[str], hops: int
) -> None:
    written = ", ".join(["203.0.113.9", *(["10.0.0.9"] * (hops - 1))])

    assert client_address("10.0.0.1", [*made_up, written], trusted_proxy_hops=hops) == "203.0.113.9"
