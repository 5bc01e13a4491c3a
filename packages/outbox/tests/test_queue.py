"""The public surface, the same with every storage."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable

import pytest

from starfish_outbox import (
    NotHydratedError,
    OutboxEntry,
    OutboxPersistenceError,
    OutboxQueue,
    reset_sending_to_queued,
)
from starfish_outbox.testing import MemoryCache

Reopen = Callable[[], Awaitable[OutboxQueue]]


def states(queue: OutboxQueue) -> list[tuple[str, str, int]]:
    return [(entry.id, entry.status, entry.attempts) for entry in queue.get()]


async def test_an_enqueued_entry_is_there_after_a_restart(reopen: Reopen) -> None:
    queue = await reopen()
    await queue.enqueue("a", {"text": "é 🚀 \ud800"}, 5)
    await queue.enqueue("b", [1, 2.5, None, True])

    assert queue.get()[0] == OutboxEntry("a", {"text": "é 🚀 \ud800"}, "queued", 0, 5)
    assert queue.get()[1].enqueued_at == 1_700_000_000_000
    assert (await reopen()).get() == queue.get()


async def test_an_id_that_is_there_is_ignored_whatever_its_status(reopen: Reopen) -> None:
    queue = await reopen()
    await queue.enqueue("a", 1)
    await queue.enqueue("a", 2)
    await queue.mark_failed("a")
    await queue.enqueue("a", 3)

    assert [(e.item, e.status) for e in queue.get()] == [(1, "failed")]


async def test_a_claim_has_one_winner(reopen: Reopen) -> None:
    queue = await reopen()
    await queue.enqueue("a", 1)

    assert not await queue.claim("absent")
    assert sorted(await asyncio.gather(*(queue.claim("a") for _ in range(5)))) == [False] * 4 + [
        True
    ]
    assert states(queue) == [("a", "sending", 0)]


async def test_a_failed_entry_cannot_be_claimed(reopen: Reopen) -> None:
    queue = await reopen()
    await queue.enqueue("a", 1)
    await queue.mark_failed("a")

    assert not await queue.claim("a")
    assert states(queue) == [("a", "failed", 1)]


async def test_failures_are_counted_up_to_the_maximum(reopen: Reopen) -> None:
    queue = await reopen()
    await queue.enqueue("a", 1)
    seen = []
    for _ in range(3):
        await queue.claim("a")
        await queue.record_failure("a", 3)
        seen += states(queue)

    assert seen == [("a", "queued", 1), ("a", "queued", 2), ("a", "failed", 3)]
    assert states(await reopen()) == [("a", "failed", 3)]


async def test_retry_queues_a_failed_entry_and_keeps_its_attempts(reopen: Reopen) -> None:
    queue = await reopen()
    await queue.enqueue("a", 1)
    await queue.enqueue("b", 1)
    await queue.mark_failed("a")
    await queue.claim("b")
    await queue.retry("a")
    await queue.retry("b")

    assert states(queue) == [("a", "queued", 1), ("b", "sending", 0)]


async def test_what_was_being_sent_is_queued_after_a_restart(reopen: Reopen) -> None:
    queue = await reopen()
    await queue.enqueue("a", 1)
    await queue.claim("a")

    assert states(await reopen()) == [("a", "queued", 0)]


async def test_changes_of_an_absent_entry_do_nothing(reopen: Reopen) -> None:
    queue = await reopen()
    await queue.enqueue("a", 1)
    await queue.remove("x")
    await queue.record_failure("x", 1)
    await queue.mark_failed("x")
    await queue.retry("x")
    await queue.release("x")

    assert states(queue) == [("a", "queued", 0)]


async def test_clear_forgets_memory_and_leaves_the_storage(reopen: Reopen) -> None:
    queue = await reopen()
    await queue.enqueue("a", 1)
    queue.clear()

    assert queue.get() == []
    assert queue.key is None
    with pytest.raises(NotHydratedError):
        await queue.enqueue("b", 1)
    await queue.hydrate("outbox.ada")
    assert states(queue) == [("a", "queued", 0)]


async def test_identities_do_not_see_each_other(reopen: Reopen) -> None:
    queue = await reopen()
    await queue.enqueue("a", 1)
    await queue.hydrate("outbox.bob")
    await queue.enqueue("b", 2)

    assert states(queue) == [("b", "queued", 0)]
    await queue.hydrate("outbox.ada")
    assert states(queue) == [("a", "queued", 0)]


@pytest.mark.parametrize("call", ["enqueue", "claim", "remove", "mark_failed", "retry", "release"])
async def test_nothing_is_changed_before_hydrate(call: str) -> None:
    queue = OutboxQueue(MemoryCache())
    arguments = ("a", 1) if call == "enqueue" else ("a",)

    with pytest.raises(NotHydratedError, match="hydrate"):
        await getattr(queue, call)(*arguments)
    assert queue.get() == []


@pytest.mark.parametrize(
    ("item", "path"),
    [
        ({"a": [1, {"b": object()}]}, r'item\["a"\]\[1\]\["b"\]: object'),
        ({"a": math.nan}, r'item\["a"\]: nan'),
        ([math.inf], r"item\[0\]: inf"),
        ({1: "x"}, "item: key 1 is not a text"),
        ({"a": {None: 1}}, r'item\["a"\]: key None'),
        (b"bytes", "item: bytes"),
        ({"s": {1, 2}}, r'item\["s"\]: set'),
    ],
    ids=["object", "nan", "inf", "number as key", "none as key", "bytes", "set"],
)
async def test_an_item_without_json_form_is_refused_with_its_path(
    reopen: Reopen, item: object, path: str
) -> None:
    queue = await reopen()

    with pytest.raises(TypeError, match=path):
        await queue.enqueue("a", item)
    assert (await reopen()).get() == []


async def test_an_item_that_is_too_deep_or_holds_itself_is_refused(reopen: Reopen) -> None:
    queue = await reopen()
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    loop: list[object] = []
    loop.append(loop)

    with pytest.raises(TypeError, match="deeper than 200"):
        await queue.enqueue("a", deep)
    with pytest.raises(TypeError, match="contains itself"):
        await queue.enqueue("a", loop)
    assert queue.get() == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((1, "x"), TypeError),
        (("\ud800", "x"), ValueError),
        (("a", "x", 1.5), TypeError),
        (("a", "x", True), TypeError),
        (("a", "x", 2**60), ValueError),
    ],
    ids=["id no text", "lone surrogate", "float time", "bool time", "huge time"],
)
async def test_wrong_ids_and_times_are_refused(
    reopen: Reopen, arguments: tuple[object, ...], error: type[Exception]
) -> None:
    queue = await reopen()

    with pytest.raises(error):
        await queue.enqueue(*arguments)  # type: ignore[arg-type]  # that is the point
    assert queue.get() == []


async def test_later_changes_of_the_item_change_nothing_in_the_queue(reopen: Reopen) -> None:
    queue = await reopen()
    item = {"list": [1]}
    await queue.enqueue("a", item)
    item["list"].append(2)

    assert queue.get()[0].item == {"list": [1]}


async def test_pending_asks_the_predicate_about_the_item(reopen: Reopen) -> None:
    queue = await reopen()
    for number in range(4):
        await queue.enqueue(str(number), {"n": number})

    assert [e.id for e in queue.pending(lambda item: item["n"] % 2 == 1)] == ["1", "3"]
    assert queue.pending() == queue.get()


async def test_overlapping_changes_keep_one_order_in_memory_and_storage(reopen: Reopen) -> None:
    queue = await reopen()

    async def write(lane: int) -> None:
        for number in range(10):
            await queue.enqueue(f"{lane}-{number}", number)
            if number % 3 == 0:
                await queue.remove(f"{lane}-{number}")
            if number % 4 == 0:
                await queue.claim(f"{lane}-{number}")

    await asyncio.gather(*(write(lane) for lane in range(16)))

    again = await reopen()
    assert again.get() == reset_sending_to_queued(queue.get())
    assert len(again.get()) == 16 * 6


async def test_listeners_hear_every_change_and_only_changes(reopen: Reopen) -> None:
    queue = await reopen()
    seen: list[int] = []
    unsubscribe = queue.subscribe(lambda: seen.append(len(queue.get())))
    await queue.enqueue("a", 1)
    await queue.enqueue("a", 1)
    await queue.enqueue("b", 1)
    await queue.remove("absent")
    await queue.remove("a")
    unsubscribe()
    unsubscribe()
    await queue.enqueue("c", 1)

    assert seen == [1, 2, 1]


async def test_a_raising_listener_is_logged_and_disturbs_nobody(
    reopen: Reopen, caplog: pytest.LogCaptureFixture
) -> None:
    queue = await reopen()
    heard: list[str] = []

    def broken() -> None:
        raise RuntimeError("listener bug")

    queue.subscribe(broken)
    queue.subscribe(lambda: heard.append("second"))
    with caplog.at_level(logging.ERROR):
        await queue.enqueue("a", 1)

    assert heard == ["second"]
    assert "listener bug" in caplog.text
    assert states(queue) == [("a", "queued", 0)]


async def test_changes_during_a_hydrate_wait_for_it(reopen: Reopen) -> None:
    queue = await reopen()
    await asyncio.gather(
        queue.enqueue("a", 1),
        queue.hydrate("outbox.ada"),
        queue.enqueue("b", 1),
        queue.hydrate("outbox.ada"),
        queue.enqueue("c", 1),
    )

    assert sorted(e.id for e in queue.get()) == ["a", "b", "c"]
    assert (await reopen()).get() == queue.get()


async def test_a_clear_during_a_hydrate_leaves_the_queue_unbound() -> None:
    queue = OutboxQueue(MemoryCache())
    hydrating = asyncio.create_task(queue.hydrate("outbox.ada"))
    await asyncio.sleep(0)
    queue.clear()
    await hydrating

    assert queue.key is None


class FailingCache(MemoryCache):
    """Refuses writes on request."""

    broken = False

    async def set_item(self, key: str, value: str) -> None:
        if self.broken:
            raise OSError("no space left")
        await super().set_item(key, value)


async def test_a_refused_write_leaves_memory_as_it_was() -> None:
    cache = FailingCache()
    queue = OutboxQueue(cache)
    await queue.hydrate("k")
    await queue.enqueue("a", 1)
    before, heard = queue.get(), []
    queue.subscribe(lambda: heard.append(1))
    cache.broken = True
    for change in (queue.enqueue("b", 2), queue.claim("a"), queue.remove("a")):
        with pytest.raises(OutboxPersistenceError, match="no space left") as caught:
            await change
        assert isinstance(caught.value.__cause__, OSError)

    assert queue.get() == before
    assert heard == []
    cache.broken = False
    await queue.enqueue("c", 3)
    assert [e.id for e in queue.get()] == ["a", "c"]


async def test_a_hydrate_that_fails_leaves_the_queue_as_it_was() -> None:
    class Unreadable(MemoryCache):
        broken = False

        async def get_item(self, key: str) -> str | None:
            if self.broken:
                raise OSError("gone")
            return await super().get_item(key)

    cache = Unreadable()
    queue = OutboxQueue(cache)
    await queue.hydrate("k")
    await queue.enqueue("a", 1)
    cache.broken = True
    for key in ("k", "other"):
        with pytest.raises(OutboxPersistenceError, match="gone"):
            await queue.hydrate(key)
    cache.broken = False
    await queue.enqueue("b", 1)

    assert queue.key == "k"
    assert [e.id for e in queue.get()] == ["a", "b"]
