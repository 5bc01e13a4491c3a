"""What a push does to its list, through the hook that a server calls."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from starfish_projection import (
    DropReason,
    Projection,
    ProjectionOp,
    ProjectionPlugin,
    ProjectionRemove,
    ProjectionSet,
    create_projection_server_plugin,
)
from starfish_protocol.plugins import ServerPlugin, WriteEvent
from starfish_server.storage.memory import MemoryObjectStore

Events = Callable[..., WriteEvent]


def _put(event: WriteEvent) -> ProjectionOp:
    return ProjectionSet(event.params["note"], dict(event.body or {}))


def _titles(event: WriteEvent) -> ProjectionOp:
    body = event.body or {}
    return ProjectionRemove(event.params["note"]) if body.get("gone") else _put(event)


def _plugin(store: Any, project: Any = _titles, target: Any = "titles", **options: Any) -> Any:
    return create_projection_server_plugin(
        store=store, projections=[Projection("notes", target, project)], **options
    )


class Dropped(list[tuple[str, ProjectionOp, DropReason]]):
    def __call__(self, event: WriteEvent, op: ProjectionOp, reason: DropReason) -> None:
        self.append((event.params["note"], op, reason))


def test_it_is_a_server_plugin_of_its_documented_name(store: Any) -> None:
    plugin = _plugin(store)

    assert isinstance(plugin, ServerPlugin)
    assert isinstance(plugin, ProjectionPlugin)
    assert plugin.name == "starfish-projection"


async def test_entries_are_appended_replaced_in_place_and_removed(
    store: Any, event: Events
) -> None:
    plugin = _plugin(store)

    for note, body in [("a", {"n": 1}), ("b", {"n": 2}), ("a", {"n": 3}), ("c", {}), ("b", None)]:
        await plugin.after_write(event(note, {"gone": True} if body is None else body))

    assert await store.items("titles") == [("a", {"n": 3}), ("c", {})]


async def test_an_emptied_list_stays_as_an_empty_list(store: Any, event: Events) -> None:
    plugin = _plugin(store)

    await plugin.after_write(event("a", {}))
    await plugin.after_write(event("a", {"gone": True}))

    assert await store.items("titles") == []


async def test_removing_an_absent_entry_writes_nothing(store: Any, event: Events) -> None:
    plugin = _plugin(store)

    await plugin.after_write(event("a", {"gone": True}))

    assert store.written == []
    assert await store.get_string("titles") is None


async def test_project_may_be_async_and_none_ignores_the_write(store: Any, event: Events) -> None:
    async def project(write: WriteEvent) -> ProjectionOp:
        await asyncio.sleep(0)
        return None if write.params["note"] == "b" else _put(write)

    plugin = _plugin(store, project)

    for note in "abc":
        await plugin.after_write(event(note))

    assert [entry_id for entry_id, _ in await store.items("titles")] == ["a", "c"]
    assert plugin.stats().operations == 2


async def test_target_is_resolved_first_and_none_ignores_the_write(
    store: Any, event: Events
) -> None:
    asked: list[str] = []

    def target(write: WriteEvent) -> str | None:
        asked.append("target")
        return None

    def project(write: WriteEvent) -> ProjectionOp:
        asked.append("project")
        return _put(write)

    await _plugin(store, project, target).after_write(event("a"))

    assert asked == ["target"]
    assert await store.list_keys("") == []


async def test_a_target_function_shards_one_view_into_many_lists(store: Any, event: Events) -> None:
    plugin = _plugin(store, target=lambda write: f"by-kind/{write.body['kind']}")

    for note, kind in [("a", "todo"), ("b", "idea"), ("c", "todo")]:
        await plugin.after_write(event(note, {"kind": kind}))

    assert await store.list_keys("by-kind/") == ["by-kind/idea", "by-kind/todo"]
    assert [entry_id for entry_id, _ in await store.items("by-kind/todo")] == ["a", "c"]


async def test_one_write_may_feed_several_lists_and_one_list_several_collections(
    store: Any, event: Events
) -> None:
    plugin = create_projection_server_plugin(
        store=store,
        projections=[
            Projection(["notes", "tasks"], "all", _put),
            Projection("tasks", "tasks", _put),
        ],
    )

    await plugin.after_write(event("a"))
    await plugin.after_write(event("b", collection="tasks"))
    await plugin.after_write(event("c", collection="other"))

    assert [entry_id for entry_id, _ in await store.items("all")] == ["a", "b"]
    assert [entry_id for entry_id, _ in await store.items("tasks")] == ["b"]


def _raise(write: WriteEvent) -> Any:
    raise RuntimeError("broken")


async def _raise_later(write: WriteEvent) -> Any:
    await asyncio.sleep(0)
    raise RuntimeError("broken")


_BAD: dict[str, tuple[Any, Any, DropReason]] = {
    "target raises": (_raise, _put, "target_raised"),
    "target is a number": (lambda e: 7, _put, "target_invalid"),
    "target is empty": (lambda e: "", _put, "target_invalid"),
    "target climbs": (lambda e: "lists/../secrets", _put, "target_invalid"),
    "target has a NUL": (lambda e: "lists/\0", _put, "target_invalid"),
    "target is too long": (lambda e: "é" * 513, _put, "target_invalid"),
    "project raises": ("list", _raise, "project_raised"),
    "project raises later": ("list", _raise_later, "project_raised"),
    "project returns a dictionary": ("list", lambda e: {"id": "a"}, "operation_invalid"),
    "id is a number": ("list", lambda e: ProjectionSet(1, {}), "operation_invalid"),
    "value is a text": ("list", lambda e: ProjectionSet("a", "b"), "operation_invalid"),
    "value has a set": ("list", lambda e: ProjectionSet("a", {"x": {1}}), "operation_invalid"),
    "value has a lone surrogate": (
        "list",
        lambda e: ProjectionSet("a", {"x": "\\\ud800"}),
        "operation_invalid",
    ),
    "value has a number as key": (
        "list",
        lambda e: ProjectionSet("a", {1: 1}),
        "operation_invalid",
    ),
}


@pytest.mark.parametrize("case", _BAD.values(), ids=_BAD.keys())
async def test_what_the_application_gets_wrong_is_reported_and_never_fails_the_push(
    store: Any,
    event: Events,
    caplog: pytest.LogCaptureFixture,
    case: tuple[Any, Any, DropReason],
) -> None:
    target, project, reason = case
    dropped = Dropped()
    plugin = _plugin(store, project, target, on_drop=dropped)

    with caplog.at_level(logging.WARNING):
        await plugin.after_write(event("a", {"secret": "s3cret"}))

    assert [(note, why) for note, _, why in dropped] == [("a", reason)]
    assert plugin.stats().dropped == {reason: 1}
    assert reason in caplog.text
    assert "s3cret" not in caplog.text
    assert await store.list_keys("") == []


async def test_one_projection_that_raises_does_not_keep_the_next_from_its_list(
    store: Any, event: Events
) -> None:
    plugin = create_projection_server_plugin(
        store=store, projections=[Projection("notes", "x", _raise), Projection("notes", "y", _put)]
    )

    await plugin.after_write(event("a"))

    assert [entry_id for entry_id, _ in await store.items("y")] == ["a"]


async def test_on_drop_may_be_async_may_raise_and_may_push_again_to_the_same_list(
    store: Any, event: Events
) -> None:
    plugin: Any = None

    async def on_drop(write: WriteEvent, op: ProjectionOp, reason: DropReason) -> None:
        await plugin.after_write(event("a", {"again": True}))
        raise RuntimeError("on_drop is broken too")

    plugin = _plugin(store, max_items=1, on_drop=on_drop)

    await plugin.after_write(event("a"))
    await plugin.after_write(event("b"))

    assert await store.items("titles") == [("a", {"again": True})]
    assert plugin.stats().dropped == {"list_full": 1}


async def test_a_full_list_drops_appends_and_still_takes_updates_and_removals(
    store: Any, event: Events
) -> None:
    dropped = Dropped()
    plugin = _plugin(store, max_items=2, on_drop=dropped)

    for note in "abc":
        await plugin.after_write(event(note))
    await plugin.after_write(event("b", {"n": 2}))
    await plugin.after_write(event("a", {"gone": True}))
    await plugin.after_write(event("d"))

    assert await store.items("titles") == [("b", {"n": 2}), ("d", {})]
    assert dropped == [("c", ProjectionSet("c", {}), "list_full")]


@pytest.mark.parametrize(
    "theirs",
    ['{"v":1,"data":{"title":"mine"},"ts":1,"hash":"x"}', "not JSON", '{"items":[]}', "[]"],
)
async def test_a_target_that_holds_something_else_is_left_untouched(
    store: Any, event: Events, caplog: pytest.LogCaptureFixture, theirs: str
) -> None:
    dropped = Dropped()
    plugin = _plugin(store, on_drop=dropped)
    await store.put("titles", theirs)

    await plugin.after_write(event("a"))

    assert await store.get_string("titles") == theirs
    assert [why for _, _, why in dropped] == ["target_not_a_list"]
    assert plugin.stats().dropped == {"target_not_a_list": 1}
    assert "'titles'" in caplog.text


async def test_somebody_else_s_document_that_takes_the_list_s_place_is_left_untouched(
    store: Any, event: Events
) -> None:
    plugin = _plugin(store)
    await plugin.after_write(event("a"))
    await store.put("titles", '{"theirs":true}')

    await plugin.after_write(event("b"))

    assert await store.get_string("titles") == '{"theirs":true}'
    assert plugin.stats().dropped == {"target_not_a_list": 1}


async def test_a_text_that_only_looks_like_an_escaped_surrogate_is_kept(
    store: Any, event: Events
) -> None:
    value = {"x": "\\ud800", "y": "\U0001d11e"}

    await _plugin(store, lambda write: ProjectionSet("a", value)).after_write(event("a"))

    assert await store.items("titles") == [("a", value)]


async def test_what_an_application_does_to_a_value_later_does_not_reach_the_list(
    store: Any, event: Events
) -> None:
    value = {"n": [1]}
    plugin = _plugin(store, lambda write: ProjectionSet("a", value))

    push = asyncio.ensure_future(plugin.after_write(event("a")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    value["n"].append(2)
    await push

    assert await store.items("titles") == [("a", {"n": [1]})]


async def test_a_store_without_compare_and_swap_works_in_one_process_and_says_so(
    event: Events, caplog: pytest.LogCaptureFixture
) -> None:
    class Plain(MemoryObjectStore):
        async def get_with_etag(self, key: str, **_: Any) -> Any:
            raise NotImplementedError

        async def put_if_match(self, key: str, body: str, etag: str | None, **_: Any) -> Any:
            raise NotImplementedError

    store = Plain()
    plugin = _plugin(store)

    await asyncio.gather(*(plugin.after_write(event(f"n{i}")) for i in range(20)))
    text = await store.get_string("titles")
    assert text is not None
    await store.put("titles", text.replace('"n3"', '"changed"'))
    await plugin.after_write(event("last"))

    text = await store.get_string("titles")
    assert text is not None
    assert [f'"id":"{i}"' in text for i in ("n0", "n19", "changed", "n3", "last")] == [
        True, True, True, False, True,
    ]  # fmt: skip
    assert caplog.text.count("no compare-and-swap") == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_retries": -1}, "max_retries is -1"),
        ({"max_items": 0}, "max_items is 0"),
        ({"fold_timeout_ms": 0}, "timeout_ms is 0"),
        ({"max_remembered_bytes": -1}, "max_remembered_bytes is -1"),
    ],
)
def test_a_number_out_of_range_is_refused_when_the_plugin_is_made(
    store: Any, options: dict[str, int], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        _plugin(store, **options)


def test_something_else_than_a_projection_is_refused_when_the_plugin_is_made(store: Any) -> None:
    with pytest.raises(TypeError, match="each of them must be a Projection"):
        create_projection_server_plugin(store=store, projections=["notes"])
