"""Each row of the table of fetches, and what a fetched pack holds."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import msgpack
import pytest

pytest.importorskip("fastapi", reason="needs the extra server")

import obstore
from sqlalchemy import delete, func, select, update

from starfish_mpack_wire.limits import Limits
from starfish_mpack_wire.server._rows import BUILT_PACKS, COMMITS, PACK_INDEX, REPOS, SNAPSHOTS
from starfish_protocol.testing import ManualClock

UNKNOWN = "sha256:" + "0" * 64


async def test_a_delta_is_offered_with_its_counts_and_a_url(wire: Any, story: Any) -> None:
    line = story.line(4)
    assert (await wire.push(story.pack(line[-1]))).status == 200

    answer = await wire.fetch(line[-1], have=[line[1], UNKNOWN])

    assert answer.status == 200
    assert set(answer.body) == {
        *("mpack_id", "mpack_url", "size_bytes", "expires_at"),
        *("commit_count", "snapshot_count", "blob_count"),
    }
    contents = await wire.download(answer)
    assert [each["commit_id"] for each in contents["commits"]] == line[2:]
    sent = {each["object_id"] for each in contents["blobs"]}
    assert sent == story.blobs_of(line[2:]) - story.blobs_of([line[1]])


async def test_a_clone_holds_everything(wire: Any, story: Any) -> None:
    one, two = story.line(3), story.line(2)
    merge = story.commit({"merged": b"both"}, parents=[one[-1], two[-1]])
    empty = story.commit({}, parents=[merge], directories=["later"], mood="unknown keys are kept")
    await wire.push(story.pack(empty))

    contents = await wire.download(await wire.fetch(empty))

    by_id = {each["commit_id"]: each for each in contents["commits"]}
    assert by_id == story.commits
    assert {each["object_id"] for each in contents["blobs"]} == story.blobs.keys()
    assert {each["snapshot_id"] for each in contents["snapshots"]} == story.snapshots.keys()


async def test_nothing_to_send_makes_no_storage_call(
    serve: Any, story: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = story.line(3)
    async with serve() as wire:
        await wire.create()
        await wire.push(story.pack(line[-1]))
        for name in ("head_async", "get_async", "put_async", "get_range", "sign"):
            monkeypatch.delattr(obstore, name)

        for want, have in ((line[2], line[2]), (line[0], line[2])):
            answer = await wire.fetch(want, have=[have])

            assert answer.status == 200
            assert answer.body == {
                "mpack_id": None,
                "mpack_url": None,
                "commit_count": 0,
                "snapshot_count": 0,
                "blob_count": 0,
                "size_bytes": 0,
                "expires_at": None,
            }


NO_REQUESTS = [
    {"want": []},
    {"want": ["sha256:abc"]},
    {"want": [UNKNOWN + "\n"]},
    {"want": [UNKNOWN.upper()]},
    {"want": [f"sha256:{number:064x}" for number in range(300)]},
    {"want": [UNKNOWN], "have": [f"sha256:{number:064x}" for number in range(2000)]},
    {"want": "text"},
    {"want": [UNKNOWN], "depth": "1"},
    {"want": [UNKNOWN], "nonsense": 1},
    b"\xc1",
    b"",
    b'{"want": []}',
]


async def test_what_is_no_request_is_422(wire: Any) -> None:
    for body in NO_REQUESTS:
        answer = await wire.call("POST", "/fetch", body)

        assert (answer.status, answer.body["error"]) == (422, "invalid_request"), body


async def test_a_want_that_is_not_here_is_404(wire: Any, story: Any) -> None:
    head = story.line(1)[0]
    await wire.push(story.pack(head))

    answer = await wire.fetch(head, UNKNOWN)

    assert (answer.status, answer.body["error"]) == (404, "unknown_want")


async def test_the_answer_is_in_the_type_that_is_asked_for(wire: Any, story: Any) -> None:
    head = story.line(1)[0]
    await wire.push(story.pack(head))

    for accept, kind in (
        ("application/json", "application/json"),
        ("application/x-msgpack", "application/x-msgpack"),
        ("*/*", "application/x-msgpack"),
    ):
        for want in (head, UNKNOWN):
            answer = await wire.call("POST", "/fetch", {"want": [want]}, headers={"Accept": accept})
            assert answer.headers["content-type"] == kind
    plain = await wire.call("GET", "/refs", headers={"Accept": "*/*"})
    assert plain.headers["content-type"] == "application/json"


async def test_a_body_over_the_cap_is_413(wire: Any) -> None:
    async def pieces() -> Any:
        for _ in range(Limits().max_message_bytes // 65536 + 1):
            yield b"x" * 65536

    announced = await wire.call(
        "POST", "/fetch", b"", headers={"Content-Length": str(Limits().max_message_bytes + 1)}
    )
    unannounced = await wire.call("POST", "/fetch", pieces())

    for answer in (announced, unannounced):
        assert (answer.status, answer.body["error"]) == (413, "body_too_large")


async def test_too_many_requests_are_429(serve: Any) -> None:
    clock = ManualClock()
    async with serve(limits=Limits(requests_per_minute=3), clock=clock) as wire:
        await wire.create()
        for _ in range(3):
            assert (await wire.call("GET", "/refs")).status == 200

        refused = await wire.call("GET", "/refs")
        somebody_else = await wire.call("GET", "/refs", token=None)
        clock.advance(int(refused.headers["retry-after"]) * 1000)
        later = await wire.call("GET", "/refs")

    assert (refused.status, refused.body["error"]) == (429, "rate_limited")
    assert int(refused.headers["retry-after"]) == 60
    assert (somebody_else.status, later.status) == (200, 200)


async def test_rule_08_the_gate_looks_at_needed_blobs_only(wire: Any, story: Any) -> None:
    line = story.line(3)
    await wire.push(story.pack(line[-1]))
    old = story.blob(b"0")  # of the first commit alone
    async with wire.rows.writing() as connection:
        await connection.execute(delete(PACK_INDEX).where(PACK_INDEX.c.object_id == old))
    await wire.forget_built()

    whole = await wire.fetch(line[-1])
    part = await wire.fetch(line[-1], have=[line[0]])

    assert (whole.status, whole.body["error"]) == (503, "blob_unavailable")
    assert int(whole.headers["retry-after"]) > 0
    assert part.status == 200
    await wire.download(part)


async def test_rule_08_every_id_of_an_uploaded_pack_is_indexed(wire: Any, story: Any) -> None:
    line = story.line(5)
    await wire.push(story.pack(line[-1]))

    async with wire.rows.reading() as connection:
        found = await connection.execute(
            select(PACK_INDEX.c.object_id).where(PACK_INDEX.c.object_id.in_(list(story.blobs)))
        )
        assert {row[0] for row in found} >= story.blobs.keys()
    for object_id, content in story.blobs.items():
        answer = await wire.call("POST", "/blobs", {"object_ids": [object_id]})
        contents = await wire.download(answer)
        assert contents["blobs"] == [{"object_id": object_id, "content": content}]


async def test_rule_08_a_row_whose_bytes_are_gone_is_503(wire: Any, story: Any) -> None:
    line = story.line(3)
    await wire.push(story.pack(line[-1]))
    await wire.forget_built()
    for listed in await obstore.list(wire.store, "packs").collect_async():
        await obstore.delete_async(wire.store, listed["path"])

    answer = await wire.fetch(line[-1])

    assert (answer.status, answer.body["error"]) == (503, "blob_unavailable")
    assert "retry-after" in answer.headers


async def test_a_pack_is_built_from_blobs_of_several_blocks(wire: Any, story: Any) -> None:
    # Each of 1 MiB, the largest that is stored as it is, and some that do not become smaller.
    files = {"a": bytes(2**20), "b": b"x" * 2**20, "d": b""}
    files |= {f"c{number}": os.urandom(2**20) for number in range(5)}
    commit = story.commit(files)
    await wire.push(story.pack(commit))
    await wire.forget_built()

    contents = await wire.download(await wire.fetch(commit))

    assert {each["content"] for each in contents["blobs"]} == set(files.values())


@pytest.mark.parametrize("compressible", [False, True])
async def test_rule_08_bytes_that_were_damaged_are_503_and_in_no_pack(
    *, wire: Any, story: Any, compressible: bool
) -> None:
    content = b"one line of text\n" * 40 if compressible else b"a"
    commit = story.commit({"file": content})
    await wire.push(story.pack(commit))
    await wire.forget_built()
    (listed,) = await obstore.list(wire.store, "packs").collect_async()
    stored = bytearray(await (await obstore.get_async(wire.store, listed["path"])).bytes_async())
    stored[16] ^= 1  # the first byte of the first block
    await obstore.put_async(wire.store, listed["path"], bytes(stored))

    answer = await wire.fetch(commit)

    assert (answer.status, answer.body["error"]) == (503, "blob_unavailable")


async def test_rule_08_a_failing_storage_is_never_read_as_absent(
    wire: Any, story: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = story.line(3)
    pack = story.pack(line[-1])
    await wire.push(pack)
    await wire.fetch(line[-1])

    async def fail(*_: object, **__: object) -> None:
        raise obstore.exceptions.GenericError("the network is away")

    for name in ("head_async", "get_async", "put_async"):
        monkeypatch.setattr(obstore, name, fail)
    again = await wire.fetch(line[-1])
    offered = await wire.call(
        "POST", "/push/presign", {"mpack_id": UNKNOWN.replace("0", "1"), "size_bytes": 4}
    )
    pushed = await wire.call(
        "POST", "/push/unpack", {"mpack_id": UNKNOWN.replace("0", "1"), "branch": "main"}
    )

    assert (again.status, again.body["error"]) == (503, "storage_unavailable")
    assert offered.status == 200  # nothing needs to be looked up for a pack without a row
    assert (pushed.status, pushed.body["error"]) == (503, "storage_unavailable")


async def test_rule_10_two_fetches_at_once_build_one_pack(
    wire: Any, story: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from starfish_mpack_wire.server import _fetch_service

    line = story.line(6)
    await wire.push(story.pack(line[-1]))
    built = 0
    write = _fetch_service._write

    def counting(*arguments: Any) -> Any:
        nonlocal built
        built += 1
        return write(*arguments)

    monkeypatch.setattr(_fetch_service, "_write", counting)
    await wire.forget_built()
    answers = await asyncio.gather(*(wire.fetch(line[-1]) for _ in range(8)))
    later = await wire.fetch(line[-1])
    # Other haves, the same effective ones.
    one = await wire.fetch(line[-1], have=[line[3]])
    other = await wire.fetch(line[-1], have=[line[1], line[3], UNKNOWN])

    assert {answer.body["mpack_id"] for answer in [*answers, later]} == {later.body["mpack_id"]}
    assert one.body["mpack_id"] == other.body["mpack_id"]
    assert built == 2


async def test_rule_10_rows_in_another_order_give_the_same_pack_id(
    serve: Any, new_story: Any
) -> None:
    story = new_story()
    left, right = story.line(3), story.line(3)
    merge = story.commit({"m": b"m"}, parents=[left[-1], right[-1]])
    async with serve() as wire:
        await wire.create("one")
        await wire.push(story.pack(merge))
        as_it_came = await wire.fetch(merge)
        await wire.forget_built()
        one = await wire.fetch(merge)
        await wire.create("other")
        await wire.push(story.pack(right[-1]), branch="right")
        await wire.push(story.pack(left[1]), branch="left")
        await wire.push(story.pack(merge, [right[-1], left[1]]))
        other = await wire.fetch(merge)

    assert one.body["mpack_id"] == other.body["mpack_id"] == as_it_came.body["mpack_id"]


async def test_a_cached_pack_that_is_gone_is_built_again(wire: Any, story: Any) -> None:
    head = story.line(3)[-1]
    await wire.push(story.pack(head))
    first = await wire.fetch(head)
    await wire.forget_built()

    again = await wire.fetch(head)

    assert again.body["mpack_id"] == first.body["mpack_id"]
    await wire.download(again)


async def test_a_long_build_is_503_and_goes_on(
    serve: Any, story: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    from starfish_mpack_wire.server import _fetch_service

    head = story.line(2)[-1]
    go_on = threading.Event()
    write = _fetch_service._write

    def slow(*arguments: Any) -> Any:
        go_on.wait(20)
        return write(*arguments)

    async with serve(limits=Limits(build_wait_ms=50)) as wire:
        await wire.create()
        await wire.push(story.pack(head))
        await wire.forget_built()
        monkeypatch.setattr(_fetch_service, "_write", slow)
        early = await wire.fetch(head)
        go_on.set()
        late = early
        while late.status == 503:
            late = await wire.fetch(head)

        assert (early.status, early.body["error"]) == (503, "pack_building")
        assert int(early.headers["retry-after"]) > 0
        await wire.download(late)


async def test_rule_07_a_missing_parent_row_fails_closed(wire: Any, story: Any) -> None:
    line = story.line(3)
    await wire.push(story.pack(line[-1]))
    async with wire.rows.writing() as connection:
        await connection.execute(delete(COMMITS).where(COMMITS.c.commit_id == line[1]))
    await wire.forget_built()

    answer = await wire.fetch(line[-1])

    assert (answer.status, answer.body["error"]) == (503, "history_damaged")


async def test_rule_07_wrong_generations_in_rows_change_nothing(wire: Any, story: Any) -> None:
    line = story.line(6)
    await wire.push(story.pack(line[-1]))
    async with wire.rows.writing() as connection:
        await connection.execute(
            update(COMMITS).where(COMMITS.c.commit_id == line[4]).values(generation=2)
        )

    answer = await wire.fetch(line[-1], have=[line[2]])

    assert answer.body["commit_count"] == 3


async def test_a_missing_snapshot_row_fails_closed(wire: Any, story: Any) -> None:
    line = story.line(3)
    await wire.push(story.pack(line[-1]))
    gone = story.commits[line[1]]["snapshot_id"]
    async with wire.rows.writing() as connection:
        await connection.execute(delete(SNAPSHOTS).where(SNAPSHOTS.c.snapshot_id == gone))
    await wire.forget_built()

    answer = await wire.fetch(line[-1])

    assert (answer.status, answer.body["error"]) == (503, "history_damaged")


async def test_a_shallow_clone_can_be_deepened(wire: Any, story: Any) -> None:
    line = story.line(6)
    await wire.push(story.pack(line[-1]))

    first = await wire.fetch(line[-1], depth=2)
    contents = await wire.download(first)
    deeper = await wire.fetch(line[-1], have=[line[-1]], shallow=[line[-2]], depth=4)
    more = await wire.download(deeper)

    assert [each["commit_id"] for each in contents["commits"]] == line[-2:]
    assert (first.body["shallow"], first.body["unshallow"]) == ([line[-2]], [])
    # The oldest comes complete: nothing it could be a difference to is there.
    oldest = next(
        each
        for each in contents["snapshots"]
        if each["snapshot_id"] == story.commits[line[-2]]["snapshot_id"]
    )
    assert oldest["parent_snapshot_id"] is None
    assert {each["object_id"] for each in contents["blobs"]} == story.blobs_of(line[-2:])
    assert [each["commit_id"] for each in more["commits"]] == line[-4:-2]
    assert (deeper.body["shallow"], deeper.body["unshallow"]) == ([line[-4]], [line[-2]])


async def test_a_partial_fetch_leaves_blobs_out_that_come_on_demand(wire: Any, story: Any) -> None:
    big, small = story.blob(b"b" * 1000), story.blob(b"s")
    head = story.commit({"a/big": b"b" * 1000, "a/small": b"s", "ab": b"beside", "c": b""})
    await wire.push(story.pack(head))

    async def blobs(**request: Any) -> set[str]:
        contents = await wire.download(await wire.fetch(head, **request))
        return {each["object_id"] for each in contents["blobs"]}

    assert await blobs(filter="blob:none") == set()
    assert await blobs(filter="blob:limit=999") == story.blobs.keys() - {big}
    assert await blobs(filter="blob:limit=0") == {story.blob(b"")}
    assert await blobs(paths=["a"]) == {big, small}
    assert await blobs(paths=["a/small", "c/"]) == {small, story.blob(b"")}
    assert await blobs(paths=["a"], filter="blob:limit=5") == {small}
    one = await wire.call("POST", "/blobs", {"object_ids": [big]})
    assert (await wire.download(one))["blobs"] == [{"object_id": big, "content": b"b" * 1000}]
    none = await wire.call("POST", "/blobs", {"object_ids": [big, UNKNOWN]})
    assert (none.status, none.body["error"]) == (404, "unknown_blob")


async def test_want_refs_are_the_heads_of_this_moment(wire: Any, story: Any) -> None:
    line = story.line(2)
    await wire.push(story.pack(line[-1]))

    answer = await wire.fetch(want_refs=["main"])
    unknown = await wire.fetch(want_refs=["main", "nobody"])

    assert answer.body["refs"] == {"main": line[-1]}
    assert answer.body["commit_count"] == 2
    assert (unknown.status, unknown.body["error"]) == (404, "unknown_want")


async def test_a_base_and_what_comes_after_it(wire: Any, story: Any) -> None:
    line = story.line(8)
    await wire.push(story.pack(line[-1]))
    whole = await wire.fetch(line[-1], base=True)
    head = story.line(1, line[-1])[-1]
    await wire.push(story.pack(head, line))

    answer = await wire.fetch(head, base=True)
    without = await wire.fetch(head)

    assert whole.body["base"] is None
    assert answer.body["base"]["mpack_id"] == whole.body["mpack_id"]
    assert answer.body["commit_count"] == 1
    await wire.download(answer)
    assert "base" not in without.body
    assert without.body["commit_count"] == 9


async def test_a_rename_sends_no_blob(wire: Any, story: Any) -> None:
    first = story.commit({"old": b"content", "keep": b"k"})
    second = story.commit({"new": b"content"}, parents=[first], remove=["old"], complete=True)
    await wire.push(story.pack(second))

    answer = await wire.fetch(second, have=[first])

    assert (answer.body["commit_count"], answer.body["blob_count"]) == (1, 0)


async def test_a_revert_brings_a_snapshot_that_can_be_put_together(wire: Any, story: Any) -> None:
    first = story.commit({"a": b"1"})
    side = story.commit({"a": b"2"}, parents=[first])
    other = story.commit({"b": b"3"}, parents=[first])
    # The same snapshot as `side`, which somebody who only has `other` never saw.
    again = story.commit({"a": b"2"}, parents=[other], remove=["b"])
    await wire.push(story.pack([again, side]), head=again)

    contents = await wire.download(await wire.fetch(again, have=[other]))

    held = {story.commits[each]["snapshot_id"] for each in (first, other)}
    for record in contents["snapshots"]:
        assert record["parent_snapshot_id"] in held
    assert {each["object_id"] for each in contents["blobs"]} == {story.blob(b"2")}


async def test_rule_04_odd_files_arrive_as_they_are(wire: Any, story: Any) -> None:
    nfc, nfd = "caf\u00e9", "cafe\u0301"
    first = story.commit(
        {"empty": b"", "a": b"same", "b": b"same", nfc: b"c", nfd: b"d", "f": b"f"}
    )
    second = story.commit({"f/inside": b"g"}, parents=[first], remove=["f"], directories=["none"])
    many = story.commit({f"m/{n:05}": b"%d" % (n % 50) for n in range(10_000)}, parents=[second])
    assert (await wire.push(story.pack(many))).status == 200

    contents = await wire.download(await wire.fetch(many))

    assert {each["commit_id"] for each in contents["commits"]} == {first, second, many}
    assert {each["object_id"]: each["content"] for each in contents["blobs"]} == story.blobs
    snapshots = {each["snapshot_id"]: each for each in contents["snapshots"]}
    assert snapshots == story.snapshots


async def test_long_chains_begin_again_with_a_complete_snapshot(wire: Any, story: Any) -> None:
    line: list[str] = []
    for count in (40, 40):
        before = list(line)
        line += story.line(count, line[-1] if line else None)
        assert (await wire.push(story.pack(line[-1], before))).status == 200

    contents = await wire.download(await wire.fetch(line[-1]))

    complete = [each for each in contents["snapshots"] if each["parent_snapshot_id"] is None]
    assert len(complete) == 2
    assert {each["snapshot_id"] for each in contents["snapshots"]} == story.snapshots.keys()


async def test_the_cache_keeps_one_row_for_a_pack(wire: Any, story: Any) -> None:
    head = story.line(2)[-1]
    await wire.push(story.pack(head))
    for _ in range(3):
        answer = await wire.fetch(head)

    async with wire.rows.reading() as connection:
        found = await connection.execute(
            select(func.count())
            .select_from(BUILT_PACKS.join(REPOS))
            .where(REPOS.c.owner == wire.owner)
        )
        assert found.scalar_one() == 1
    assert msgpack.unpackb(answer.content)["expires_at"] > 1_700_000_000_000
