"""One pass over the queue, with every storage."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from starfish_outbox import (
    DrainProgress,
    DrainResult,
    ExponentialBackoff,
    OutboxEntry,
    OutboxPersistenceError,
    OutboxQueue,
    PermanentSendError,
    RetryAfterError,
    drain_outbox,
)
from starfish_outbox.testing import MemoryCache

Reopen = Callable[[], Awaitable[OutboxQueue]]


def states(queue: OutboxQueue) -> list[tuple[str, str, int]]:
    return [(entry.id, entry.status, entry.attempts) for entry in queue.get()]


class Sender:
    """Remembers what it sent; fails where told to."""

    def __init__(self, failing: dict[str, Exception] | None = None) -> None:
        self.failing = failing or {}
        self.sent: list[str] = []
        self.tried: list[str] = []

    async def __call__(self, entry: OutboxEntry) -> None:
        assert entry.status == "sending"
        self.tried.append(entry.id)
        await asyncio.sleep(0)
        if entry.id in self.failing:
            raise self.failing[entry.id]
        self.sent.append(entry.id)


async def filled(reopen: Reopen, *ids: str) -> OutboxQueue:
    queue = await reopen()
    for entry_id in ids:
        await queue.enqueue(entry_id, {"lane": entry_id[0]})
    return queue


async def test_entries_are_sent_oldest_first_and_removed(reopen: Reopen) -> None:
    queue, send = await filled(reopen, "c", "a", "b"), Sender()

    assert await drain_outbox(queue, send) == DrainResult(sent=3, failed=0)
    assert send.sent == ["c", "a", "b"]
    assert queue.get() == (await reopen()).get() == []


async def test_a_failing_entry_is_counted_until_it_is_failed(reopen: Reopen) -> None:
    queue, send = await filled(reopen, "a", "b"), Sender({"a": OSError("down")})

    assert await drain_outbox(queue, send, max_attempts=2) == DrainResult(1, 0)
    assert states(queue) == [("a", "queued", 1)]
    assert await drain_outbox(queue, send, max_attempts=2) == DrainResult(0, 1)
    assert await drain_outbox(queue, send, max_attempts=2) == DrainResult(0, 0)
    assert states(queue) == [("a", "failed", 2)]
    assert send.tried == ["a", "b", "a"]


async def test_a_permanent_error_is_failed_at_once(reopen: Reopen) -> None:
    queue, send = await filled(reopen, "a"), Sender({"a": PermanentSendError("refused")})

    assert await drain_outbox(queue, send) == DrainResult(0, 1)
    assert states(queue) == [("a", "failed", 1)]


async def test_failed_entries_wait_for_retry(reopen: Reopen) -> None:
    queue, send = await filled(reopen, "a"), Sender()
    await queue.mark_failed("a")
    assert await drain_outbox(queue, send) == DrainResult(0, 0)
    await queue.retry("a")

    assert await drain_outbox(queue, send) == DrainResult(1, 0)


async def test_entries_that_come_during_the_pass_are_left_for_the_next(reopen: Reopen) -> None:
    queue = await filled(reopen, "a")

    async def send(entry: OutboxEntry) -> None:
        await queue.enqueue("later", 1)

    assert await drain_outbox(queue, send) == DrainResult(1, 0)
    assert states(queue) == [("later", "queued", 0)]


async def test_two_drains_at_the_same_time_send_everything_once(reopen: Reopen) -> None:
    ids = [f"n{n}" for n in range(40)]
    queue, send = await filled(reopen, *ids), Sender()
    results = await asyncio.gather(
        *(drain_outbox(queue, send, concurrency=width) for width in (1, 3, 8))
    )

    assert sorted(send.sent) == sorted(ids)
    assert sum(result.sent for result in results) == 40


async def test_a_cancelled_send_is_queued_again_without_an_attempt(reopen: Reopen) -> None:
    queue = await filled(reopen, "a", "b", "c")
    sending = asyncio.Event()

    async def send(entry: OutboxEntry) -> None:
        sending.set()
        await asyncio.Event().wait()

    for width in (1, 3):
        sending.clear()
        task = asyncio.create_task(drain_outbox(queue, send, concurrency=width))
        await sending.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert states(queue) == [("a", "queued", 0), ("b", "queued", 0), ("c", "queued", 0)]
    assert states(await reopen()) == states(queue)


@pytest.mark.parametrize("turns", range(0, 60, 3))
async def test_a_drain_cancelled_after_any_turn_leaves_nothing_half_done(
    reopen: Reopen, turns: int
) -> None:
    queue, send = await filled(reopen, "a", "b", "c"), Sender()
    task = asyncio.create_task(drain_outbox(queue, send, concurrency=2))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])

    left = [entry_id for entry_id, status, attempts in states(queue)]
    assert all(state[1:] == ("queued", 0) for state in states(queue))
    # whatever was sent is gone, except a send that was cancelled on its last turn
    assert set(left) | set(send.sent) == {"a", "b", "c"}
    assert set(left).isdisjoint(send.sent)


async def test_a_failing_entry_holds_its_own_lane_back_and_no_other(reopen: Reopen) -> None:
    queue = await filled(reopen, "a1", "b1", "a2", "b2", "a3")
    send = Sender({"a2": OSError("down")})
    lane = lambda entry: entry.item["lane"]  # noqa: E731 - as an application writes it

    assert await drain_outbox(queue, send, concurrency=8, lane=lane) == DrainResult(3, 0)
    assert [e.id for e in queue.get()] == ["a2", "a3"]
    assert "a3" not in send.tried
    assert send.sent.index("b1") < send.sent.index("b2")


async def test_a_lane_waits_for_an_entry_that_somebody_else_is_sending(reopen: Reopen) -> None:
    queue, send = await filled(reopen, "a1", "a2", "b1"), Sender()
    await queue.claim("a1")
    lane = lambda entry: entry.item["lane"]  # noqa: E731 - as above

    assert await drain_outbox(queue, send, lane=lane) == DrainResult(1, 0)
    assert send.tried == ["b1"]


async def test_a_lane_never_has_two_sends_under_way(reopen: Reopen) -> None:
    queue = await filled(reopen, *(f"{lane}{n}" for n in range(6) for lane in "abc"))
    busy: set[str] = set()
    together = asyncio.Event()

    async def send(entry: OutboxEntry) -> None:
        assert entry.id[0] not in busy
        busy.add(entry.id[0])
        if len(busy) == 3:
            together.set()
        await together.wait()
        await asyncio.sleep(0)
        busy.remove(entry.id[0])

    async with asyncio.timeout(10):
        await drain_outbox(queue, send, concurrency=8, lane=lambda entry: entry.id[0])
    assert queue.get() == []


async def test_with_a_backoff_an_entry_rests(reopen: Reopen, now) -> None:
    queue, send = await filled(reopen, "a"), Sender({"a": OSError("down")})
    backoff = ExponentialBackoff(base_ms=1000, jitter=0)

    async def drain() -> int:
        await drain_outbox(queue, send, backoff=backoff, now_ms=now)
        return len(send.tried)

    assert await drain() == 1
    assert queue.not_before("a") == now.ms + 1000
    assert await drain() == 1
    now.ms += 999
    assert await drain() == 1
    now.ms += 1
    assert await drain() == 2
    now.ms += 1999
    assert await drain() == 2
    now.ms += 1
    assert await drain() == 3


async def test_a_sender_may_name_the_earliest_next_try(reopen: Reopen, now) -> None:
    queue, send = await filled(reopen, "a"), Sender({"a": RetryAfterError("busy", 7000)})
    await drain_outbox(queue, send, now_ms=now)

    assert queue.not_before("a") == now.ms + 7000
    assert states(queue) == [("a", "queued", 1)]


async def test_stop_ends_what_is_under_way_and_begins_nothing(reopen: Reopen) -> None:
    queue, stop = await filled(reopen, "a", "b", "c"), asyncio.Event()

    async def send(entry: OutboxEntry) -> None:
        stop.set()
        await asyncio.sleep(0)

    assert await drain_outbox(queue, send, stop=stop) == DrainResult(1, 0)
    assert states(queue) == [("b", "queued", 0), ("c", "queued", 0)]


async def test_progress_is_told_after_each_entry(
    reopen: Reopen, caplog: pytest.LogCaptureFixture
) -> None:
    queue, send = await filled(reopen, "a", "b"), Sender({"a": PermanentSendError("no")})
    seen: list[DrainProgress] = []

    def on_progress(progress: DrainProgress) -> None:
        seen.append(progress)
        raise RuntimeError("a progress bar bug")

    with caplog.at_level(logging.ERROR):
        await drain_outbox(queue, send, on_progress=on_progress)

    assert seen == [DrainProgress(0, 1, 1, 2), DrainProgress(1, 1, 2, 2)]
    assert "a progress bar bug" in caplog.text


async def test_a_clear_ends_the_pass_and_keeps_its_records(reopen: Reopen) -> None:
    queue = await filled(reopen, "a", "b")

    async def send(entry: OutboxEntry) -> None:
        queue.clear()

    assert await drain_outbox(queue, send) == DrainResult(1, 0)
    assert states(await reopen()) == [("b", "queued", 0)]


async def test_a_storage_that_fails_during_the_pass_is_reported() -> None:
    class Cache(MemoryCache):
        broken = False

        async def set_item(self, key: str, value: str) -> None:
            if self.broken:
                raise OSError("no space left")
            await super().set_item(key, value)

    cache = Cache()
    queue = OutboxQueue(cache)
    await queue.hydrate("k")
    for entry_id in "abc":
        await queue.enqueue(entry_id, 1)

    async def send(entry: OutboxEntry) -> None:
        cache.broken = True

    with pytest.raises(OutboxPersistenceError, match="no space left"):
        await drain_outbox(queue, send, concurrency=2)
    # it was sent, though that could not be recorded: this process does not send it again
    assert states(queue)[0] == ("a", "sending", 0)


@pytest.mark.parametrize("wrong", ["max_attempts", "concurrency"])
async def test_numbers_below_one_are_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=f"{wrong} is 0"):
        await drain_outbox(OutboxQueue(MemoryCache()), Sender(), **{wrong: 0})
