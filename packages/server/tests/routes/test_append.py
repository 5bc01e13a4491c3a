"""Append-only documents over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from starfish_protocol.append_author import sign_append_author
from starfish_protocol.hash import compute_hash
from starfish_protocol.plugins import ServerPlugin, WriteEvent
from starfish_protocol.testing import ManualClock

PUB = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
PRIV = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
NOW = 1_000_000


def log(**append_only: Any) -> dict[str, Any]:
    options = {"type": "by_timestamp", "requireAuthorSignature": False, "chunkSize": 2}
    return {"name": "log", "storagePath": "log/{room}", "appendOnly": options | append_only}


async def filled(server: Any, count: int = 5) -> None:
    for n in range(count):
        answer = await server.post("/push/log/hall", {"data": {"n": n}})
        assert answer.status_code == 200


def numbers(answer: Any) -> list[int]:
    return [element["data"]["n"] for element in answer.json()["data"]["items"]]


async def test_an_append_answers_with_the_hash_of_the_whole(serve: Any) -> None:
    server = serve(log(), clock=ManualClock(NOW))

    await server.post("/push/log/hall", {"data": {"n": 0}})
    second = await server.post("/push/log/hall", {"data": {"n": 1}, "ts": NOW + 9, "baseHash": "x"})
    pulled = await server.get("/pull/log/hall?full=true")

    digest = compute_hash({"n": 2, "last": {"n": 1}})
    assert second.json() == {"hash": digest, "timestamp": NOW + 9}
    assert pulled.json() == {
        "data": {"items": [{"ts": NOW, "data": {"n": 0}}, {"ts": NOW + 9, "data": {"n": 1}}]},
        "hash": digest,
        "timestamp": NOW,
    }
    assert pulled.headers["etag"] == f'"{digest}"'


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("full=true", [0, 1, 2, 3, 4]),
        ("checkpoint=0", [0, 1, 2, 3, 4]),
        (f"checkpoint={NOW + 2}", [3, 4]),
        (f"checkpoint={NOW + 4}", []),
        ("last=2", [3, 4]),
        ("limit=1&last=3", [4]),
        (f"checkpoint={NOW + 1}&last=2", [3, 4]),
        (f"checkpoint={NOW + 3}&limit=9&full=false", [4]),
    ],
)
async def test_a_pull_says_what_it_wants(serve: Any, query: str, expected: list[int]) -> None:
    server = serve(log(), clock=ManualClock(NOW))
    await filled(server)

    assert numbers(await server.get(f"/pull/log/hall?{query}")) == expected


async def test_what_was_never_appended_to_is_empty(serve: Any) -> None:
    answer = await serve(log(field="entries")).get("/pull/log/hall?last=1")

    assert (answer.json()["data"], answer.json()["hash"]) == ({"entries": []}, "")


@pytest.mark.parametrize(
    ("options", "query", "error"),
    [
        ({}, "", "pull_bound_required"),
        ({}, "full=false", "pull_bound_required"),
        ({}, "full=true&last=1", "full_with_bounds"),
        ({}, "full=true&checkpoint=0", "full_with_bounds"),
        ({"allowFull": False}, "full=true", "full_not_allowed"),
        ({"maxPullLimit": 3}, "full=true", "full_not_allowed"),
        ({"maxCheckpointAgeMs": 100}, f"checkpoint={NOW - 101}", "checkpoint_too_old"),
        ({}, "full=yes", "Invalid full parameter"),
        ({}, "checkpoint=-1", "Invalid checkpoint"),
        ({}, "checkpoint=1.5", "Invalid checkpoint"),
        ({}, "checkpoint=", "Invalid checkpoint"),
        ({}, "checkpoint=" + "9" * 5000, "Invalid checkpoint"),
        ({}, "checkpoint=%D9%A1", "Invalid checkpoint"),  # a digit, but not of ours
        ({}, "last=-1", "Invalid last"),
        ({}, "limit=x&last=1", "Invalid limit"),
    ],
)
async def test_a_pull_that_does_not_bound_itself_is_refused(
    serve: Any, options: Any, query: str, error: str
) -> None:
    answer = await serve(log(**options), clock=ManualClock(NOW)).get(f"/pull/log/hall?{query}")

    assert (answer.status_code, answer.json()) == (400, {"error": error})


async def test_a_bound_cuts_the_newest_elements_and_never_those_of_a_checkpoint(serve: Any) -> None:
    server = serve(log(maxPullLimit=2), clock=ManualClock(NOW))
    await filled(server)

    assert numbers(await server.get("/pull/log/hall?checkpoint=0")) == [0, 1, 2, 3, 4]
    assert numbers(await server.get("/pull/log/hall?checkpoint=0&last=4")) == [3, 4]
    assert numbers(await server.get("/pull/log/hall?last=4")) == [3, 4]


async def test_refused_appends_leave_the_document(serve: Any) -> None:
    server = serve(log(maxItems=3), clock=ManualClock(NOW))
    await filled(server, 3)

    for body, status, answer in (
        ({"data": {"n": 9}}, 409, {"error": "append_limit_exceeded", "limit": 3}),
        ({"data": {"n": 9}, "ts": -1}, 400, {"error": "ts must be a non-negative integer"}),
        ({"data": {"n": 9}, "ts": "1"}, 400, {"error": "ts must be a non-negative integer"}),
        ({"data": {"n": 9}, "ts": True}, 400, {"error": "ts must be a non-negative integer"}),
        ({"data": [1]}, 400, {"error": "Missing or invalid data"}),
    ):
        refused = await server.post("/push/log/hall", body)
        assert (refused.status_code, refused.json()) == (status, answer)
    assert numbers(await server.get("/pull/log/hall?full=true")) == [0, 1, 2]


async def test_the_time_of_an_element(serve: Any) -> None:
    server = serve(log(), clock=ManualClock(NOW))
    await server.post("/push/log/hall", {"data": {}, "ts": 5.0})

    stale = await server.post("/push/log/hall", {"data": {}, "ts": 5})
    ahead = await server.post("/push/log/hall", {"data": {}, "ts": NOW + 300_001})

    assert stale.status_code == 409
    assert stale.json() == {"error": "non_monotonic_timestamp"}
    assert (ahead.status_code, ahead.json()) == (400, {"error": "ts is too far in the future"})


async def test_signatures_are_wanted_and_checked(serve: Any) -> None:
    server = serve(log(requireAuthorSignature=True))
    proof = sign_append_author("log/hall", {"n": 1}, PUB, PRIV)

    missing = await server.post("/push/log/hall", {"data": {"n": 1}})
    half = await server.post("/push/log/hall", {"data": {"n": 1}, "authorPubkey": PUB})
    wrong = await server.post("/push/log/hall", {"data": {"n": 2}, **proof})
    borrowed = await server.post("/push/log/hall", {"data": {"n": 1}, **proof}, key="0" * 64)
    good = await server.post("/push/log/hall", {"data": {"n": 1}, **proof}, key=PUB)

    for answer in (missing, half):
        assert answer.status_code == 400
        assert answer.json() == {"error": "append requires authorPubkey and authorSignature"}
    assert (wrong.status_code, wrong.json()) == (403, {"error": "invalid append author signature"})
    assert borrowed.status_code == 403
    assert borrowed.json() == {"error": "append author must be the request presenter"}
    assert good.status_code == 200
    (element,) = (await server.get("/pull/log/hall?last=1")).json()["data"]["items"]
    assert {k: v for k, v in element.items() if k != "ts"} == {"data": {"n": 1}, **proof}


async def test_what_is_not_kept_is_only_told_to_plugins(serve: Any) -> None:
    events: list[WriteEvent] = []
    collection = log(persist=False) | {"pushOnly": True}
    plugin = ServerPlugin("p", after_write=events.append)
    server = serve(collection, plugins=[plugin], clock=ManualClock(NOW))

    answer = await server.post("/push/log/hall", {"data": {"n": 1}})

    digest = compute_hash({"n": 1, "last": {"n": 1}})
    assert answer.json() == {"hash": digest, "timestamp": NOW}
    assert events == [
        WriteEvent("log", digest, NOW, {"room": "hall"}, {"n": 1}, None, None, "log/hall")
    ]
    assert await server.store.list_keys("") == []


async def test_chunks_are_out_of_reach(serve: Any) -> None:
    server = serve(log() | {"listable": True})
    await filled(server)
    (*_, chunk) = await server.store.list_keys("")

    assert chunk.startswith("~append/")
    assert (await server.get("/list/log")).json() == {"items": ["hall"], "hasMore": False}
    for path in (f"/pull/{chunk}", f"/pull/log/{chunk}", f"/pull/log/../{chunk}"):
        assert (await server.get(path)).status_code in {400, 404}
