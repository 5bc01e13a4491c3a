"""A push is taken in whole, or not at all."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra server")

import obstore
from sqlalchemy import func, select

from starfish_mpack_wire._model.object_ids import blob_id
from starfish_mpack_wire._pack.writer import build_mpack
from starfish_mpack_wire.server._rows import (
    BRANCHES,
    COMMITS,
    PACK_INDEX,
    PACKS,
    REPOS,
    SNAPSHOTS,
    TAGS,
)

UNKNOWN = "sha256:" + "0" * 64
ROUNDS = int(os.environ.get("STARFISH_REPEAT", "2"))
"""Of the race of twenty."""


async def rows_of(wire: Any) -> dict[str, int]:
    """How many rows the repositories of a test have."""
    found: dict[str, int] = {}
    async with wire.rows.reading() as connection:
        for table in (BRANCHES, COMMITS, PACK_INDEX, PACKS, SNAPSHOTS, TAGS):
            count = await connection.execute(
                select(func.count())
                .select_from(table.join(REPOS, table.c.repo_id == REPOS.c.id))
                .where(REPOS.c.owner == wire.owner)
            )
            found[table.name] = count.scalar_one()
    return found


async def test_a_push_counts_what_is_new_and_moves_the_branch(wire: Any, story: Any) -> None:
    line = story.line(3)
    first = await wire.push(story.pack(line[-1]), expected_head=None)
    more = story.line(2, line[-1])
    second = await wire.push(story.pack(more[-1], line), expected_head=line[-1])

    assert first.body == {
        "commits_written": 3,
        "snapshots_written": 3,
        "blobs_written": 6,
        "head": line[-1],
    }
    assert (second.status, second.body["commits_written"]) == (200, 2)
    assert await wire.refs() == {
        "default_branch": "main",
        "branches": {"main": more[-1]},
        "tags": {},
    }


async def test_the_same_push_again_changes_nothing(wire: Any, story: Any) -> None:
    line = story.line(2)
    pack = story.pack(line[-1])
    await wire.push(pack, expected_head=None)
    before = await rows_of(wire)

    offered = await wire.call(
        "POST", "/push/presign", {"mpack_id": blob_id(pack), "size_bytes": len(pack)}
    )
    again = await wire.push(pack, expected_head=None)

    assert offered.body == {"upload_url": None, "expires_at": None}
    assert (again.status, again.body["commits_written"], again.body["head"]) == (200, 0, line[-1])
    assert await rows_of(wire) == before


async def test_a_branch_can_be_pointed_at_a_commit_that_is_here(wire: Any, story: Any) -> None:
    line = story.line(2)
    await wire.push(story.pack(line[-1]))

    made = await wire.call(
        "POST", "/push/unpack", {"mpack_id": None, "branch": "old", "head": line[0]}
    )
    nowhere = await wire.call(
        "POST", "/push/unpack", {"mpack_id": None, "branch": "x", "head": UNKNOWN}
    )

    assert made.status == 200
    assert (await wire.refs())["branches"] == {"main": line[-1], "old": line[0]}
    assert (nowhere.status, nowhere.body["error"]) == (422, "incomplete_history")


async def test_rule_01_bytes_with_another_hash_are_never_parsed(
    wire: Any, story: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from starfish_mpack_wire.server import _unpack

    def parsed(*_: object, **__: object) -> None:
        raise AssertionError("somebody looked into the pack")

    pack = story.pack(story.line(1)[0])
    mpack_id = await wire.upload(pack)
    # The holder of a signed address may write other bytes; so may a damaged disk.
    for listed in await obstore.list(wire.store, "uploads").collect_async():
        await obstore.put_async(wire.store, listed["path"], pack[:-1] + b"x")
    monkeypatch.setattr(_unpack, "MPackReader", parsed)

    answer = await wire.call("POST", "/push/unpack", {"mpack_id": mpack_id, "branch": "main"})

    assert (answer.status, answer.body["error"]) == (422, "pack_damaged")
    assert set((await rows_of(wire)).values()) == {0}


async def test_rule_01_ids_are_full_matched_before_they_touch_a_path_or_a_query(
    wire: Any,
) -> None:
    for bad in ("sha256:../../x", "x" * 71, UNKNOWN + "\n", "sha256:" + "A" * 64, "", 7):
        offered = await wire.call("POST", "/push/presign", {"mpack_id": bad, "size_bytes": 1})
        pushed = await wire.call("POST", "/push/unpack", {"mpack_id": bad, "branch": "main"})
        fetched = await wire.fetch(bad)
        assert [each.status for each in (offered, pushed, fetched)] == [422] * 3
    for bad in ("sha256:..%2f..%2fx", "..%2f..%2fmpack.sqlite", "sha256:" + "A" * 64):
        assert (await wire.call("GET", f"/packs/{bad}")).status == 404
    for bad in ("../main", "a..b", "-x", "a\x00b", "refs/heads/.x", "", "x" * 500):
        answer = await wire.call(
            "POST", "/push/unpack", {"mpack_id": None, "branch": bad, "head": UNKNOWN}
        )
        assert (answer.status, answer.body["error"]) == (422, "invalid_request")


async def test_rule_01_snapshot_and_commit_ids_are_computed_again(wire: Any, story: Any) -> None:
    good = story.commit({"a": b"1"})
    record = dict(story.snapshots[story.commits[good]["snapshot_id"]])
    record["upsert"] = {"b": blob_id(b"1")}
    pack = build_mpack(
        [story.commits[good]], [record], [{"object_id": blob_id(b"1"), "content": b"1"}]
    )

    answer = await wire.push(pack)

    assert (answer.status, answer.body["error"]) == (422, "pack_damaged")
    assert set((await rows_of(wire)).values()) == {0}


async def test_what_is_no_pack_is_422(wire: Any, story: Any) -> None:
    pack = story.pack(story.line(1)[0])
    cut = pack[: len(pack) // 2]
    for content in (b"", b"text", cut, b"\x00" * 1000, pack + b"x"):
        answer = await wire.push(content)
        assert (answer.status, answer.body["error"]) == (422, "pack_damaged")
    assert set((await rows_of(wire)).values()) == {0}


async def test_an_upload_of_other_bytes_is_refused_and_not_kept(wire: Any, backend: str) -> None:
    if backend == "postgres-s3":
        pytest.skip("the storage takes the bytes; unpack refuses them")
    granted = await wire.call(
        "POST", "/push/presign", {"mpack_id": blob_id(b"right"), "size_bytes": 5}
    )
    url = granted.body["upload_url"]

    assert await wire.put(url, b"wrong") == 422
    assert await wire.put(url, b"righ") == 422
    assert await wire.put(url, b"right and more") == 413
    assert await wire.put(url.replace("size=5", "size=14"), b"right and more") == 404
    assert await wire.put(url.replace("/notes/", "/others/"), b"right") == 404
    assert await obstore.list(wire.store, "uploads").collect_async() == []
    assert await wire.put(url, b"right") == 204


async def test_a_pack_that_was_never_uploaded_is_422(wire: Any) -> None:
    answer = await wire.call("POST", "/push/unpack", {"mpack_id": UNKNOWN, "branch": "main"})

    assert (answer.status, answer.body["error"]) == (422, "pack_not_uploaded")


async def test_a_pack_over_the_cap_is_413(wire: Any) -> None:
    answer = await wire.call("POST", "/push/presign", {"mpack_id": UNKNOWN, "size_bytes": 2**50})

    assert (answer.status, answer.body["error"]) == (413, "pack_too_large")


@pytest.mark.parametrize("missing", ["commit", "snapshot", "blob", "base"])
async def test_what_is_missing_from_pack_and_repository_is_422(
    wire: Any, story: Any, missing: str
) -> None:
    line = story.line(3)
    snapshots = [story.commits[each]["snapshot_id"] for each in line]
    pack = {
        "commit": lambda: story.pack(line[-1], without_commits=[line[0]]),
        "snapshot": lambda: story.pack(line[-1], without_snapshots=[snapshots[2]]),
        "blob": lambda: story.pack(line[-1], without_blobs=[blob_id(b"1")]),
        "base": lambda: story.pack(line[-1], without_snapshots=[snapshots[0]]),
    }[missing]()

    answer = await wire.push(pack, head=line[-1])

    assert (answer.status, answer.body["error"]) == (422, "incomplete_history")
    assert set((await rows_of(wire)).values()) == {0}


async def test_rule_02_naming_a_blob_of_another_repository_is_422_and_tells_nothing(
    wire: Any, story: Any, new_story: Callable[[], Any]
) -> None:
    secret = b"the other repository's secret"
    theirs = story.commit({"secret": secret})
    await wire.push(story.pack(theirs))
    mine = await wire.create("mine")

    answers = []
    for content in (secret, b"what nobody has, as long as that"):
        thief = new_story()
        head = thief.commit({"stolen": content})
        pack = thief.pack(head, without_blobs=[blob_id(content)])
        pushed = await wire.push(pack, repo=mine)
        asked = await wire.call("POST", "/blobs", {"object_ids": [blob_id(content)]}, repo=mine)
        answers.append(
            [
                (
                    each.status,
                    str(each.body)
                    .replace(blob_id(content), "BLOB")
                    .replace(thief.commits[head]["snapshot_id"], "SNAPSHOT"),
                )
                for each in (pushed, asked)
            ]
        )

    assert answers[0] == answers[1]
    assert [status for status, _ in answers[0]] == [422, 404]


async def test_rule_02_a_pack_of_another_repository_must_be_uploaded_again(
    wire: Any, story: Any
) -> None:
    head = story.line(1)[0]
    pack = story.pack(head)
    await wire.push(pack)
    mine = await wire.create("mine")

    offered = await wire.call(
        "POST", "/push/presign", {"mpack_id": blob_id(pack), "size_bytes": len(pack)}, repo=mine
    )
    taken = await wire.call(
        "POST", "/push/unpack", {"mpack_id": blob_id(pack), "branch": "main"}, repo=mine
    )

    assert offered.body["upload_url"] is not None
    assert (taken.status, taken.body["error"]) == (422, "pack_not_uploaded")


async def test_rule_02_a_blob_that_is_here_already_need_not_come_again(
    wire: Any, story: Any
) -> None:
    first = story.commit({"a": b"content"})
    await wire.push(story.pack(first))
    other = story.commit({"elsewhere": b"content"})  # a root of its own

    answer = await wire.push(story.pack(other, without_blobs=[blob_id(b"content")]), branch="b")

    assert (answer.status, answer.body["blobs_written"]) == (200, 0)


async def test_rule_11_a_push_of_the_same_commit_to_two_repositories_works_in_both(
    wire: Any, story: Any
) -> None:
    head = story.line(3)[-1]
    pack = story.pack(head)
    one = await wire.push(pack)
    await wire.create("other")
    other = await wire.push(pack)

    assert one.body == other.body
    await wire.download(await wire.fetch(head))


async def test_rule_11_a_pack_with_two_tips_needs_its_head_named(wire: Any, story: Any) -> None:
    root = story.commit({"a": b"1"})
    left, right = (
        story.commit({"b": b"2"}, parents=[root]),
        story.commit({"c": b"3"}, parents=[root]),
    )
    pack = story.pack([left, right])

    unnamed = await wire.push(pack)
    named = await wire.push(pack, head=left)

    assert (unnamed.status, unnamed.body["error"]) == (422, "invalid_request")
    assert (named.status, named.body["head"]) == (200, left)
    assert named.body["commits_written"] == 3


async def test_rule_11_a_dry_run_counts_what_the_real_push_does(wire: Any, story: Any) -> None:
    line = story.line(2)
    await wire.push(story.pack(line[-1]))
    before = await rows_of(wire)
    more = story.line(3, line[-1])
    pack = story.pack(more[-1], line)

    dry = await wire.push(pack, dry_run=True)
    after = await rows_of(wire)
    real = await wire.push(pack)

    assert dry.body == real.body
    assert dry.body["commits_written"] == 3
    assert after == before
    assert (await wire.refs())["branches"] == {"main": more[-1]}


async def test_a_branch_that_moved_is_409(wire: Any, story: Any) -> None:
    root = story.line(1)[0]
    await wire.push(story.pack(root))
    left = story.commit({"l": b"l"}, parents=[root])
    right = story.commit({"r": b"r"}, parents=[root])
    await wire.push(story.pack(left, [root]), expected_head=root)
    before = await rows_of(wire)

    lost = await wire.push(story.pack(right, [root]), expected_head=root)
    not_forward = await wire.push(story.pack(right, [root]), expected_head=left)
    still_there = await rows_of(wire)
    new = await wire.push(story.pack(right, [root]), expected_head=None)
    forced = await wire.push(story.pack(right, [root]), expected_head=left, force=True)

    assert (lost.status, lost.body["error"]) == (409, "ref_conflict")
    assert (lost.body["branch"], lost.body["expected"], lost.body["actual"]) == ("main", root, left)
    assert (not_forward.status, not_forward.body["error"]) == (409, "non_fast_forward")
    assert (not_forward.body["head"], not_forward.body["current"]) == (right, left)
    assert still_there == before
    assert new.status == 409
    assert forced.status == 200
    assert (await wire.refs())["branches"] == {"main": right}


async def test_tags_come_with_a_pack_and_never_move(wire: Any, story: Any) -> None:
    line = story.line(2)
    await wire.push(story.pack(line[0], tags={"v1": line[0]}))

    moved = await wire.push(story.pack(line[1], [line[0]], tags={"v1": line[1]}))
    kept = await wire.push(story.pack(line[1], [line[0]], tags={"v1": line[0], "v2": line[1]}))

    assert (moved.status, moved.body["error"], moved.body["branch"]) == (409, "ref_conflict", "v1")
    assert kept.status == 200
    assert (await wire.refs())["tags"] == {"v1": line[0], "v2": line[1]}


async def test_a_failing_storage_leaves_no_row(
    wire: Any, story: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = story.pack(story.line(1)[0])
    mpack_id = await wire.upload(pack)

    async def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(obstore, "put_async", full)
        answer = await wire.call("POST", "/push/unpack", {"mpack_id": mpack_id, "branch": "main"})

    assert (answer.status, answer.body["error"]) == (503, "storage_unavailable")
    assert set((await rows_of(wire)).values()) == {0}
    again = await wire.call("POST", "/push/unpack", {"mpack_id": mpack_id, "branch": "main"})
    assert again.status == 200


async def test_twenty_clients_push_to_one_branch_of_two_servers(serve: Any, story: Any) -> None:
    async with serve() as one, serve() as two:
        two.repo = await one.create()
        head = story.line(1)[0]
        await one.push(story.pack(head))
        won: list[str] = []
        for _ in range(ROUNDS):
            before = head

            async def push(number: int, base: str = before) -> str | None:
                server = (one, two)[number % 2]
                mine = story.commit({f"{number}.txt": base.encode()}, parents=[base])
                pack = story.pack(mine, [base])
                await server.upload(pack)
                body = {"mpack_id": blob_id(pack), "branch": "main", "expected_head": base}
                answer = await server.call("POST", "/push/unpack", body)
                assert answer.status in (200, 409), answer.body
                return mine if answer.status == 200 else None

            winners = [each for each in await asyncio.gather(*map(push, range(20))) if each]
            assert len(winners) == 1
            head = winners[0]
            won.append(head)
            for server in (one, two):
                assert (await server.refs())["branches"]["main"] == head

        assert story.ancestors([head]) >= set(won)
        contents = await two.download(await two.fetch(head))
        assert {each["commit_id"] for each in contents["commits"]} == story.ancestors([head])
        # What lost left nothing: no commit beside those of the branch.
        assert (await rows_of(one))["mpack_commits"] == len(contents["commits"]) == ROUNDS + 1
