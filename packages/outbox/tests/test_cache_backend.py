"""The text under a key, and what happens to text that is not a queue."""

from __future__ import annotations

import json
from typing import Any

import pytest

from starfish_outbox import OutboxPersistenceError, OutboxQueue
from starfish_outbox.testing import LocalCacheContract, MemoryCache

KEY = "outbox.ada"
GOOD = {"id": "a", "item": {"x": 1}, "status": "sending", "attempts": 2, "enqueuedAt": 7}


class TestMemoryCache(LocalCacheContract):
    @pytest.fixture
    def cache(self) -> MemoryCache:
        return MemoryCache()


async def hydrated(cache: MemoryCache, now: Any) -> OutboxQueue:
    queue = OutboxQueue(cache, now_ms=now)
    await queue.hydrate(KEY)
    return queue


async def test_the_text_is_one_array_of_entries_in_queue_order(now) -> None:
    cache = MemoryCache()
    queue = await hydrated(cache, now)
    await queue.enqueue("b", {"path": "notes/1", "body": {"t": "é"}, "baseHash": None}, 1)
    await queue.enqueue("a", [1, 2.5], 2)
    await queue.claim("a")
    await queue.mark_failed("b")

    assert list(cache.values) == [KEY]
    assert json.loads(cache.values[KEY]) == [
        {
            "id": "b",
            "item": {"path": "notes/1", "body": {"t": "é"}, "baseHash": None},
            "status": "failed",
            "attempts": 1,
            "enqueuedAt": 1,
        },
        {"id": "a", "item": [1, 2.5], "status": "sending", "attempts": 0, "enqueuedAt": 2},
    ]


async def test_text_of_another_implementation_is_read(now) -> None:
    # as JSON.stringify and json.dumps write it
    compact = json.dumps([GOOD], separators=(",", ":"), ensure_ascii=False)
    for text in (compact, json.dumps([GOOD], indent=2)):
        queue = await hydrated(MemoryCache({KEY: text}), now)

        (entry,) = queue.get()
        assert (entry.id, entry.item, entry.status) == ("a", {"x": 1}, "queued")
        assert (entry.attempts, entry.enqueued_at) == (2, 7)
        assert queue.quarantined == ()


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"id": "a"}', "null", '"text"', "[1, 2", "[" * 100_000, "\ud800", "[]]"],
    ids=["empty", "cut", "object", "null", "text", "half", "deep", "surrogate", "trailing"],
)
async def test_a_value_that_does_not_parse_is_moved_before_anything_is_written(
    now, text: str
) -> None:
    log: list[tuple[str, str]] = []

    class Logged(MemoryCache):
        async def set_item(self, key: str, value: str) -> None:
            log.append((key, value))
            await super().set_item(key, value)

    cache = Logged({KEY: text})
    queue = await hydrated(cache, now)

    aside = f"{KEY}.corrupt.{now.ms}"
    assert queue.get() == []
    assert cache.values == {aside: text}
    assert [q.location for q in queue.quarantined] == [aside]
    await queue.enqueue("n", 1)
    assert [key for key, _ in log] == [aside, KEY]
    assert (await hydrated(cache, now)).quarantined == ()


@pytest.mark.parametrize(
    "bad",
    [
        {**GOOD, "status": "lost"},
        {**GOOD, "id": 5},
        {**GOOD, "attempts": -1},
        {**GOOD, "attempts": "2"},
        {**GOOD, "enqueuedAt": None},
        {**GOOD, "enqueuedAt": float("inf")},
        {**GOOD, "id": "b", "item": float("nan")},
        {"item": 1},
        None,
        [],
        {**GOOD, "item": "a second entry of this id"},
    ],
    ids=str,
)
async def test_a_malformed_entry_is_moved_and_the_others_stay(now, bad: object) -> None:
    later = {**GOOD, "id": "z", "status": "failed"}
    cache = MemoryCache({KEY: json.dumps([GOOD, bad, later])})
    queue = await hydrated(cache, now)

    assert [e.id for e in queue.get()] == ["a", "z"]
    (aside,) = queue.quarantined
    assert "entry 1" in aside.reason
    assert repr(json.loads(cache.values[aside.location])) == repr([bad])
    assert [e["id"] for e in json.loads(cache.values[KEY])] == ["a", "z"]


async def test_two_quarantines_in_one_millisecond_are_two_keys(now) -> None:
    cache = MemoryCache({KEY: "first", f"{KEY}.corrupt.{now.ms}": "older"})
    await hydrated(cache, now)

    assert cache.values == {
        f"{KEY}.corrupt.{now.ms}": "older",
        f"{KEY}.corrupt.{now.ms + 1}": "first",
    }


async def test_a_quarantine_that_cannot_be_written_changes_nothing(now) -> None:
    class ReadOnly(MemoryCache):
        async def set_item(self, key: str, value: str) -> None:
            raise PermissionError("read-only")

    cache = ReadOnly({KEY: "broken"})
    queue = OutboxQueue(cache, now_ms=now)
    with pytest.raises(OutboxPersistenceError, match="read-only"):
        await queue.hydrate(KEY)

    assert cache.values == {KEY: "broken"}
    assert queue.key is None
