"""Many documents in one answer, and bundles."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from starfish_protocol.testing import ManualClock

NOTES: dict[str, Any] = {"storagePath": "notes/{identity}/{note}"}
LOG = {
    "name": "log", "storagePath": "log/{room}",
    "appendOnly": {"type": "by_timestamp", "requireAuthorSignature": False},
}  # fmt: skip


async def batch(server: Any, collections: str, **query: Any) -> httpx.Response:
    headers = query.pop("headers", {})
    texts = {name: json.dumps(value) for name, value in query.items()}
    return await server.client.get(
        "/batch/pull", params={"collections": collections, **texts}, headers=headers
    )


async def test_one_entry_a_set_in_order(serve: Any) -> None:
    server = serve(NOTES, {"name": "news", "storagePath": "news"}, clock=ManualClock(9))
    first = (await server.push("notes/ada/1", {"n": 1})).json()["hash"]
    sets = [{"identity": "ada", "note": note} for note in ("2", "1", "2")]

    answer = await batch(server, "notes,news,missing", params={"notes": sets})

    empty = {"data": {}, "hash": "", "timestamp": 9}
    assert answer.json() == {
        "collections": {
            "notes": [
                empty,
                {"data": {"n": 1}, "hash": first, "timestamp": 9},
                {"error": "repeated_params"},
            ],
            "news": [empty],
            "missing": [{"error": "Collection not found"}],
        }
    }


async def test_the_identity_is_the_callers_unless_given(serve: Any) -> None:
    server = serve(NOTES)
    await server.push("notes/ada/1", {"n": 1})

    ada = await batch(server, "notes", params={"notes": [{"note": "1"}]}, headers={"x-user": "ada"})
    anonymous = await batch(server, "notes", params={"notes": [{"note": "1"}]})

    assert ada.json()["collections"]["notes"][0]["data"] == {"n": 1}
    assert anonymous.json()["collections"]["notes"] == [
        {"error": "Missing required path parameter"}
    ]


async def test_a_refused_entry_leaves_the_others(serve: Any) -> None:
    server = serve(
        {**NOTES, "readRoles": ["self"]},
        {"name": "in", "storagePath": "in", "pushOnly": True},
        {"name": "photos", "storagePath": "photos", "allowedMimeTypes": ["image/png"]},
    )
    sets = [{"identity": who, "note": "1"} for who in ("ada", "ben", "..", "a b")]

    answer = await batch(
        server, "notes,in,photos", params={"notes": sets}, headers={"x-user": "ada"}
    )

    collections = answer.json()["collections"]
    errors = [entry.get("error") for entry in collections["notes"]]
    assert errors == [None, "Forbidden", "Invalid path parameter", "Invalid path parameter"]
    assert collections["in"] == [{"error": "Collection not found"}]
    assert "error" in collections["photos"][0]


async def test_append_only_documents_bound_themselves(serve: Any) -> None:
    server = serve(LOG, NOTES, clock=ManualClock(100), max_batch_append_elements=4)
    for n in range(4):
        await server.post("/push/log/hall", {"data": {"n": n}})
    hall = {"room": "hall"}

    async def entries(*bounds: Any) -> list[Any]:
        sets = {"log": [hall] * len(bounds), "notes": [{"identity": "a", "note": "b"}]}
        answer = await batch(
            server,
            "log,notes",
            params=sets,
            appendParams={"log": list(bounds), "notes": [{"last": 1}]},
        )
        assert answer.json()["collections"]["notes"] == [{"error": "append_params_not_supported"}]
        return [
            entry.get("error") or [element["data"]["n"] for element in entry["data"]["items"]]
            for entry in answer.json()["collections"]["log"]
        ]

    assert await entries({"last": 1}, {"since": 101}) == [[3], [2, 3]]
    assert await entries({"checkpoint": 102}, {"limit": 1, "last": 3}) == [[3], [3]]
    assert await entries(None, {}, {"full": False, "last": 0}) == [
        "pull_bound_required",
        "pull_bound_required",
        [],
    ]
    # Together no more than four elements: what would be too much is refused whole.
    assert await entries({"last": 2}, {"since": 0}, {"limit": 1}) == [
        [2, 3], "Batch append element budget exceeded", [3],
    ]  # fmt: skip
    # So is a batch that says by itself that it is too much.
    too_many = await batch(
        server, "log", params={"log": [hall] * 2}, appendParams={"log": [{"last": 3}, {"limit": 2}]}
    )
    assert (too_many.status_code, too_many.json()) == (
        400,
        {"error": "Batch append element budget exceeded"},
    )


@pytest.mark.parametrize(
    "bounds",
    [
        [{"full": True}],
        [{"last": "1"}],
        [{"last": 1.5}],
        [{"limit": True}],
        [{"since": 100.9}],
        [{"checkpoint": -1}],
        [],
        [{"last": 1}, {"last": 1}],
        ["last"],
    ],
)
async def test_bounds_that_make_no_sense_are_400_for_the_request(serve: Any, bounds: Any) -> None:
    server = serve(LOG)
    await server.post("/push/log/hall", {"data": {}})

    answer = await batch(
        server, "log", params={"log": [{"room": "hall"}]}, appendParams={"log": bounds}
    )

    assert answer.status_code == 400


async def test_a_batch_returns_no_more_bytes_than_its_budget(serve: Any) -> None:
    """An entry beyond the budget says so, and what fits after a refusal of its own is returned."""
    server = serve({"name": "notes", "storagePath": "notes/{n}"}, max_batch_bytes=5_000)
    for n in range(4):
        await server.push(f"notes/{n}", {"text": "x" * 2_000})
    await server.push("notes/huge", {"text": "x" * 20_000})

    async def outcomes(*names: str) -> list[str]:
        answer = await batch(server, "notes", params={"notes": [{"n": name} for name in names]})
        assert len(answer.content) < 25_000
        entries = answer.json()["collections"]["notes"]
        return [entry.get("error", "data") for entry in entries]

    large = "batch_too_large"
    assert await outcomes("0", "1", "2", "3") == ["data", "data", large, large]
    assert await outcomes("0", "0", "0", "1") == [
        "data",
        "repeated_params",
        "repeated_params",
        "data",
    ]
    assert await outcomes("huge", "0") == ["data", large]
    assert await outcomes("0", "huge") == ["data", large]


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("", "Missing required query parameter: collections"),
        ("collections=", "Missing required query parameter: collections"),
        ("collections=notes&params={", "Invalid params parameter"),
        ("collections=notes&params=[]", "Invalid params parameter"),
        ('collections=notes&params={"notes":{}}', "Invalid params parameter"),
        ('collections=notes&params={"notes":[1]}', "Invalid params parameter"),
        ('collections=notes&params={"notes":["note"]}', "Invalid params parameter"),
        ("collections=notes&appendParams=1", "Invalid appendParams parameter"),
        ('collections=notes&appendParams={"notes":[1]}', "Invalid appendParams parameter"),
    ],
)
async def test_a_malformed_batch_is_refused(serve: Any, query: str, error: str) -> None:
    answer = await serve(NOTES).get(f"/batch/pull?{query}")

    assert (answer.status_code, answer.json()) == (400, {"error": error})


async def test_parameters_may_be_numbers_and_only_commas_ask_for_nothing(serve: Any) -> None:
    server = serve({"name": "notes", "storagePath": "notes/{n}"})
    await server.push("notes/7", {"n": 7})

    answer = await batch(server, "notes", params={"notes": [{"n": 7}, {"n": True}, {"n": None}]})
    nothing = await server.get("/batch/pull?collections=,,")

    first, *others = answer.json()["collections"]["notes"]
    assert first["data"] == {"n": 7}
    assert others == [{"error": "Missing required path parameter"}] * 2
    assert (nothing.status_code, nothing.json()) == (200, {"collections": {}})


async def test_a_batch_has_at_most_100_documents(serve: Any) -> None:
    server = serve(NOTES)
    sets = [{"identity": "a", "note": str(n)} for n in range(101)]

    many = await batch(server, "notes", params={"notes": sets})
    names = await batch(server, ",".join(f"c{n}" for n in range(101)))

    for answer in (many, names):
        assert (answer.status_code, answer.json()) == (
            400,
            {"error": "Too many collections"},
        )
    assert (await batch(server, "notes", params={"notes": sets[1:]})).status_code == 200


async def test_a_batch_counts_each_document_against_the_rate_limit(serve: Any) -> None:
    server = serve({**NOTES, "rateLimit": {"pull": {"windowMs": 1000, "maxRequests": 2}}})
    sets = [{"identity": "a", "note": str(n)} for n in range(3)]

    entries = (await batch(server, "notes", params={"notes": sets})).json()["collections"]["notes"]

    assert [entry.get("error") for entry in entries] == [None, None, "Rate limit exceeded"]


async def test_a_bundle_is_pulled_together_and_pushed_apart(serve: Any) -> None:
    member = {"storagePath": "users/{identity}", "bundle": "user"}
    server = serve(
        {"name": "profile", **member},
        {"name": "secrets", **member, "readRoles": ["self"]},
        {"name": "inbox", **member, "pushOnly": True},
        clock=ManualClock(9),
    )
    profile = (await server.push("users/ada/profile", {"n": 1})).json()["hash"]
    secrets = (await server.push("users/ada/secrets", {"n": 2})).json()["hash"]

    own = await server.get("/pull/users/ada", user="ada")
    other = await server.get("/pull/users/ada", user="eve")

    shown = {"profile": {"data": {"n": 1}, "hash": profile}}
    assert other.json() == {"collections": shown, "timestamp": 9}
    hidden = {"secrets": {"data": {"n": 2}, "hash": secrets}}
    assert own.json() == {"collections": shown | hidden, "timestamp": 9}
    assert own.headers["etag"] != other.headers["etag"]
    unchanged = await server.client.get(
        "/pull/users/ada", headers={"x-user": "ada", "if-none-match": own.headers["etag"]}
    )
    assert unchanged.status_code == 304
    assert (await server.push("users/ada", {})).status_code == 404
    assert (await server.push("users/ada/profile", {"n": 3})).status_code == 409
    assert await server.store.list_keys("") == ["users/ada/profile", "users/ada/secrets"]


async def test_a_bundle_that_shows_nothing_is_refused(serve: Any) -> None:
    server = serve({"bundle": "b", "readRoles": ["admin"]})

    assert (await server.get("/pull/notes/ada")).status_code == 401
    assert (await server.get("/pull/notes/ada", user="eve")).status_code == 403
