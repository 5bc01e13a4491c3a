"""Uploads in parts, quotas, and the queue of packs that are unpacked."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra server")

import obstore

from starfish_mpack_wire import Limits, blob_id
from starfish_mpack_wire.server._pack_storage import PackStorage
from starfish_mpack_wire.server._unpack import memory_to_unpack
from starfish_mpack_wire.server._unpack_queue import UnpackQueue
from starfish_mpack_wire.server.errors import UnpackBusyError


def parts_of(pack: bytes, size: int = 300) -> list[bytes]:
    return [pack[start : start + size] for start in range(0, len(pack), size)]


def presign_of(pack: bytes, parts: list[bytes]) -> dict[str, Any]:
    listed = [{"part_id": blob_id(each), "size_bytes": len(each)} for each in parts]
    return {"mpack_id": blob_id(pack), "size_bytes": len(pack), "parts": listed}


def unpack_of(pack: bytes, parts: list[bytes], **more: Any) -> dict[str, Any]:
    ids = [blob_id(each) for each in parts]
    return {"mpack_id": blob_id(pack), "branch": "main", "parts": ids, **more}


async def test_only_parts_that_are_not_there_are_asked_for_and_all_make_the_pack(
    wire: Any, story: Any
) -> None:
    line = story.line(3)
    pack = story.pack(line[-1])
    parts = parts_of(pack)
    first = await wire.call("POST", "/push/presign", presign_of(pack, parts))
    for url, part in list(zip(first.body["part_urls"], parts, strict=True))[:2]:
        assert await wire.put(url, part) in (200, 204)
    early = await wire.call("POST", "/push/unpack", unpack_of(pack, parts))
    second = await wire.call("POST", "/push/presign", presign_of(pack, parts))
    for url, part in zip(second.body["part_urls"], parts, strict=True):
        if url is not None:
            assert await wire.put(url, part) in (200, 204)
    done = await wire.call("POST", "/push/unpack", unpack_of(pack, parts, expected_head=None))
    again = await wire.call("POST", "/push/presign", presign_of(pack, parts))

    assert None not in first.body["part_urls"]
    assert (early.status, early.body["error"]) == (422, "pack_not_uploaded")
    assert [url is None for url in second.body["part_urls"]] == [True, True] + [False] * (
        len(parts) - 2
    )
    assert (done.status, done.body["head"]) == (200, line[-1])
    assert again.body["part_urls"] == [None] * len(parts)
    assert await obstore.list(wire.store, "uploads").collect_async() == []


async def test_a_part_of_which_the_storage_took_other_bytes_can_be_sent_again(
    wire: Any, story: Any
) -> None:
    pack = story.pack(story.line(2)[-1])
    parts = parts_of(pack)
    offered = await wire.call("POST", "/push/presign", presign_of(pack, parts))
    for url, part in zip(offered.body["part_urls"], parts, strict=True):
        await wire.put(url, part)
    listed = await obstore.list(wire.store, "uploads").collect_async()
    (key,) = [each["path"] for each in listed if sha256(parts[1]).hexdigest() in each["path"]]
    await obstore.put_async(wire.store, key, bytes(len(parts[1])))

    refused = await wire.call("POST", "/push/unpack", unpack_of(pack, parts))
    again = await wire.call("POST", "/push/presign", presign_of(pack, parts))
    (missing,) = [place for place, url in enumerate(again.body["part_urls"]) if url is not None]
    await wire.put(again.body["part_urls"][missing], parts[missing])
    done = await wire.call("POST", "/push/unpack", unpack_of(pack, parts))

    assert (refused.status, refused.body["error"]) == (422, "pack_damaged")
    assert missing == 1
    assert done.status == 200


async def test_parts_in_another_order_are_not_the_pack(wire: Any, story: Any) -> None:
    pack = story.pack(story.line(2)[-1])
    parts = parts_of(pack)
    offered = await wire.call("POST", "/push/presign", presign_of(pack, parts))
    for url, part in zip(offered.body["part_urls"], parts, strict=True):
        await wire.put(url, part)

    refused = await wire.call("POST", "/push/unpack", unpack_of(pack, parts[::-1]))

    assert (refused.status, refused.body["error"]) == (422, "pack_damaged")


@pytest.mark.parametrize(
    "change",
    [
        {"parts": "x"},
        {"parts": [1]},
        {"parts": [{"part_id": "x", "size_bytes": 1}]},
        {"parts": [{"part_id": "sha256:" + "0" * 64, "size_bytes": 0}]},
        {"parts": [{"part_id": "sha256:" + "0" * 64, "size_bytes": 1}]},
        {"parts": [{"part_id": "sha256:" + "0" * 64, "size_bytes": 1, "more": 1}]},
    ],
    ids=["text", "number", "id", "empty", "other sum", "another key"],
)
async def test_parts_that_do_not_make_sense_are_refused(wire: Any, change: Any) -> None:
    asked = {"mpack_id": "sha256:" + "0" * 64, "size_bytes": 10} | change

    refused = await wire.call("POST", "/push/presign", asked)

    assert (refused.status, refused.body["error"]) == (422, "invalid_request")


async def test_more_parts_than_the_limit_are_refused(serve: Any) -> None:
    async with serve(limits=Limits(max_upload_parts=2)) as wire:
        await wire.create()
        parts = [bytes([number]) for number in range(3)]
        refused = await wire.call("POST", "/push/presign", presign_of(b"x" * 3, parts))
        unpacked = await wire.call("POST", "/push/unpack", unpack_of(b"x" * 3, parts))

    assert (refused.status, unpacked.status) == (422, 422)


async def test_an_owner_keeps_no_more_than_the_quota(serve: Any, new_story: Any) -> None:
    one, two = new_story(), new_story()
    pack, other = one.pack(one.line(2)[-1]), two.pack(two.commit({"x": b"other"}))
    async with serve(limits=Limits(max_owner_bytes=len(pack) + len(other) - 1)) as wire:
        first = await wire.create("first")
        second = await wire.create("second")
        assert (await wire.push(pack, repo=first)).status == 200
        asked = {"mpack_id": blob_id(other), "size_bytes": len(other)}
        announced = await wire.call("POST", "/push/presign", asked, repo=second)
        # Bytes that came before another push took the room are refused when they are unpacked.
        key = PackStorage(wire.store).key(
            "uploads", await number_of(wire, "second"), blob_id(other)
        )
        await obstore.put_async(wire.store, key, other)
        body = {"mpack_id": blob_id(other), "branch": "main"}
        unpacked = await wire.call("POST", "/push/unpack", body, repo=second)
        again = await wire.push(pack, repo=first)

    for refused in (announced, unpacked):
        assert (refused.status, refused.body["error"]) == (413, "quota_exceeded")
    assert again.status == 200


async def number_of(wire: Any, slug: str) -> int:
    from starfish_mpack_wire.server import Repos

    found = await Repos(wire.rows).find(wire.owner, slug)
    assert found is not None
    return int(found.id)


async def test_uploads_that_nobody_took_in_are_swept_when_they_are_old(
    wire: Any, story: Any
) -> None:
    pack = story.pack(story.line(1)[-1])
    await wire.upload(pack)
    storage = PackStorage(wire.store)

    assert await storage.sweep_uploads(datetime.now(UTC) - timedelta(days=1)) == 0
    assert await storage.sweep_uploads(datetime.now(UTC) + timedelta(days=1)) == 1
    assert (await wire.push(pack)).status == 200


async def test_the_queue_lets_in_what_fits_first_come_first_served() -> None:
    queue = UnpackQueue(10, 5)
    order: list[str] = []
    inside = peak = 0

    async def work(name: str, weight: int) -> None:
        nonlocal inside, peak
        async with queue.hold(weight):
            inside += min(weight, 10)
            peak = max(peak, inside)
            order.append(name)
            await asyncio.sleep(0.001)
            inside -= min(weight, 10)

    async with asyncio.TaskGroup() as group:
        for number, weight in enumerate([6, 6, 1, 100, 4, 10, 1, 1]):
            group.create_task(work(str(number), weight))

    assert order == sorted(order)
    assert peak == 10


async def test_who_waits_too_long_or_goes_away_leaves_the_queue() -> None:
    queue = UnpackQueue(10, 0.05)

    async def wait() -> None:
        async with queue.hold(10):
            pass

    async with queue.hold(10):
        gone = asyncio.create_task(wait())
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(UnpackBusyError):
            await wait()
        with pytest.raises(asyncio.CancelledError):
            await gone
    await wait()
    # Room that came in the moment in which somebody went away is not lost.
    async with queue.hold(10):
        late = asyncio.create_task(wait())
        await asyncio.sleep(0)
    late.cancel()
    await asyncio.wait([late])
    await wait()


async def test_a_full_queue_is_503_and_the_same_request_works_later(
    serve: Any, story: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from starfish_mpack_wire.server import _push_service

    pack = story.pack(story.line(1)[-1])
    held, go_on = threading.Event(), threading.Event()
    check = _push_service.read_pack

    def slow(*arguments: Any) -> Any:
        if not held.is_set():
            held.set()
            assert go_on.wait(30)
        return check(*arguments)

    monkeypatch.setattr(_push_service, "read_pack", slow)
    async with serve(limits=Limits(unpacking_bytes=1, build_wait_ms=50)) as wire:
        await wire.create()
        one = asyncio.create_task(wire.push(pack))
        assert await asyncio.to_thread(held.wait, 30)
        refused = await wire.push(pack)
        go_on.set()
        assert (await one).status == 200
        later = await wire.push(pack)

    assert (refused.status, refused.body["error"]) == (503, "unpack_busy")
    assert refused.headers["Retry-After"] == "2"
    assert later.status == 200


def test_memory_follows_the_records_that_a_pack_claims(story: Any, tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(story.pack(story.line(1)[-1]))
    large.write_bytes(story.pack(story.line(50)[-1]))

    few, many = (
        memory_to_unpack(path, blob_id(path.read_bytes()), Limits()) for path in (small, large)
    )
    assert many > 10 * few
