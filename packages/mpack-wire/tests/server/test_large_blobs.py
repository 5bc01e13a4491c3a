"""Large files over the wire: chunks in both directions, checked by the server before a row is written."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra server")

from starfish_mpack_wire import (
    LocalStore,
    MPackReader,
    apply_mpack,
    blob_id,
    build_mpack,
    parse_wire_mpack,
)
from starfish_mpack_wire._pack.cutting import cut

MIB = 2**20
FIRST = random.Random(3).randbytes(5 * MIB)
SECOND = FIRST[: 2 * MIB] + b"one line more\n" + FIRST[2 * MIB :]


def pack_of_second(story: Any, head: str, *, without: int = 0, wrong: bool = False) -> bytes:
    """The second commit with the chunks that the first does not have."""
    held = cut(FIRST)[1]
    chunks, contents = cut(SECOND)
    new = [each for each in contents if each not in held][without:]
    listed = [(chunk.object_id, chunk.length) for chunk in chunks]
    if wrong:
        listed.reverse()
    record = story.commits[head]
    return build_mpack(
        [record],
        [story.snapshots[record["snapshot_id"]]],
        [{"object_id": each, "content": bytes(contents[each])} for each in new],
        [],
        [{"object_id": blob_id(SECOND), "chunks": listed}],
    )


async def bytes_of(wire: Any, answer: Any) -> bytes:
    import httpx

    url = answer.body["mpack_url"]
    if url.startswith("http://testserver"):
        return bytes((await wire.http.get(url)).content)
    async with httpx.AsyncClient() as plain:
        return (await plain.get(url)).content


async def test_a_small_edit_of_a_large_file_costs_its_chunks_in_both_directions(
    wire: Any, story: Any, tmp_path: Path
) -> None:
    one = story.commit({"large": FIRST, "small": b"1"})
    two = story.commit({"large": SECOND}, parents=[one])
    first = await wire.push(story.pack(one), expected_head=None)
    small = pack_of_second(story, two)
    second = await wire.push(small, expected_head=one)
    await wire.forget_built()
    whole = await bytes_of(wire, await wire.fetch(two))
    delta = await bytes_of(wire, await wire.fetch(two, have=[one]))

    assert (first.status, second.status) == (200, 200), second.body
    assert len(small) < MIB
    assert len(delta) < MIB < 5 * MIB < len(whole) < 6 * MIB
    assert {each["object_id"]: each["content"] for each in parse_wire_mpack(whole)["blobs"]} == {
        blob_id(each): each for each in (FIRST, SECOND, b"1")
    }
    before = await bytes_of(wire, await wire.fetch(one))

    def receive() -> None:
        with LocalStore(tmp_path / "store") as store:
            apply_mpack(store, before)
            apply_mpack(store, delta)
            assert store.blob(blob_id(SECOND)) == SECOND
            assert not store.verify().problems

    await asyncio.to_thread(receive)


async def test_a_list_of_other_bytes_than_its_id_says_is_refused(wire: Any, story: Any) -> None:
    one = story.commit({"large": FIRST})
    two = story.commit({"large": SECOND}, parents=[one])
    await wire.push(story.pack(one), expected_head=None)

    refused = await wire.push(pack_of_second(story, two, wrong=True), expected_head=one)

    assert (refused.status, refused.body["error"]) == (422, "pack_damaged")
    assert (await wire.refs())["branches"] == {"main": one}
    assert (await wire.push(pack_of_second(story, two), expected_head=one)).status == 200


async def test_a_chunk_that_is_neither_sent_nor_there_is_refused(wire: Any, story: Any) -> None:
    one = story.commit({"large": FIRST})
    two = story.commit({"large": SECOND}, parents=[one])
    await wire.push(story.pack(one), expected_head=None)

    refused = await wire.push(pack_of_second(story, two, without=1), expected_head=one)

    assert (refused.status, refused.body["error"]) == (422, "incomplete_history")
    assert refused.body["needed_by"] == blob_id(SECOND)


async def test_rule_02_chunks_of_another_repository_are_as_unknown_as_any(
    wire: Any, story: Any, new_story: Any
) -> None:
    secret = story.commit({"large": FIRST})
    other = await wire.create("other", private=True)
    await wire.push(story.pack(secret), expected_head=None, repo=other)
    await wire.create("mine")
    guess = new_story()
    head = guess.commit({"large": FIRST})
    chunks = [(chunk.object_id, chunk.length) for chunk in cut(FIRST)[0]]
    record = guess.commits[head]

    async def answer(listed: Any) -> Any:
        pack = build_mpack(
            [record],
            [guess.snapshots[record["snapshot_id"]]],
            [],
            [],
            [{"object_id": blob_id(FIRST), "chunks": listed}],
        )
        return await wire.push(pack, expected_head=None)

    there = await answer(chunks)
    nowhere = await answer([(blob_id(b"%d" % n), 2**19) for n in range(10)])

    assert (there.status, nowhere.status) == (422, 422)
    assert there.body["error"] == nowhere.body["error"] == "incomplete_history"


async def test_a_large_blob_by_itself_comes_with_all_of_its_chunks(wire: Any, story: Any) -> None:
    one = story.commit({"large": FIRST, "small": b"1"})
    await wire.push(story.pack(one), expected_head=None)

    found = await wire.call("POST", "/blobs", {"object_ids": [blob_id(FIRST)]})
    with MPackReader(await bytes_of(wire, found)) as reader:
        assert b"".join(reader.blob_pieces(blob_id(FIRST))) == FIRST
        assert not reader.has_blob(blob_id(b"1"))


async def test_filters_look_at_the_length_of_the_whole_blob(wire: Any, story: Any) -> None:
    one = story.commit({"large": FIRST, "small": b"1"})
    two = story.commit({"large": SECOND}, parents=[one])
    await wire.push(story.pack(one), expected_head=None)
    await wire.push(pack_of_second(story, two), expected_head=one)

    below = await bytes_of(wire, await wire.fetch(two, filter="blob:limit=1000000"))
    above = await bytes_of(wire, await wire.fetch(two, have=[one], filter="blob:limit=10000000"))

    assert [each["content"] for each in parse_wire_mpack(below)["blobs"]] == [b"1"]
    # Who leaves blobs out may lack the chunks of those before, so that all of them are sent.
    assert parse_wire_mpack(above)["blobs"] == [{"object_id": blob_id(SECOND), "content": SECOND}]
