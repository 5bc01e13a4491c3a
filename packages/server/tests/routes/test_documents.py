"""``/pull`` and ``/push`` of JSON documents."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_protocol.append_author import sign_doc_author
from starfish_protocol.hash import compute_hash
from starfish_protocol.testing import ManualClock
from starfish_server import MemoryObjectStore

HASH_OF_TITLE = compute_hash({"title": "hi"})
PUB = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
PRIV = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"


async def test_what_was_never_written_reads_as_empty(serve: Any) -> None:
    answer = await serve({}, clock=ManualClock(now_ms=5)).get("/pull/notes/ada")

    assert answer.status_code == 200
    assert answer.json() == {"data": {}, "hash": "", "timestamp": 5}
    assert answer.headers["etag"] == '""'
    assert answer.headers["content-type"] == "application/json"


async def test_a_push_is_pulled_back_with_its_hash(serve: Any) -> None:
    clock = ManualClock(now_ms=1000)
    server = serve({}, clock=clock)

    pushed = await server.push("notes/ada", {"title": "hi"})
    clock.advance(ms=7)
    pulled = await server.get("/pull/notes/ada")

    assert pushed.json() == {"hash": HASH_OF_TITLE, "timestamp": 1000}
    assert pulled.json() == {"data": {"title": "hi"}, "hash": HASH_OF_TITLE, "timestamp": 1007}
    assert pulled.headers["etag"] == f'"{HASH_OF_TITLE}"'
    stored = json.loads(await server.store.get_string("notes/ada"))
    assert stored == {"v": 1, "data": {"title": "hi"}, "ts": 1000, "hash": HASH_OF_TITLE}


async def test_keys_keep_their_order(serve: Any) -> None:
    server = serve({})
    await server.push("notes/ada", {"b": 1, "a": {"z": 1, "y": 2}})

    assert '{"b":1,"a":{"z":1,"y":2}}' in (await server.get("/pull/notes/ada")).text


async def test_a_stale_base_is_a_conflict_that_names_the_current_hash(serve: Any) -> None:
    server = serve({})
    first = (await server.push("notes/ada", {"n": 1})).json()["hash"]
    second = (await server.push("notes/ada", {"n": 2}, first)).json()["hash"]

    for base in (None, "", first, "0" * 64, "nonsense"):
        answer = await server.push("notes/ada", {"n": 3}, base)
        assert answer.status_code == 409
        assert answer.json() == {"error": "hash_mismatch", "currentHash": second}
    assert (await server.get("/pull/notes/ada")).json()["data"] == {"n": 2}


async def test_a_base_for_what_does_not_exist_is_a_conflict(serve: Any) -> None:
    answer = await serve({}).push("notes/ada", {"n": 3}, "0" * 64)

    assert answer.status_code == 409
    assert answer.json()["currentHash"] == ""


async def test_a_write_by_another_process_is_noticed(serve: Any) -> None:
    """The first router remembers a version that the second has replaced."""
    store = MemoryObjectStore()
    one, other = serve({}, store=store), serve({}, store=store)
    first = (await one.push("notes/ada", {"n": 1})).json()["hash"]
    second = (await other.push("notes/ada", {"n": 2}, first)).json()["hash"]

    stale = await one.push("notes/ada", {"n": 3}, first)
    current = await one.push("notes/ada", {"n": 3}, second)

    assert stale.status_code == 409
    assert stale.json()["currentHash"] == second
    assert current.status_code == 200


async def test_of_many_writers_with_one_base_one_wins(serve: Any) -> None:
    server = serve({})

    answers = await asyncio.gather(*(server.push("notes/ada", {"n": n}) for n in range(20)))

    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 19


async def test_a_client_that_has_the_version_gets_304(serve: Any) -> None:
    server = serve({})
    await server.push("notes/ada", {"title": "hi"})

    for tags in (f'"{HASH_OF_TITLE}"', f'W/"x", "{HASH_OF_TITLE}"', "*"):
        answer = await server.client.get("/pull/notes/ada", headers={"If-None-Match": tags})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == f'"{HASH_OF_TITLE}"'
    other = await server.client.get("/pull/notes/ada", headers={"If-None-Match": '"x"'})
    assert other.status_code == 200


async def test_a_checkpoint_of_an_ordinary_document_is_ignored(serve: Any) -> None:
    server = serve({})
    await server.push("notes/ada", {"title": "hi"})

    answer = await server.get("/pull/notes/ada?checkpoint=99999999999999&withKeyring=1")

    assert answer.json()["data"] == {"title": "hi"}


async def test_head_has_the_headers_of_get_and_options_names_the_methods(serve: Any) -> None:
    server = serve({})
    got = await server.get("/pull/notes/ada")

    head = await server.client.head("/pull/notes/ada")
    options = await server.client.options("/pull/notes/ada")
    deleted = await server.client.delete("/pull/notes/ada")

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]
    assert (options.status_code, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
    assert (deleted.status_code, deleted.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "Invalid JSON body"),
        (b"{", "Invalid JSON body"),
        (b'{"data":{"a":NaN}}', "Invalid JSON body"),
        (b"[]", "Body must be a JSON object"),
        (b"{}", "Missing or invalid data"),
        (b'{"data":[]}', "Missing or invalid data"),
        (b'{"data":null}', "Missing or invalid data"),
        (b'{"data":{},"baseHash":1}', "baseHash must be a string or null"),
        (
            b'{"data":{},"authorPubkey":"a"}',
            "author proof requires authorPubkey and authorSignature",
        ),
    ],
)
async def test_a_malformed_push_is_refused(serve: Any, body: bytes, error: str) -> None:
    server = serve({})

    answer = await server.client.post(
        "/push/notes/ada", content=body, headers={"content-type": "application/json"}
    )

    assert (answer.status_code, answer.json()) == (400, {"error": error})
    assert await server.store.list_keys("") == []


@pytest.mark.parametrize("content_type", ["text/plain", "application/jsonp", "*/*", "", None])
async def test_another_content_type_is_refused(serve: Any, content_type: str | None) -> None:
    headers = {} if content_type is None else {"content-type": content_type}

    answer = await serve({}).client.post("/push/notes/ada", content=b'{"data":{}}', headers=headers)

    assert answer.status_code == 415
    assert answer.json() == {"error": "Content-Type must be application/json"}


async def test_a_charset_is_no_other_content_type(serve: Any) -> None:
    answer = await serve({}).client.post(
        "/push/notes/ada",
        content=b'{"data":{}}',
        headers={"content-type": "Application/JSON; charset=utf-8"},
    )

    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["a..b", "%2e%2e", "a%0ab", "a%00", "a%20b", "%7E", "%C3%A9", ""])
async def test_an_unsafe_path_is_refused_on_every_route(serve: Any, path: str) -> None:
    server = serve({"listable": True, "storagePath": "notes/{identity}/{note}"})

    for answer in (
        await server.get(f"/pull/notes/{path}/x"),
        await server.push(f"notes/{path}/x", {}),
        await server.get(f"/list/notes/{path}"),
    ):
        assert answer.status_code == 400, answer.url
        assert answer.json() == {"error": "Invalid path parameter"}


async def test_a_path_of_no_collection_is_404(serve: Any) -> None:
    server = serve({"pullOnly": True}, {"name": "in", "storagePath": "in", "pushOnly": True})

    for answer in (
        await server.get("/pull/other/x"),
        await server.push("notes/ada", {}),
        await server.get("/pull/in"),
    ):
        assert (answer.status_code, answer.json()) == (404, {"error": "Collection not found"})


async def test_unsafe_keys_are_dropped_at_every_depth(serve: Any) -> None:
    server = serve({})
    unsafe = {"__proto__": 1, "constructor": {}, "prototype": [], "__class__": 1, "__dict__": 1}
    raw = json.dumps({"data": {**unsafe, "a": [[{**unsafe, "b": 1}]]}})
    raw = raw.replace("constructor", "\\u0063onstructor")

    pushed = await server.client.post(
        "/push/notes/ada", content=raw, headers={"content-type": "application/json"}
    )

    assert (await server.get("/pull/notes/ada")).json()["data"] == {"a": [[{"b": 1}]]}
    assert pushed.json()["hash"] == compute_hash({"a": [[{"b": 1}]]})


async def test_the_text_of_an_unsafe_key_may_be_a_value(serve: Any) -> None:
    server = serve({})
    data = {"note": "the constructor of __proto__", "list": ["__dict__"], 'a"constructor': 1}
    await server.push("notes/ada", data)

    assert (await server.get("/pull/notes/ada")).json()["data"] == data


async def test_an_expired_document_reads_as_never_written(serve: Any) -> None:
    clock = ManualClock(now_ms=0)
    server = serve({"ttlMs": 100, "listable": True}, clock=clock)
    first = (await server.push("notes/ada", {"n": 1})).json()["hash"]
    clock.advance(ms=99)
    assert (await server.get("/pull/notes/ada")).json()["data"] == {"n": 1}
    clock.advance(ms=1)

    assert (await server.get("/pull/notes/ada")).json()["hash"] == ""
    assert (await server.get("/list/notes")).json()["items"] == []
    stale = await server.push("notes/ada", {"n": 2}, first)
    assert (stale.status_code, stale.json()["currentHash"]) == (409, "")
    assert (await server.push("notes/ada", {"n": 2})).status_code == 200
    assert (await server.get("/pull/notes/ada")).json()["data"] == {"n": 2}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"cacheDurationMs": 60_000}, "public, max-age=60"),
        ({"cacheDurationMs": 60_000, "readRoles": ["a"]}, "private, max-age=60"),
        (
            {"cacheDurationMs": 999, "fieldPermissions": {"x": {"readRoles": ["a"]}}},
            "private, max-age=0",
        ),
    ],
)
async def test_what_may_be_cached(serve: Any, fields: Any, expected: str | None) -> None:
    answer = await serve(fields).get("/pull/notes/ada", roles="a")

    assert answer.headers.get("cache-control") == expected


async def test_a_schema_violation_is_told_with_its_message_path_and_validator(serve: Any) -> None:
    schema = {"properties": {"tags": {"items": {"type": "string"}}}, "required": ["tags"]}
    server = serve({"objectSchema": schema})

    answer = await server.push("notes/ada", {"tags": ["a", 1]})

    assert answer.status_code == 400
    assert answer.json() == {
        "error": "Schema validation failed: 1 is not of type 'string'",
        "path": ["tags", 1],
        "validator": "type",
    }
    assert (await server.push("notes/ada", {})).json()["validator"] == "required"
    assert (await server.push("notes/ada", {"tags": []})).status_code == 200


async def test_a_signed_document_keeps_its_author(serve: Any) -> None:
    server = serve({})
    proof = sign_doc_author("notes/ada", {"n": 1}, PUB, PRIV)

    pushed = await server.post("/push/notes/ada", {"data": {"n": 1}, **proof}, key=PUB)
    pulled = (await server.get("/pull/notes/ada")).json()

    assert pushed.status_code == 200
    assert {
        "authorPubkey": pulled["authorPubkey"],
        "authorSignature": pulled["authorSignature"],
    } == proof


async def test_a_wrong_proof_is_refused(serve: Any) -> None:
    server = serve({})
    proof = sign_doc_author("notes/ada", {"n": 1}, PUB, PRIV)

    elsewhere = await server.post("/push/notes/ben", {"data": {"n": 1}, **proof})
    changed = await server.post("/push/notes/ada", {"data": {"n": 2}, **proof})
    borrowed = await server.post("/push/notes/ada", {"data": {"n": 1}, **proof}, key="0" * 64)

    for answer in (elsewhere, changed):
        assert (answer.status_code, answer.json()["error"]) == (
            403,
            "invalid document author signature",
        )
    assert borrowed.status_code == 403
    assert borrowed.json()["error"] == "document author must be the request presenter"


async def test_a_proof_in_a_namespace_signs_the_path_without_it(serve: Any) -> None:
    server = serve(namespaces={"acme": [{}]})
    proof = sign_doc_author("notes/ada", {"n": 1}, PUB, PRIV)

    pushed = await server.post("/acme/push/notes/ada", {"data": {"n": 1}, **proof})

    assert pushed.status_code == 200
    assert await server.store.list_keys("") == ["acme/notes/ada"]
    assert (await server.get("/acme/pull/notes/ada")).json()["data"] == {"n": 1}
    assert (await server.get("/pull/notes/ada")).status_code == 404


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[]",
        '{"v":1,"data":{},"ts":1}',
        '{"v":2,"data":{},"ts":1,"hash":"' + "0" * 64 + '"}',
        '{"v":1,"data":{"a":1},"ts":1,"hash":"short"}',
        '{"v":1,"data":{"a":1},"ts":1,"hash":"' + "0" * 64,
        '{"v":1,"type":"append","log":"x"}',
    ],
)
async def test_a_damaged_document_is_reported_and_never_overwritten(serve: Any, text: str) -> None:
    server = serve({}, store=MemoryObjectStore({"notes/ada": text}))

    for answer in (
        await server.get("/pull/notes/ada"),
        await server.push("notes/ada", {"n": 1}),
        await server.push("notes/ada", {"n": 1}, "0" * 64),
    ):
        assert (answer.status_code, answer.json()) == (503, {"error": "document_damaged"})
    assert await server.store.get_string("notes/ada") == text


async def test_a_document_of_another_layout_is_read(serve: Any) -> None:
    text = json.dumps({"hash": HASH_OF_TITLE, "ts": 1, "data": {"title": "hi"}, "v": 1}, indent=1)
    server = serve({}, store=MemoryObjectStore({"notes/ada": text}))

    assert (await server.get("/pull/notes/ada")).json()["data"] == {"title": "hi"}
    assert (await server.push("notes/ada", {"n": 1}, HASH_OF_TITLE)).status_code == 200


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=6), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(data=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON, max_size=5))
async def test_whatever_is_pushed_comes_back_with_the_clients_hash(serve: Any, data: Any) -> None:
    server = serve({})

    pushed = await server.push("notes/ada", data)
    pulled = (await server.get("/pull/notes/ada")).json()

    # A JSON number is a double: an integer beyond 2^53 may come back as the nearest one.
    assert compute_hash(pulled["data"]) == pulled["hash"] == pushed.json()["hash"]
    assert pulled["hash"] == compute_hash(data)
