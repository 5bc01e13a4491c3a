"""Concurrency: conflicts, coalescing, cancellation, failing and stalling stores."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from starfish_projection import (
    Projection,
    ProjectionOp,
    ProjectionRemove,
    ProjectionSet,
    create_projection_server_plugin,
)
from starfish_protocol.plugins import WriteEvent
from starfish_server.errors import StoreUnavailableError

Events = Callable[..., WriteEvent]


def _project(event: WriteEvent) -> ProjectionOp:
    body = event.body or {}
    if body.get("gone"):
        return ProjectionRemove(event.params["note"])
    return ProjectionSet(event.params["note"], dict(body))


def _plugin(store: Any, **options: Any) -> Any:
    return create_projection_server_plugin(
        store=store, projections=[Projection("notes", "list", _project)], **options
    )


async def _ids(store: Any) -> list[str]:
    return [entry_id for entry_id, _ in await store.items("list")]


async def test_appends_to_a_remembered_list_read_it_once(store: Any, event: Events) -> None:
    plugin = _plugin(store)

    for number in range(200):
        await plugin.after_write(event(f"n{number}"))

    assert store.read == ["list"]
    assert await _ids(store) == [f"n{number}" for number in range(200)]


async def test_pushes_that_wait_are_folded_together_in_the_order_they_came(
    store: Any, event: Events
) -> None:
    async def slowly(key: str) -> None:
        await asyncio.sleep(0.01)

    store.before_swap = slowly
    plugin = _plugin(store)

    await asyncio.gather(*(plugin.after_write(event(f"n{i}")) for i in range(64)))

    assert await _ids(store) == [f"n{i}" for i in range(64)]
    assert len(store.written) <= 2
    assert plugin.stats().writes == len(store.written)
    assert plugin.stats().folded == 64


async def test_a_push_returns_only_after_its_own_operation_is_stored(
    store: Any, event: Events
) -> None:
    plugin = _plugin(store)

    async def push(number: int) -> None:
        for step in range(5):
            await plugin.after_write(event(f"n{number}", {"step": step}))
            assert dict(await store.items("list"))[f"n{number}"] == {"step": step}

    await asyncio.gather(*(push(number) for number in range(16)))


async def test_lists_do_not_wait_for_each_other(store: Any, event: Events) -> None:
    release = asyncio.Event()

    async def stall_slow(key: str) -> None:
        if key == "slow":
            await release.wait()

    store.before_swap = stall_slow
    plugin = create_projection_server_plugin(
        store=store, projections=[Projection("notes", lambda e: e.params["note"], _project)]
    )

    slow = asyncio.ensure_future(plugin.after_write(event("slow")))
    await plugin.after_write(event("fast"))

    assert not slow.done()
    release.set()
    await slow
    assert store.written == ["fast", "slow"]


async def test_a_conflict_is_folded_again_over_what_the_other_writer_left(
    store: Any, event: Events
) -> None:
    other = _plugin(store)
    plugin = _plugin(store)
    await plugin.after_write(event("a"))

    await other.after_write(event("b"))
    await plugin.after_write(event("c"))

    assert await _ids(store) == ["a", "b", "c"]
    assert plugin.stats().conflicts == 1


async def test_a_stale_memory_never_decides_that_there_is_nothing_to_do(
    store: Any, event: Events
) -> None:
    other = _plugin(store)
    plugin = _plugin(store)
    await plugin.after_write(event("a", {"n": 1}))
    await other.after_write(event("a", {"n": 2}))

    await plugin.after_write(event("a", {"n": 1}))
    await other.after_write(event("a", {"gone": True}))
    await plugin.after_write(event("a", {"n": 1}))
    await plugin.after_write(event("a", {"gone": True}))
    await other.after_write(event("b"))
    await plugin.after_write(event("b", {"gone": True}))

    assert await store.items("list") == []


async def test_a_stale_memory_never_decides_that_the_list_is_full(
    store: Any, event: Events
) -> None:
    other = _plugin(store)
    plugin = _plugin(store, max_items=1)
    await plugin.after_write(event("a"))
    await other.after_write(event("a", {"gone": True}))

    await plugin.after_write(event("b"))

    assert await _ids(store) == ["b"]
    assert plugin.stats().dropped == {}


async def test_a_list_that_was_deleted_is_begun_anew(store: Any, event: Events) -> None:
    plugin = _plugin(store)
    await plugin.after_write(event("a"))
    await store.delete("list")

    await plugin.after_write(event("b"))

    assert await _ids(store) == ["b"]


@pytest.mark.parametrize("max_retries", [0, 3])
async def test_after_max_retries_conflicts_the_operation_is_dropped_and_reported(
    store: Any, event: Events, stored_text: Callable[..., str], max_retries: int
) -> None:
    swaps = 0

    empty = stored_text({"items": []})

    async def other_writer_wins(key: str) -> None:
        nonlocal swaps
        swaps += 1
        await store.put(key, empty)

    store.before_swap = other_writer_wins
    dropped: list[str] = []
    plugin = _plugin(
        store, max_retries=max_retries, on_drop=lambda event, op, reason: dropped.append(reason)
    )

    await plugin.after_write(event("a"))

    assert swaps == max_retries + 1
    assert dropped == ["retries_exhausted"]
    assert await _ids(store) == []


async def test_a_failing_store_drops_what_waits_and_hangs_nothing(
    store: Any, event: Events
) -> None:
    failing = True

    async def fail(key: str) -> None:
        await asyncio.sleep(0)
        if failing:
            raise StoreUnavailableError("memory", "it is told to fail")

    store.before_swap = fail
    dropped: list[str] = []
    plugin = _plugin(store, on_drop=lambda event, op, reason: dropped.append(reason))

    await plugin.after_write(event("a"))
    await asyncio.gather(*(plugin.after_write(event(f"n{i}")) for i in range(5)))
    failing = False
    await plugin.after_write(event("z"))

    assert dropped == ["store_failed"] * 6
    assert plugin.stats().dropped == {"store_failed": 6}
    assert await _ids(store) == ["z"]


async def test_a_stalled_store_is_given_up_after_the_timeout(store: Any, event: Events) -> None:
    async def stall(key: str) -> None:
        await asyncio.Event().wait()

    store.before_swap = stall
    plugin = _plugin(store, fold_timeout_ms=20)

    await plugin.after_write(event("a"))
    store.before_swap = None
    await plugin.after_write(event("b"))

    assert plugin.stats().dropped == {"store_failed": 1}
    assert await _ids(store) == ["b"]


async def test_a_write_that_landed_after_all_is_not_overwritten(store: Any, event: Events) -> None:
    plugin = _plugin(store, fold_timeout_ms=20)
    await plugin.after_write(event("a"))

    # The store applies the write and then never answers.
    text = (
        '{"v":1,"data":{"items":[{"id":"a","value":{}},{"id":"b","value":{}}]},"ts":1,"hash":"x"}'
    )

    async def land_and_stall(key: str) -> None:
        await store.put(key, text)
        await asyncio.Event().wait()

    store.before_swap = land_and_stall
    await plugin.after_write(event("b"))
    store.before_swap = None
    await plugin.after_write(event("c"))

    assert await _ids(store) == ["a", "b", "c"]


async def test_cancelling_a_push_loses_neither_its_own_operation_nor_its_neighbours(
    store: Any, event: Events
) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    async def wait(key: str) -> None:
        started.set()
        await release.wait()

    store.before_swap = wait
    plugin = _plugin(store)
    pushes = [asyncio.ensure_future(plugin.after_write(event(f"n{i}"))) for i in range(6)]
    await started.wait()

    for cancelled in pushes[::2]:
        cancelled.cancel()
    await asyncio.sleep(0)
    release.set()
    outcomes = await asyncio.gather(*pushes, return_exceptions=True)
    await plugin.shutdown()

    assert [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes] == [
        True, False, True, False, True, False,
    ]  # fmt: skip
    assert await _ids(store) == [f"n{i}" for i in range(6)]


async def test_cancelling_a_push_while_project_runs_still_folds_it(
    store: Any, event: Events
) -> None:
    release = asyncio.Event()

    async def project(write: WriteEvent) -> ProjectionOp:
        await release.wait()
        return _project(write)

    plugin = create_projection_server_plugin(
        store=store, projections=[Projection("notes", "list", project)]
    )
    push = asyncio.ensure_future(plugin.after_write(event("a")))
    await asyncio.sleep(0)
    push.cancel()
    await asyncio.sleep(0)
    release.set()
    await plugin.shutdown()

    assert await _ids(store) == ["a"]


async def test_shutdown_waits_for_what_was_accepted(store: Any, event: Events) -> None:
    async def slowly(key: str) -> None:
        await asyncio.sleep(0.01)

    store.before_swap = slowly
    plugin = _plugin(store)
    push = asyncio.ensure_future(plugin.after_write(event("a")))
    await asyncio.sleep(0)

    await plugin.shutdown()

    assert store.written == ["list"]
    await push


async def test_a_fold_that_is_cut_off_lets_go_of_whoever_waits(store: Any, event: Events) -> None:
    started = asyncio.Event()

    async def stall(key: str) -> None:
        started.set()
        await asyncio.Event().wait()

    store.before_swap = stall
    before = asyncio.all_tasks()
    plugin = _plugin(store)
    push = asyncio.ensure_future(plugin.after_write(event("a")))
    await started.wait()

    for task in asyncio.all_tasks() - before - {push}:
        if "_drain" in repr(task):
            task.cancel()
    await push

    store.before_swap = None
    await plugin.after_write(event("b"))
    assert await _ids(store) == ["b"]
