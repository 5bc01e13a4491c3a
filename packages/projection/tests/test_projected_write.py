"""Two pushes to one document, whose hooks run in either order."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
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

Events = Callable[..., WriteEvent]
Texts = Callable[..., str]


def _project(event: WriteEvent) -> ProjectionOp:
    body = event.body or {}
    if body.get("gone"):
        return ProjectionRemove(event.params["note"])
    return ProjectionSet(event.params["note"], dict(body))


def _plugin(store: Any, project: Any = _project, target: Any = "list") -> Any:
    return create_projection_server_plugin(
        store=store, projections=[Projection("notes", target, project)]
    )


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
@pytest.mark.parametrize("last", [{"n": 3}, {"gone": True}], ids=["set", "remove"])
async def test_hooks_in_any_order_leave_the_newest_value(
    store: Any, event: Events, stored_text: Texts, order: tuple[int, ...], last: dict[str, Any]
) -> None:
    bodies = [{"n": 1}, {"n": 2}, last]
    plugin = _plugin(store)
    await store.put("notes/a", stored_text(last, ts=9))

    await plugin.after_write(event("b"))
    for index in order:
        await plugin.after_write(event("a", bodies[index]))

    assert dict(await store.items("list")).get("a") == (last if "n" in last else None)


async def test_a_newer_write_of_another_process_wins_over_an_older_hook(
    store: Any, event: Events, stored_text: Texts
) -> None:
    here, there = _plugin(store), _plugin(store)
    await store.put("notes/a", stored_text({"n": 1}))

    async def newer_push_elsewhere(key: str) -> None:
        store.before_swap = None
        await store.put("notes/a", stored_text({"n": 2}))
        await there.after_write(event("a", {"n": 2}))

    store.before_swap = newer_push_elsewhere
    await here.after_write(event("a", {"n": 1}))

    assert await store.items("list") == [("a", {"n": 2})]
    assert here.stats().superseded == 1


async def test_a_write_in_a_namespace_is_compared_with_the_document_of_its_namespace(
    store: Any, event: Events, stored_text: Texts
) -> None:
    await store.put("notes/a", stored_text({"n": 3}))
    await store.put("acme/notes/a", stored_text({"n": 2}))
    plugin = _plugin(store)

    await plugin.after_write(event("a", {"n": 1}, namespace="acme"))

    assert await store.items("list") == [("a", {"n": 2})]


async def test_a_signed_document_is_compared_like_any_other(
    store: Any, event: Events, stored_text: Texts
) -> None:
    signed = stored_text({"n": 2})[:-1] + ',"authorPubkey":"aa","authorSignature":"bb"}'
    await store.put("notes/a", signed)
    plugin = _plugin(store)

    await plugin.after_write(event("a", {"n": 2}))
    await plugin.after_write(event("a", {"n": 1}))

    assert await store.items("list") == [("a", {"n": 2})]


async def test_a_history_keeps_an_entry_for_each_write(
    store: Any, event: Events, stored_text: Texts
) -> None:
    plugin = _plugin(store, lambda write: ProjectionSet(write.hash[:8], dict(write.body)))
    await store.put("notes/a", stored_text({"n": 2}))

    await plugin.after_write(event("a", {"n": 2}))
    await plugin.after_write(event("a", {"n": 1}))

    assert sorted(value["n"] for _, value in await store.items("list")) == [1, 2]


async def test_a_write_whose_successor_belongs_to_another_list_stays_in_its_own(
    store: Any, event: Events, stored_text: Texts
) -> None:
    plugin = _plugin(store, target=lambda write: f"lists/{write.body['n']}")
    await store.put("notes/a", stored_text({"n": 2}))

    await plugin.after_write(event("a", {"n": 1}))

    assert await store.items("lists/1") == [("a", {"n": 1})]


async def test_a_write_whose_successor_cannot_be_projected_is_folded_as_it_was(
    store: Any, event: Events, stored_text: Texts
) -> None:
    def project(write: WriteEvent) -> ProjectionOp:
        assert write.body is not None
        return ProjectionSet("a", {"n": write.body["n"]})

    plugin = _plugin(store, project)
    await store.put("notes/a", stored_text({"other": 2}))

    await plugin.after_write(event("a", {"n": 1}))

    assert await store.items("list") == [("a", {"n": 1})]


@pytest.mark.parametrize(
    "held",
    [
        "not JSON",
        "[]",
        '{"v":1,"data":[1],"ts":1,"hash":"x"}',
        '{"v":1,"data":{"n":2},"ts":1,"hash":"hash of something else"}',
        '{"v":1,"data":{"n":2},"ts":"late","hash":"x"}',
    ],
)
async def test_what_is_no_ordinary_document_is_not_taken_for_a_newer_write(
    store: Any, event: Events, held: str
) -> None:
    plugin = _plugin(store)
    await store.put("notes/a", held)

    await plugin.after_write(event("a", {"n": 1}))

    assert await store.items("list") == [("a", {"n": 1})]


async def test_a_binary_write_is_taken_at_its_word(store: Any, event: Events) -> None:
    plugin = _plugin(store, lambda write: ProjectionSet("a", {"hash": write.hash}))
    await store.put_bytes("notes/a", b"\xff\xfe", content_type="image/png")

    await plugin.after_write(replace(event("a"), body=None, hash="h1"))

    assert await store.items("list") == [("a", {"hash": "h1"})]
