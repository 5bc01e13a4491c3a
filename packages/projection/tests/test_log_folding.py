"""The change log is the queue: one bad thing stops nothing else, and no process starves another."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from starfish_projection import Projection, ProjectionSet, create_projection_server_plugin
from starfish_protocol.hash import compute_hash
from starfish_protocol.plugins import WriteEvent
from starfish_server import SqliteObjectStore, StoreContext, push
from starfish_server.storage import ChangeRecord, Value

RAISED = [
    ValueError("a mistake"),
    asyncio.CancelledError("a call inside was cancelled"),
    GeneratorExit(),
    SystemExit(3),
    KeyboardInterrupt(),
    BaseException("anything"),
]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteObjectStore]:
    store = SqliteObjectStore(tmp_path / "documents.sqlite")
    yield store
    await store.close()


class Pushes:
    """Pushes as a server does them: the document, then the hooks."""

    def __init__(self, store: Any, plugin: Any) -> None:
        self.store, self.plugin = store, plugin
        self.hashes: dict[str, str] = {}

    async def __call__(self, note: str, data: dict[str, Any] | None = None) -> None:
        data = data or {}
        context = StoreContext("notes", {"note": note}, "ada", (), "push")
        done = await push(self.store, f"notes/{note}", data, self.hashes.get(note), context=context)
        self.hashes[note] = done.hash
        assert compute_hash(data) == done.hash
        event = WriteEvent(
            "notes", done.hash, done.timestamp, {"note": note}, data, document_key=f"notes/{note}"
        )
        await self.plugin.after_write(event)


def make(store: Any, project: Callable[[WriteEvent], Any], **options: Any) -> tuple[Any, Any]:
    drops: list[tuple[str, str]] = []
    target = options.pop("target", "titles")
    plugin = create_projection_server_plugin(
        store=store,
        projections=[Projection("notes", target, project)],
        on_drop=lambda event, _op, reason: drops.append((event.params["note"], reason)),
        **options,
    )
    return plugin, drops


async def ids(store: Any, key: str = "titles") -> list[str]:
    text = await store.get_string(key)
    return [] if text is None else [item["id"] for item in json.loads(text)["data"]["items"]]


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("where", ["project", "target", "on_drop"])
async def test_anything_that_is_raised_is_contained_at_the_push_and_at_the_next_start(  # noqa: C901
    store: SqliteObjectStore,
    error: BaseException,
    is_async: bool,  # noqa: FBT001
    where: str,
) -> None:
    reasons: list[str] = []

    def raise_for(note: str) -> None:
        if note == "bad":
            raise error

    def title(event: WriteEvent) -> Any:
        if where == "project" and not is_async:
            raise_for(event.params["note"])
        if where == "on_drop" and event.params["note"] == "bad":
            return "nonsense"
        return later(event) if is_async else ProjectionSet(event.params["note"], {})

    async def later(event: WriteEvent) -> ProjectionSet:
        await asyncio.sleep(0)
        if where == "project":
            raise_for(event.params["note"])
        return ProjectionSet(event.params["note"], {})

    def target(event: WriteEvent) -> str:
        if where == "target":
            raise_for(event.params["note"])
        return "titles"

    def on_drop(event: WriteEvent, _op: object, reason: str) -> None:
        reasons.append(reason)
        if where == "on_drop":
            raise error

    for run in ("first", "second"):
        plugin = create_projection_server_plugin(
            store=store, projections=[Projection("notes", target, title)], on_drop=on_drop
        )
        await plugin.startup()
        pushing = Pushes(store, plugin)
        if run == "first":
            for note in ("a", "bad", "b"):
                await pushing(note)
        else:
            await pushing("c")
        parked = await plugin.parked()
        await plugin.shutdown()

        assert [each.key for each in parked] == ["notes/bad"]
    assert await ids(store) == ["a", "b", "c"]
    assert len(reasons) == 1


async def test_a_real_cancellation_of_the_caller_goes_through(store: SqliteObjectStore) -> None:
    entered = asyncio.Event()

    async def never(_event: WriteEvent) -> ProjectionSet:
        entered.set()
        return await asyncio.Event().wait()  # type: ignore[return-value]

    plugin, _ = make(store, never, project_timeout_ms=200)
    await plugin.startup()
    waiting = asyncio.create_task(Pushes(store, plugin)("a"))
    await entered.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await plugin.shutdown()


async def test_a_project_that_never_returns_holds_up_its_own_push_only(
    store: SqliteObjectStore,
) -> None:
    over = asyncio.Event()  # or the event loop of this test would not end

    async def stubborn(event: WriteEvent) -> ProjectionSet:
        while event.params["note"] == "bad" and not over.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.05)
        return ProjectionSet(event.params["note"], {})

    try:
        plugin, drops = make(store, stubborn, project_timeout_ms=1500)
        await plugin.startup()
        pushing = Pushes(store, plugin)
        bad = asyncio.create_task(pushing("bad"))
        await asyncio.sleep(0.05)
        for number in range(4):
            await pushing(f"good{number}")
        assert not bad.done()
        await bad
        assert drops == [("bad", "project_timed_out")]
        assert await ids(store) == ["good0", "good1", "good2", "good3"]
        await plugin.shutdown()

        begun = time.monotonic()
        again, _ = make(store, stubborn, project_timeout_ms=1500)
        await again.startup()
        await again.shutdown()
        assert time.monotonic() - begun < 5
    finally:
        over.set()
        await asyncio.sleep(0.2)


class BadList(SqliteObjectStore):
    """One list cannot be written until it is mended."""

    is_mended = False
    hangs = False

    async def put_if_match(
        self, key: str, body: str, expected_etag: str | None, **more: Any
    ) -> str | None:
        if key == "shards/bad" and not self.is_mended:
            if self.hangs:
                await asyncio.sleep(30)
            raise RuntimeError("this value is too large")
        return await super().put_if_match(key, body, expected_etag, **more)


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_list_that_cannot_be_written_stops_no_other_and_is_tried_again_by_itself(
    tmp_path: Path,
    hangs: bool,  # noqa: FBT001
) -> None:
    store = BadList(tmp_path / "documents.sqlite")
    store.hangs = hangs
    calls: Counter[str] = Counter()

    def title(event: WriteEvent) -> ProjectionSet:
        calls[event.params["note"]] += 1
        return ProjectionSet(event.params["note"], {})

    plugin, drops = make(
        store,
        title,
        target=lambda event: "shards/" + event.body["s"],
        catch_up_every_ms=100,
        fold_timeout_ms=300,
    )
    await plugin.startup()
    pushing = Pushes(store, plugin)
    await pushing("lost", {"s": "bad"})
    for number in range(50):
        await pushing(f"n{number}", {"s": "good"})
    await asyncio.sleep(0.5)

    assert len(await ids(store, "shards/good")) == 50
    assert drops == [("lost", "store_failed")]
    assert [each.key for each in await plugin.parked()] == ["notes/lost"]
    assert plugin.stats().parked == 1

    store.is_mended = True
    async with asyncio.timeout(10):
        while await ids(store, "shards/bad") != ["lost"] or await plugin.parked():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert drops == [("lost", "store_failed")]
    await plugin.shutdown()
    await store.close()


async def test_what_was_parked_is_folded_after_the_mistake_was_mended(
    store: SqliteObjectStore,
) -> None:
    mended = False

    def title(event: WriteEvent) -> ProjectionSet:
        if not mended and event.params["note"] == "bad":
            raise LookupError("a mistake")
        return ProjectionSet(event.params["note"], {})

    plugin, _ = make(store, title)
    await plugin.startup()
    await Pushes(store, plugin)("bad")
    (parked,) = await plugin.parked()
    assert (parked.collection, parked.key) == ("notes", "notes/bad")
    assert [(each.reason, each.target) for each in parked.failures] == [
        ("project_raised", "titles")
    ]
    assert await plugin.retry_parked() == 0

    mended = True
    assert await plugin.retry_parked() == 1
    assert await plugin.parked() == []
    assert await ids(store) == ["bad"]
    await plugin.shutdown()


async def test_a_write_is_projected_once(store: SqliteObjectStore) -> None:
    calls: list[str] = []

    def title(event: WriteEvent) -> ProjectionSet:
        calls.append(event.params["note"])
        return ProjectionSet(event.params["note"], {})

    plugins = [make(store, title)[0] for _ in range(2)]
    for plugin in plugins:
        await plugin.startup()
    for number in range(30):
        await Pushes(store, plugins[number % 2])(f"n{number}")
    await asyncio.sleep(0.2)
    for plugin in plugins:
        await plugin.shutdown()

    assert sorted(calls) == sorted(f"n{number}" for number in range(30))
    assert len(await ids(store)) == 30


async def test_two_plugins_share_the_work_and_each_push_returns_with_its_entry(
    store: SqliteObjectStore,
) -> None:
    plugins = [
        make(store, lambda event: ProjectionSet(event.params["note"], {}))[0] for _ in range(2)
    ]
    for plugin in plugins:
        await plugin.startup()
    done: Counter[int] = Counter()
    end = time.monotonic() + 3

    async def client(number: int) -> None:
        pushing = Pushes(store, plugins[number % 2])
        while time.monotonic() < end:
            note = f"c{number}-{done[number]}"
            await pushing(note)
            assert note in await ids(store)
            done[number] += 1

    await asyncio.gather(*(client(number) for number in range(8)))
    assert sum(plugin.stats().is_folding for plugin in plugins) == 1
    for plugin in plugins:
        assert plugin.stats().dropped == {}
        await plugin.shutdown()
    halves = [sum(done[number] for number in range(start, 8, 2)) for start in (0, 1)]
    assert min(halves) > max(halves) / 4


async def test_a_document_that_is_deleted_or_has_expired_takes_its_entry_along(
    store: SqliteObjectStore,
) -> None:
    plugin, _ = make(store, lambda event: ProjectionSet(event.params["note"], dict(event.body)))
    await plugin.startup()
    pushing = Pushes(store, plugin)
    for note in ("kept", "deleted", "expired"):
        await pushing(note, {"n": note})
    gone = ChangeRecord("notes", {"note": "deleted"}, "", 5)
    await store.remove("notes/deleted", change=gone)
    found = await store.get("notes/expired")
    assert found is not None
    await store.write("notes/expired", Value(found.body, expires_at=1))
    await store.expire(10)
    await plugin.wait_for()

    assert await ids(store) == ["kept"]
    await plugin.shutdown()


async def test_a_start_does_not_wait_for_the_whole_log(store: SqliteObjectStore) -> None:
    async def slow(event: WriteEvent) -> ProjectionSet:
        await asyncio.sleep(0.01)
        return ProjectionSet(event.params["note"], {})

    for number in range(600):
        context = StoreContext("notes", {"note": f"n{number}"}, "ada", (), "push")
        await push(store, f"notes/n{number}", {}, None, context=context)
    plugin, _ = make(store, slow)
    begun = time.monotonic()
    await plugin.startup()
    assert time.monotonic() - begun < 0.5
    await plugin.wait_for(timeout=30)

    stats = plugin.stats()
    assert len(await ids(store)) == 600
    assert (stats.lag_changes, stats.lag_ms, stats.sequence) == (0, 0, 600)
    assert stats.lists["titles"].folded == 600
    assert stats.lists["titles"].coalesced > 500
    await plugin.shutdown()


async def test_a_process_that_is_gone_is_followed_by_another(
    store: SqliteObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("starfish_projection._log_folder._LEASE_S", 0.3)
    first, _ = make(store, lambda event: ProjectionSet(event.params["note"], {}))
    await first.startup()
    await Pushes(store, first)("a")
    first._folder._task.cancel()  # as if killed: it gives nothing up
    await asyncio.sleep(0.05)
    context = StoreContext("notes", {"note": "b"}, "ada", (), "push")
    await push(store, "notes/b", {}, None, context=context)

    second, _ = make(store, lambda event: ProjectionSet(event.params["note"], {}))
    await second.startup()
    async with asyncio.timeout(10):
        await Pushes(store, second)("c")
    assert await ids(store) == ["a", "b", "c"]
    await second.shutdown()
