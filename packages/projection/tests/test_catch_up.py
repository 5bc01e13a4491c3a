"""What a crash between a write and its fold left out is folded by the next start."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_projection import (
    Projection,
    ProjectionRemove,
    ProjectionSet,
    SeveralProcessesError,
    create_projection_server_plugin,
)
from starfish_protocol.plugins import WriteEvent
from starfish_server import MemoryObjectStore, SqliteObjectStore, StoreContext, push
from starfish_server.testing import FaultyStore


def title_of(event: Any) -> ProjectionSet | ProjectionRemove:
    if event.body.get("gone"):
        return ProjectionRemove(event.params["note"])
    return ProjectionSet(event.params["note"], {"title": event.body["title"]})


TITLES = Projection("notes", "titles", title_of)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteObjectStore]:
    store = SqliteObjectStore(tmp_path / "documents.sqlite")
    yield store
    await store.close()


async def write(store: Any, note: str, data: dict[str, Any], base: str | None = None) -> str:
    """A push whose process ends before its hooks run."""
    context = StoreContext("notes", {"note": note}, "ada", (), "push")
    pushed = await push(store, f"notes/{note}", data, base, context=context)
    return pushed.hash


async def titles(store: Any) -> dict[str, str]:
    text = await store.get_string("titles")
    items = [] if text is None else json.loads(text)["data"]["items"]
    return {item["id"]: item["value"]["title"] for item in items}


async def start_and_stop(store: Any, **options: Any) -> Any:
    plugin = create_projection_server_plugin(store=store, projections=[TITLES], **options)
    await plugin.startup()
    await plugin.shutdown()
    return plugin.stats()


async def test_a_write_that_was_not_folded_is_folded_at_the_next_start(
    store: SqliteObjectStore,
) -> None:
    base = await write(store, "a", {"title": "old"})
    await write(store, "a", {"title": "new"}, base)
    await write(store, "b", {"title": "there"})

    await start_and_stop(store)

    assert await titles(store) == {"a": "new", "b": "there"}


async def test_what_was_folded_is_not_looked_at_again(store: SqliteObjectStore) -> None:
    await write(store, "a", {"title": "one"})
    assert (await start_and_stop(store)).operations == 1

    assert (await start_and_stop(store)).operations == 0
    await write(store, "b", {"title": "two"})
    assert (await start_and_stop(store)).operations == 1


async def test_a_projection_that_is_new_begins_at_the_beginning(store: SqliteObjectStore) -> None:
    await write(store, "a", {"title": "one"})
    await start_and_stop(store)

    others = [TITLES, Projection("notes", "more", title_of)]
    plugin = create_projection_server_plugin(store=store, projections=others)
    await plugin.startup()
    await plugin.shutdown()

    assert plugin.stats().operations == 2
    assert await store.get_string("more") is not None


async def test_two_plugins_on_one_store_do_not_take_each_others_position(
    store: SqliteObjectStore,
) -> None:
    await write(store, "a", {"title": "one"})
    for target in ("titles", "more"):
        plugin = create_projection_server_plugin(
            store=store, projections=[Projection("notes", target, title_of)]
        )
        await plugin.startup()
        await plugin.shutdown()

        assert plugin.stats().folded == 1


async def test_the_event_says_who_wrote(store: SqliteObjectStore) -> None:
    seen: list[Any] = []

    def remember(event: Any) -> None:
        seen.append((event.identity, event.sequence, event.document_key, event.params))

    await write(store, "a", {"title": "one"})
    plugin = create_projection_server_plugin(
        store=store, projections=[Projection("notes", "seen", remember)]
    )
    await plugin.startup()
    await plugin.shutdown()

    assert seen == [("ada", 1, "notes/a", {"note": "a"})]


async def test_documents_that_are_gone_or_no_documents_are_passed_over(
    store: SqliteObjectStore,
) -> None:
    await write(store, "a", {"title": "one"})
    await write(store, "b", {"title": "two"})
    await store.delete("notes/a")
    await store.put("notes/b", "no document")

    stats = await start_and_stop(store)
    assert (stats.writes, dict(stats.dropped)) == (0, {})
    assert await store.get_string("titles") is None


async def test_a_position_of_another_time_is_no_reason_to_miss_anything(
    store: SqliteObjectStore,
) -> None:
    await write(store, "a", {"title": "one"})
    await start_and_stop(store)
    (position,) = await store.list_keys("~projection/")
    for damage in ('{"sequence": 99}', "[]", "not json", '{"sequence": "1"}'):
        await store.put(position, damage)
        await store.delete("titles")

        await start_and_stop(store)

        assert await titles(store) == {"a": "one"}
        assert json.loads(await store.get_string(position) or "")["sequence"] == 1


async def test_what_a_failing_store_dropped_is_folded_later(store: SqliteObjectStore) -> None:
    await write(store, "a", {"title": "one"})

    class OneListConflicts(FaultyStore):
        is_refused = True

        async def put_if_match(self, key: str, *args: Any, **more: Any) -> str | None:
            if key == "titles" and self.is_refused:
                return None
            return await super().put_if_match(key, *args, **more)

    faulty = OneListConflicts(store)
    plugin = create_projection_server_plugin(
        store=faulty, projections=[TITLES], max_retries=0, catch_up_every_ms=20
    )
    await plugin.startup()
    await plugin.wait_for()
    assert plugin.stats().dropped == {"retries_exhausted": 1}
    faulty.is_refused = False

    async with asyncio.timeout(10):
        while await titles(store) != {"a": "one"}:  # noqa: ASYNC110  a list tells nobody
            await asyncio.sleep(0.01)
    await plugin.shutdown()


class WithoutLog(MemoryObjectStore):
    changes = None


async def test_a_store_without_a_change_log_is_served_as_before() -> None:
    store = WithoutLog()
    await write(store, "a", {"title": "one"})

    assert (await start_and_stop(store)).operations == 0


async def test_a_second_process_on_a_store_without_a_change_log_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("starfish_projection._sole_process._LEASE_S", 0.3)
    monkeypatch.setattr("starfish_projection._sole_process._BEAT_S", 0.05)
    store = WithoutLog()
    one, other = (
        create_projection_server_plugin(store=store, projections=[TITLES]) for _ in range(2)
    )
    await one.startup()
    with pytest.raises(SeveralProcessesError, match="WithoutLog has no change log"):
        await other.startup()
    await one.shutdown()

    await other.startup()  # the place was given up
    await other.shutdown()


def test_a_time_between_looks_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="catch_up_every_ms is 0; it must be at least 1"):
        create_projection_server_plugin(
            store=MemoryObjectStore(), projections=[TITLES], catch_up_every_ms=0
        )


async def test_many_writes_cost_few_rewrites(store: SqliteObjectStore) -> None:
    for number in range(300):
        await write(store, f"n{number}", {"title": str(number)})

    stats = await start_and_stop(store)

    assert stats.folded == 300
    assert stats.writes <= 8
    assert len(await titles(store)) == 300


@given(
    writes=st.lists(
        st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans()), min_size=1, max_size=12
    )
)
def test_with_and_without_crashes_the_list_is_the_same(
    writes: list[tuple[str, bool, bool]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def main() -> None:
        folder = tmp_path_factory.mktemp("stores")
        store = SqliteObjectStore(folder / "documents.sqlite")
        bases: dict[str, str] = {}
        expected: dict[str, str] = {}
        for number, (note, gone, crash) in enumerate(writes):
            plugin = create_projection_server_plugin(store=store, projections=[TITLES])
            await plugin.startup()
            data = {"gone": gone, "title": str(number)}
            bases[note] = await write(store, note, data, bases.get(note))
            expected[note] = str(number)
            if gone:
                del expected[note]
            if not crash:
                await plugin.shutdown()
        await start_and_stop(store)
        assert await titles(store) == expected
        await store.close()

    asyncio.run(main())


@pytest.mark.slow
def test_a_killed_process_leaves_nothing_out(tmp_path: Path) -> None:
    path = tmp_path / "documents.sqlite"

    async def serve(ready: int) -> None:
        store = SqliteObjectStore(path)
        plugin = create_projection_server_plugin(store=store, projections=[TITLES])
        await plugin.startup()
        os.write(ready, b".")
        number = len(await store.list_keys("notes/"))
        while True:
            note = f"n{number}"
            digest = await write(store, note, {"title": note})
            os.write(ready, b"+")
            event = WriteEvent(
                "notes", digest, 0, {"note": note}, {"title": note}, None, None, f"notes/{note}"
            )
            await plugin.after_write(event)
            number += 1

    for _ in range(10):
        readable, writable = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                asyncio.run(serve(writable))
            finally:
                os._exit(1)
        os.close(writable)
        while os.read(readable, 1) != b"+":
            pass
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(readable)

    async def check() -> None:
        store = SqliteObjectStore(path)
        await start_and_stop(store)
        notes = [key.removeprefix("notes/") for key in await store.list_keys("notes/")]
        assert await titles(store) == {note: note for note in notes}
        assert len(notes) >= 10
        await store.close()

    asyncio.run(check())
