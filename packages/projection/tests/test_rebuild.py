"""Recreating lists from their source documents."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from starfish_projection import (
    Projection,
    ProjectionOp,
    ProjectionRemove,
    ProjectionSet,
    RebuildProgress,
    create_projection_server_plugin,
    rebuild_projection,
)
from starfish_projection.errors import UnknownSourceError
from starfish_protocol.plugins import WriteEvent
from starfish_protocol.testing import ManualClock
from starfish_server.config.schema import SyncConfig

Events = Callable[..., WriteEvent]
Texts = Callable[..., str]

_NOTES = {"name": "notes", "storagePath": "notes/{note}"}


def _config(*collections: dict[str, Any], **namespaces: list[dict[str, Any]]) -> SyncConfig:
    return SyncConfig.model_validate(
        {
            "collections": collections or [_NOTES],
            "namespaces": {name: {"collections": held} for name, held in namespaces.items()},
        }
    )


def _project(event: WriteEvent) -> ProjectionOp:
    body = event.body or {}
    if body.get("gone"):
        return ProjectionRemove(event.params["note"])
    return ProjectionSet(event.params["note"], {"n": body["n"]})


_LIST = Projection("notes", "list", _project)


async def _store_notes(store: Any, text: Texts, **notes: int) -> None:
    for ts, (note, number) in enumerate(notes.items(), 100):
        await store.put(f"notes/{note}", text({"n": number}, ts))


async def test_a_missing_list_is_made_of_its_documents_by_time_and_then_key(
    store: Any, stored_text: Texts
) -> None:
    await store.put("notes/b", stored_text({"n": 1}, ts=3))
    await store.put("notes/c", stored_text({"n": 2}, ts=1))
    await store.put("notes/a", stored_text({"n": 3}, ts=3))
    await store.put("elsewhere/a", stored_text({"n": 4}))

    report = await rebuild_projection(store=store, config=_config(), projections=_LIST)

    assert await store.items("list") == [("c", {"n": 2}), ("a", {"n": 3}), ("b", {"n": 1})]
    assert (report.documents, report.lists, report.rewritten) == (3, 1, 1)
    assert (report.entries_set, report.entries_removed) == (3, 0)
    assert report.complete


async def test_thousands_of_missing_entries_are_put_back_in_order(
    store: Any, stored_text: Texts
) -> None:
    notes = {f"n{number}": number for number in range(2500)}
    await _store_notes(store, stored_text, **notes)

    report = await rebuild_projection(store=store, config=_config(), projections=_LIST)

    assert await store.items("list") == [(note, {"n": number}) for note, number in notes.items()]
    assert report.entries_set == 2500


async def test_wrong_entries_are_replaced_in_place_and_orphans_removed(
    store: Any, stored_text: Texts
) -> None:
    held = [("z", 9), ("b", 0), ("a", 1)]
    await store.put(
        "list",
        stored_text({"items": [{"id": note, "value": {"n": number}} for note, number in held]}),
    )
    await _store_notes(store, stored_text, a=1, b=2, c=3)

    report = await rebuild_projection(store=store, config=_config(), projections=_LIST)

    assert await store.items("list") == [("b", {"n": 2}), ("a", {"n": 1}), ("c", {"n": 3})]
    assert (report.entries_set, report.entries_removed) == (2, 1)


async def test_a_list_that_is_right_is_not_written(store: Any, stored_text: Texts) -> None:
    await _store_notes(store, stored_text, a=1, b=2)
    await rebuild_projection(store=store, config=_config(), projections=_LIST)
    before = await store.get_string("list")

    report = await rebuild_projection(store=store, config=_config(), projections=_LIST)

    assert await store.get_string("list") == before
    assert report.rewritten == 0


async def test_a_rebuild_of_what_the_plugin_wrote_changes_no_byte(
    store: Any, event: Events, stored_text: Texts
) -> None:
    plugin: Any = create_projection_server_plugin(store=store, projections=[_LIST])
    for ts, (note, number) in enumerate([("b", 1), ("a", 2), ("b", 3), ("c", 4)]):
        await store.put(f"notes/{note}", stored_text({"n": number}, ts))
        await plugin.after_write(event(note, {"n": number}))
    before = await store.get_string("list")

    await rebuild_projection(store=store, config=_config(), projections=[_LIST])

    assert await store.get_string("list") == before


async def test_shards_that_no_document_leads_to_any_more_are_emptied(
    store: Any, stored_text: Texts
) -> None:
    entry = {"items": [{"id": "a", "value": {"n": 1}}]}
    await store.put("shards/1", stored_text(entry))
    await store.put("shards/2", stored_text({"items": []}))
    await store.put("notes/a", stored_text({"n": 2}))
    by_number = Projection("notes", lambda event: f"shards/{(event.body or {})['n']}", _project)

    report = await rebuild_projection(
        store=store, config=_config(), projections=by_number, target_prefixes=["shards/"]
    )

    assert await store.items("shards/1") == []
    assert await store.items("shards/2") == [("a", {"n": 2})]
    assert report.entries_removed == 1


async def test_documents_of_namespaces_are_found_where_they_are_stored(
    store: Any, stored_text: Texts
) -> None:
    await store.put("notes/a", stored_text({"n": 1}))
    await store.put("acme/notes/a", stored_text({"n": 2}))
    by_namespace = Projection("notes", lambda event: f"{event.namespace}/list", _project)

    await rebuild_projection(
        store=store, config=_config(_NOTES, acme=[_NOTES]), projections=by_namespace
    )

    assert await store.items("None/list") == [("a", {"n": 1})]
    assert await store.items("acme/list") == [("a", {"n": 2})]


async def test_expired_documents_count_as_gone(store: Any, stored_text: Texts) -> None:
    clock = ManualClock(10_000)
    now = clock.now_ms()
    await store.put("notes/old", stored_text({"n": 1}, ts=now - 1000))
    await store.put("notes/new", stored_text({"n": 2}, ts=now - 999))
    config = _config({**_NOTES, "ttlMs": 1000})

    await rebuild_projection(store=store, config=config, projections=_LIST, clock=clock)

    assert await store.items("list") == [("new", {"n": 2})]


async def test_nothing_is_removed_while_a_document_cannot_be_read(
    store: Any, stored_text: Texts
) -> None:
    await store.put("list", stored_text({"items": [{"id": "x", "value": {"n": 1}}]}))
    await store.put("notes/x", "damaged")
    await store.put("notes/y", stored_text({"n": 2}))

    report = await rebuild_projection(store=store, config=_config(), projections=_LIST)

    assert await store.items("list") == [("x", {"n": 1}), ("y", {"n": 2})]
    assert report.unreadable == 1
    assert report.incomplete == ("list",)
    assert not report.complete


async def test_an_entry_whose_document_cannot_be_projected_is_not_taken_for_an_orphan(
    store: Any, stored_text: Texts
) -> None:
    await store.put("list", stored_text({"items": [{"id": "x", "value": {"n": 1}}]}))
    await store.put("notes/x", stored_text({"no n": 1}))

    report = await rebuild_projection(store=store, config=_config(), projections=_LIST)

    assert await store.items("list") == [("x", {"n": 1})]
    assert report.dropped == {"project_raised": 1}
    assert report.incomplete == ("list",)


async def test_a_target_that_is_no_list_is_left_untouched_and_reported(
    store: Any, stored_text: Texts
) -> None:
    theirs = stored_text({"title": "mine"})
    await store.put("list", theirs)
    await _store_notes(store, stored_text, a=1)

    report = await rebuild_projection(store=store, config=_config(), projections=_LIST)

    assert await store.get_string("list") == theirs
    assert report.dropped == {"target_not_a_list": 1}
    assert report.incomplete == ("list",)


async def test_max_items_holds_in_a_rebuild_too(store: Any, stored_text: Texts) -> None:
    await _store_notes(store, stored_text, a=1, b=2, c=3)

    report = await rebuild_projection(store=store, config=_config(), projections=_LIST, max_items=2)

    assert [entry_id for entry_id, _ in await store.items("list")] == ["a", "b"]
    assert report.dropped == {"list_full": 1}


@pytest.mark.parametrize(
    "collection",
    [
        {"name": "other", "storagePath": "other/{note}"},
        {**_NOTES, "allowedMimeTypes": ["image/*"]},
        {**_NOTES, "appendOnly": {"type": "by_timestamp"}},
    ],
    ids=["missing", "binary", "append-only"],
)
async def test_a_source_whose_documents_cannot_be_read_back_is_refused(
    store: Any, collection: dict[str, Any]
) -> None:
    with pytest.raises(UnknownSourceError, match="'notes'"):
        await rebuild_projection(store=store, config=_config(collection), projections=_LIST)


async def test_progress_counts_documents_and_then_lists(store: Any, stored_text: Texts) -> None:
    await _store_notes(store, stored_text, **{f"n{number}": number for number in range(40)})
    told: list[RebuildProgress] = []

    await rebuild_projection(
        store=store, config=_config(), projections=_LIST, on_progress=told.append
    )

    assert told == [
        *(RebuildProgress("documents", done, 40) for done in range(1, 41)),
        RebuildProgress("lists", 1, 1),
    ]


async def test_pushes_during_a_rebuild_are_not_lost(
    store: Any, event: Events, stored_text: Texts
) -> None:
    await _store_notes(store, stored_text, **{f"n{number}": number for number in range(50)})
    stale = {"items": [{"id": f"gone{number}", "value": {}} for number in range(20)]}
    await store.put("list", stored_text(stale))
    plugin: Any = create_projection_server_plugin(store=store, projections=[_LIST])
    expected = {f"n{number}": {"n": number} for number in range(50)}

    async def push(note: str, number: int) -> None:
        await store.put(f"notes/{note}", stored_text({"n": number}, ts=1000 + number))
        await plugin.after_write(event(note, {"n": number}))
        expected[note] = {"n": number}

    async def push_all() -> None:
        for number in range(60):
            await push(f"n{number}", 1000 + number)
            await push(f"gone{number % 5}", number)
            await asyncio.sleep(0)

    report, _ = await asyncio.gather(
        rebuild_projection(store=store, config=_config(), projections=_LIST, max_retries=1000),
        push_all(),
    )

    assert dict(await store.items("list")) == expected
    assert report.dropped == {}


async def test_an_entry_that_is_pushed_while_documents_are_read_never_leaves_its_list(
    store: Any, event: Events, stored_text: Texts
) -> None:
    await store.put("list", stored_text({"items": []}))
    await _store_notes(store, stored_text, missing=1)
    plugin: Any = create_projection_server_plugin(store=store, projections=[_LIST])
    list_keys = store.list_keys

    async def push_after_listing(prefix: str) -> list[str]:
        keys: list[str] = await list_keys(prefix)
        store.list_keys = list_keys
        await store.put("notes/late", stored_text({"n": 2}))
        await plugin.after_write(event("late", {"n": 2}))
        return keys

    store.list_keys = push_after_listing
    report = await rebuild_projection(store=store, config=_config(), projections=_LIST)

    assert await store.items("list") == [("late", {"n": 2}), ("missing", {"n": 1})]
    assert report.entries_removed == 0


async def test_a_source_that_comes_back_while_its_entry_is_removed_is_put_back(
    store: Any, event: Events, stored_text: Texts
) -> None:
    await store.put("list", stored_text({"items": [{"id": "a", "value": {"n": 1}}]}))
    await _store_notes(store, stored_text, b=2)
    plugin: Any = create_projection_server_plugin(store=store, projections=[_LIST])

    async def bring_back(key: str) -> None:
        store.before_swap = None
        await store.put("notes/a", stored_text({"n": 1}))
        await plugin.after_write(event("a", {"n": 1}))

    store.before_swap = bring_back
    await rebuild_projection(store=store, config=_config(), projections=_LIST)

    assert dict(await store.items("list")) == {"a": {"n": 1}, "b": {"n": 2}}


async def test_a_list_that_the_store_does_not_take_is_reported(
    store: Any, stored_text: Texts
) -> None:
    await _store_notes(store, stored_text, a=1)

    async def fail(key: str) -> None:
        raise OSError("disk full")

    store.before_swap = fail
    report = await rebuild_projection(store=store, config=_config(), projections=_LIST)

    assert report.dropped == {"store_failed": 1}
    assert report.incomplete == ("list",)
    assert json.loads(await store.get_string("notes/a"))["data"] == {"n": 1}


async def test_a_report_counts_what_was_done_and_not_what_was_meant(
    store: Any, stored_text: Texts
) -> None:
    await _store_notes(store, stored_text, a=1, b=2)

    async def refuse(_key: str) -> None:
        raise OSError("the disk is full")

    store.before_swap = refuse
    failed = await rebuild_projection(store=store, config=_config(), projections=_LIST)
    store.before_swap = None
    done = await rebuild_projection(store=store, config=_config(), projections=_LIST)

    assert (failed.entries_set, failed.entries_removed, failed.rewritten) == (0, 0, 0)
    assert dict(failed.dropped) == {"store_failed": 2}
    assert (done.entries_set, done.rewritten) == (2, 1)
