"""Refs are made, moved and deleted, many at once or none; wants are reduced, bases are found for several tips."""

from __future__ import annotations

from typing import Any

UPDATE = "/push/unpack"


async def test_several_refs_move_at_once_or_not_at_all(wire: Any, story: Any) -> None:
    first, second = story.line(2)
    mpack_id = await wire.upload(story.pack(second))
    refs = [
        {"kind": "branch", "name": "main", "new": second, "old": None},
        {"kind": "branch", "name": "old", "new": first, "old": None},
        {"kind": "tag", "name": "v1", "new": first, "old": None},
    ]

    lost = await wire.call(
        "POST",
        UPDATE,
        {"mpack_id": mpack_id, "refs": [*refs, {**refs[0], "name": "x", "old": first}]},
    )
    assert (lost.status, lost.body["error"]) == (409, "ref_conflict")
    assert (await wire.refs())["branches"] == {}
    made = await wire.call("POST", UPDATE, {"mpack_id": mpack_id, "refs": refs})
    assert made.status == 200, made.body
    assert (made.body["head"], made.body["commits_written"]) == (second, 2)
    found = await wire.refs()
    assert (found["branches"], found["tags"]) == ({"main": second, "old": first}, {"v1": first})


async def test_tags_move_with_force_and_refs_are_deleted(wire: Any, story: Any) -> None:
    first, second = story.line(2)
    await wire.push(story.pack(second))
    tag = {"kind": "tag", "name": "v1", "new": first, "old": None}
    assert (await wire.call("POST", UPDATE, {"mpack_id": None, "refs": [tag]})).status == 200
    moved = {**tag, "new": second, "old": first}

    refused = await wire.call("POST", UPDATE, {"mpack_id": None, "refs": [moved]})
    assert (refused.status, refused.body["error"]) == (409, "ref_conflict")
    forced = await wire.call("POST", UPDATE, {"mpack_id": None, "refs": [moved], "force": True})
    assert forced.status == 200
    gone = {**tag, "new": None, "old": second}
    assert (
        await wire.call("POST", UPDATE, {"mpack_id": None, "refs": [gone], "force": True})
    ).status == 200
    assert (await wire.refs())["tags"] == {}
    default = {"kind": "branch", "name": "main", "new": None, "old": second}
    kept = await wire.call("POST", UPDATE, {"mpack_id": None, "refs": [default], "force": True})
    assert (kept.status, kept.body["error"]) == (422, "invalid_request")


async def test_a_request_names_one_branch_or_refs(wire: Any, story: Any) -> None:
    head = story.line(1)[0]
    await wire.push(story.pack(head))
    ref = {"kind": "branch", "name": "x", "new": head, "old": None}

    for body in (
        {"mpack_id": None},
        {"mpack_id": None, "branch": "main", "head": head, "refs": [ref]},
        {"mpack_id": None, "refs": [ref, ref]},
        {"mpack_id": None, "refs": [{**ref, "kind": "note"}]},
        {"mpack_id": None, "refs": [{**ref, "name": "../x"}]},
        {"mpack_id": None, "refs": [{**ref, "new": None}]},
        {"mpack_id": None, "refs": [{"name": "x"}]},
        {"mpack_id": None, "refs": "main"},
    ):
        refused = await wire.call("POST", UPDATE, body)
        assert (refused.status, refused.body["error"]) == (422, "invalid_request"), body


async def test_ancestors_among_the_wants_change_nothing(wire: Any, story: Any) -> None:
    line = story.line(6)
    await wire.push(story.pack(line[-1]))

    alone = await wire.fetch(line[-1])
    with_ancestors = await wire.fetch(line[-1], line[0], line[3])

    assert with_ancestors.body["mpack_id"] == alone.body["mpack_id"]


async def test_a_base_is_found_for_several_tips(wire: Any, story: Any) -> None:
    line = story.line(9)
    await wire.push(story.pack(line[-1]))
    await wire.fetch(line[-1])
    sides = [story.line(1, parent=line[-1])[0], story.line(1, parent=line[4])[0]]
    for number, side in enumerate(sides):
        await wire.push(story.pack(side, have=[line[-1]]), branch=f"side{number}", head=side)

    found = await wire.fetch(*sides, line[2], base=True)

    assert found.body["base"]["commit_count"] == 9
    assert found.body["commit_count"] == 2


async def test_all_refs_are_wanted_in_one_request(wire: Any, story: Any) -> None:
    line = story.line(3)
    await wire.push(story.pack(line[-1]))
    tags = [{"kind": "tag", "name": f"t{n}", "new": line[n % 3], "old": None} for n in range(300)]
    assert (await wire.call("POST", UPDATE, {"mpack_id": None, "refs": tags})).status == 200

    found = await wire.call("POST", "/fetch", {"want_all": True})

    assert (found.status, found.body["commit_count"]) == (200, 3)
