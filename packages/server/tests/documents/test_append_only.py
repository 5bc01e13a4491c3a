"""Documents that only grow: nothing is lost, at a cost that does not grow with them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_protocol.hash import compute_hash
from starfish_protocol.testing import ManualClock
from starfish_server import InvalidKeyError, MemoryObjectStore, StoreContext
from starfish_server.protocol.append_only import AppendLog, PullBounds
from starfish_server.protocol.errors import (
    AppendLimitExceededError,
    DamagedDocumentError,
    NonMonotonicTimestampError,
    TimestampTooFarAheadError,
)

KEY = "log/hall"


class CountingStore(MemoryObjectStore):
    """Counts calls and characters that go to and fro."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.characters = 0

    async def get_string(self, key: str, *, context: StoreContext | None = None) -> str | None:
        text = await super().get_string(key, context=context)
        self.calls += 1
        self.characters += len(text or "")
        return text

    async def get_with_etag(self, key: str, *, context: StoreContext | None = None) -> Any:
        found = await super().get_with_etag(key, context=context)
        self.calls += 1
        self.characters += len(found[0]) if found else 0
        return found

    async def put_if_match(self, key: str, body: str, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        self.characters += len(body)
        return await super().put_if_match(key, body, *args, **kwargs)

    def reset(self) -> None:
        self.calls = self.characters = 0


async def filled(count: int, chunk_size: int, store: MemoryObjectStore | None = None) -> AppendLog:
    """Elements 0, 1, 2 … with ts 10, 20, 30 …"""
    clock = ManualClock(0)
    log = AppendLog(store if store is not None else MemoryObjectStore(), clock)
    for n in range(count):
        clock.advance(10)
        await log.append(KEY, {"n": n}, chunk_size=chunk_size)
    return log


def numbers(page: Any) -> list[int]:
    return [element["data"]["n"] for element in page.elements]


@given(
    count=st.integers(0, 40),
    chunk_size=st.integers(1, 7),
    checkpoint=st.none() | st.integers(0, 450),
    last=st.none() | st.integers(1, 45),
    at_most=st.none() | st.integers(1, 45),
)
async def test_bounds_select_what_a_list_would(
    count: int, chunk_size: int, checkpoint: int | None, last: int | None, at_most: int | None
) -> None:
    log = await filled(count, chunk_size)

    page = await log.read(KEY, PullBounds(checkpoint, last, at_most))

    expected = [n for n in range(count) if checkpoint is None or 10 * (n + 1) > checkpoint]
    expected = expected if last is None else expected[-last:]
    expected = expected if at_most is None else expected[:at_most]
    assert numbers(page) == expected
    assert page.hash == (compute_hash({"n": count, "last": {"n": count - 1}}) if count else "")


async def test_an_append_costs_the_same_at_any_length() -> None:
    costs = {}
    for count in (10, 100_000):
        store = CountingStore()
        log = AppendLog(store, ManualClock(10**12))
        for n in range(count):
            await log.append(KEY, {"n": 10**6 + n}, chunk_size=64)
        store.reset()
        for n in range(128):  # over two seals
            await log.append(KEY, {"n": 10**6 + n}, chunk_size=64)
        costs[count] = (store.calls, store.characters)

    (few_calls, few_characters), (many_calls, many_characters) = costs[10], costs[100_000]
    assert many_calls == few_calls
    assert many_characters < 1.02 * few_characters  # counters have more digits


async def test_a_pull_reads_only_what_it_needs() -> None:
    store = CountingStore()
    log = await filled(20_000, 64, store)

    async def calls(bounds: PullBounds, expected: list[int]) -> int:
        store.reset()
        assert numbers(await log.read(KEY, bounds)) == expected
        return store.calls

    assert await calls(PullBounds(last=10), list(range(19_990, 20_000))) == 1
    assert await calls(PullBounds(last=100), list(range(19_900, 20_000))) <= 3
    assert await calls(PullBounds(checkpoint=199_990), [19_999]) == 1
    assert await calls(PullBounds(checkpoint=199_000), list(range(19_900, 20_000))) <= 5
    middle = PullBounds(checkpoint=100_000, at_most=10)
    assert await calls(middle, list(range(10_000, 10_010))) <= 2 * 9 + 3
    assert await calls(PullBounds(checkpoint=0, at_most=10), list(range(10))) <= 2 * 9 + 3


async def test_concurrent_appends_lose_nothing() -> None:
    store = MemoryObjectStore()
    logs = [AppendLog(store, ManualClock(0)) for _ in range(3)]  # as three processes would

    await asyncio.gather(*(logs[n % 3].append(KEY, {"n": n}, chunk_size=5) for n in range(60)))

    page = await logs[0].read(KEY, PullBounds())
    assert sorted(numbers(page)) == list(range(60))
    times = [element["ts"] for element in page.elements]
    assert times == list(range(60))  # the clock stood still


async def test_time_goes_on_when_the_clock_goes_back() -> None:
    clock = ManualClock(1000)
    log = AppendLog(MemoryObjectStore(), clock)

    times = []
    for step in (0, 0, -500, 501, 1):
        clock.advance(step)
        times.append((await log.append(KEY, {})).timestamp)

    assert times == [1000, 1001, 1002, 1003, 1004]


async def test_a_clients_own_time_must_be_new_and_near() -> None:
    clock = ManualClock(1_000_000)
    log = AppendLog(MemoryObjectStore(), clock)
    await log.append(KEY, {"n": 0}, 500)

    for stale in (0, 499, 500):
        with pytest.raises(NonMonotonicTimestampError):
            await log.append(KEY, {"n": 1}, stale)
    with pytest.raises(TimestampTooFarAheadError):
        await log.append(KEY, {"n": 1}, 1_300_001)
    assert (await log.append(KEY, {"n": 1}, 1_300_000)).timestamp == 1_300_000
    # The server's own time is never refused, however far ahead a client has been.
    assert (await log.append(KEY, {"n": 2})).timestamp == 1_300_001
    assert numbers(await log.read(KEY, PullBounds())) == [0, 1, 2]


async def test_a_full_document_stays_as_it_is() -> None:
    log = await filled(3, 2)
    before = await log.read(KEY, PullBounds())

    with pytest.raises(AppendLimitExceededError) as caught:
        await log.append(KEY, {"n": 3}, max_items=3)

    assert caught.value.limit == 3
    assert await log.read(KEY, PullBounds()) == before


class CrashError(Exception):
    """The process is gone."""


class CrashingStore(MemoryObjectStore):
    """Ends after some writes, before or after the last of them took effect."""

    def __init__(self) -> None:
        super().__init__()
        self.writes_left: int | None = None
        self.after = False

    async def put_if_match(self, *args: Any, **kwargs: Any) -> Any:
        if self.writes_left is not None:
            self.writes_left -= 1
            if self.writes_left < 0:
                if self.after:
                    await super().put_if_match(*args, **kwargs)
                raise CrashError
        return await super().put_if_match(*args, **kwargs)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("writes", [0, 1])
async def test_a_crash_at_any_step_of_a_seal_is_harmless(writes: int, *, after: bool) -> None:
    store = CrashingStore()
    log = await filled(4, 4, store)
    store.writes_left, store.after = writes, after
    with pytest.raises(CrashError):
        await log.append(KEY, {"n": 4}, chunk_size=4)
    store.writes_left = None

    again = AppendLog(store, ManualClock(1000))
    stored = numbers(await again.read(KEY, PullBounds()))
    await again.append(KEY, {"n": 5}, chunk_size=4)

    took_effect = writes == 1 and after
    assert stored == list(range(5 if took_effect else 4))
    assert numbers(await again.read(KEY, PullBounds())) == [*stored, 5]
    assert await store.list_keys("log/") == [KEY]


async def test_a_chunk_left_by_a_crash_fits_when_chunks_have_become_larger() -> None:
    store = CrashingStore()
    log = await filled(4, 4, store)
    store.writes_left = 1
    with pytest.raises(CrashError):
        await log.append(KEY, {"n": 4}, chunk_size=4)
    store.writes_left = None

    again = AppendLog(store, ManualClock(1000))
    for n in range(4, 20):
        await again.append(KEY, {"n": n}, chunk_size=6)

    assert numbers(await again.read(KEY, PullBounds())) == list(range(20))
    assert numbers(await again.read(KEY, PullBounds(checkpoint=30))) == list(range(3, 20))


async def test_a_head_from_a_backup_overwrites_no_chunk() -> None:
    store = MemoryObjectStore()
    log = await filled(4, 4, store)
    backup = await store.get_string(KEY)
    await log.append(KEY, {"n": 4}, chunk_size=4)
    other = json.loads(backup)
    other["tail"][0]["data"] = {"n": 99}
    await store.put(KEY, json.dumps(other, separators=(",", ":")))

    with pytest.raises(DamagedDocumentError):
        await log.append(KEY, {"n": 5}, chunk_size=4)


async def test_an_expired_document_begins_again() -> None:
    clock = ManualClock(0)
    store = MemoryObjectStore()
    log = AppendLog(store, clock)
    for n in range(5):
        await log.append(KEY, {"n": n}, chunk_size=2, ttl_ms=100)
    clock.advance(104)

    assert (await log.read(KEY, PullBounds(), ttl_ms=100)).hash == ""
    await log.append(KEY, {"n": 9}, chunk_size=2, ttl_ms=100)
    assert numbers(await log.read(KEY, PullBounds(), ttl_ms=100)) == [9]
    assert await store.list_keys("") == [KEY]  # its chunks are gone


async def test_a_missing_chunk_is_reported() -> None:
    store = MemoryObjectStore()
    log = await filled(5, 2, store)
    (chunk, *_) = await store.list_keys("~")
    await store.delete(chunk)

    with pytest.raises(DamagedDocumentError):
        await log.read(KEY, PullBounds())


async def test_a_key_that_leaves_no_room_for_chunks_is_refused_at_once() -> None:
    log = AppendLog(MemoryObjectStore(), ManualClock(0))

    with pytest.raises(InvalidKeyError):
        await log.append("log/" + "x" * 1000, {})


async def test_large_elements_fill_a_chunk_sooner() -> None:
    store = CountingStore()
    log = AppendLog(store, ManualClock(0))
    for n in range(6):
        await log.append(KEY, {"n": n, "text": "x" * 100_000})

    assert len(await store.list_keys("~append/")) == 1
    assert numbers(await log.read(KEY, PullBounds())) == list(range(6))
