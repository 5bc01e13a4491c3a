"""Fields that not every reader or writer of a document may touch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from starfish_protocol.append_author import sign_doc_author
from starfish_protocol.hash import compute_hash
from starfish_protocol.testing import ManualClock
from starfish_server import SqliteObjectStore

GUARDED = {
    "fieldPermissions": {
        "salary": {"readRoles": ["hr"], "writeRoles": ["hr"]},
        "notes": {"readRoles": ["hr"]},
        "grade": {"writeRoles": ["hr"]},
    }
}
FULL = {"name": "Ada", "salary": 7, "notes": "x", "grade": 1}
PUB = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
PRIV = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"


@pytest.fixture
async def server(serve: Any) -> Any:
    server = serve(GUARDED)
    assert (await server.push("notes/ada", FULL, roles="hr")).status_code == 200
    return server


async def data_of(server: Any) -> Any:
    return (await server.get("/pull/notes/ada", roles="hr")).json()["data"]


async def test_hidden_fields_are_left_out_and_the_version_is_a_token(server: Any) -> None:
    full = (await server.get("/pull/notes/ada", roles="hr")).json()
    part = (await server.get("/pull/notes/ada")).json()

    assert full["data"] == FULL
    assert full["hash"] == compute_hash(FULL)
    assert part["data"] == {"name": "Ada", "grade": 1}
    assert re.fullmatch("[0-9a-f]{64}", part["hash"])
    assert part["hash"] not in {full["hash"], compute_hash(part["data"])}


async def test_the_token_of_a_version_is_stable_and_another_one_for_each_version(
    serve: Any, server: Any
) -> None:
    first = (await server.get("/pull/notes/ada")).json()["hash"]
    same = (await server.get("/pull/notes/ada")).json()["hash"]
    restarted = (await serve(GUARDED, store=server.store).get("/pull/notes/ada")).json()["hash"]
    changed = {**FULL, "salary": 8}
    await server.push("notes/ada", changed, compute_hash(FULL), roles="hr")
    second = (await server.get("/pull/notes/ada")).json()["hash"]

    assert first == same == restarted != second


async def test_two_stores_with_equal_content_give_different_tokens(serve: Any, server: Any) -> None:
    clock = ManualClock()
    tokens = set()
    for _ in range(2):
        other = serve(GUARDED, clock=clock)
        await other.push("notes/ada", FULL, roles="hr")
        tokens.add((await other.get("/pull/notes/ada")).json()["hash"])

    assert len(tokens) == 2


async def test_no_answer_tells_the_hash_of_the_whole_document(
    serve: Any, stream: Any, tmp_path: Path
) -> None:
    """Every place where a version appears, for a caller from whom a field is hidden."""
    store = SqliteObjectStore(tmp_path / "documents.sqlite")
    bundled = [{**GUARDED, "name": n, "storagePath": "card/{id}", "bundle": "b"} for n in "pq"]
    server = serve(GUARDED, *bundled, store=store)
    secret = {"name": "Ada", "grade": 1, "salary": 7}
    for path in ("notes/ada", "card/1/p"):
        await server.push(path, secret, roles="hr")
    seen = (await server.get("/pull/notes/ada")).json()["hash"]
    answers = (
        await server.get("/pull/notes/ada"),
        await server.get('/batch/pull?collections=notes&params={"notes":[{"identity":"ada"}]}'),
        await server.get("/pull/card/1"),
        await server.push("notes/ada", {"name": "A"}, "0" * 64),
        await server.push("notes/ada", {"name": "Ada", "grade": 1}, seen),
    )
    told = [answer.text + repr(answer.headers.raw) for answer in answers]
    async with stream(server, "/events?since=0") as events:
        told.append(repr(await events.events(3)))
    await store.close()

    assert [text for text in told if compute_hash(secret) in text] == []
    assert all(re.search("[0-9a-f]{64}", text) for text in told)


async def test_the_hash_of_the_whole_document_is_not_taken_from_who_may_not_know_it(
    server: Any,
) -> None:
    """A push that succeeds for the right guess would confirm the guess."""
    answer = await server.push("notes/ada", {"name": "A", "grade": 1}, compute_hash(FULL))

    assert answer.status_code == 409
    assert answer.json()["currentHash"] == (await server.get("/pull/notes/ada")).json()["hash"]


async def test_the_signature_over_hidden_fields_is_hidden_as_well(serve: Any) -> None:
    server = serve(GUARDED)
    proof = sign_doc_author("notes/ada", FULL, PUB, PRIV)
    body = {"data": FULL, "baseHash": None, **proof}
    assert (await server.post("/push/notes/ada", body, roles="hr")).status_code == 200

    assert "authorSignature" in (await server.get("/pull/notes/ada", roles="hr")).json()
    assert "authorSignature" not in (await server.get("/pull/notes/ada")).json()


async def test_each_view_has_its_own_entity_tag(server: Any) -> None:
    full = await server.get("/pull/notes/ada", roles="hr")
    part = await server.get("/pull/notes/ada")

    assert full.headers["etag"] != part.headers["etag"]
    promoted = await server.client.get(
        "/pull/notes/ada", headers={"x-roles": "hr", "if-none-match": part.headers["etag"]}
    )
    assert promoted.json()["data"] == FULL


async def test_the_batch_hides_the_same_fields(server: Any) -> None:
    answer = await server.get('/batch/pull?collections=notes&params={"notes":[{"identity":"ada"}]}')

    assert answer.json()["collections"]["notes"][0]["data"] == {"name": "Ada", "grade": 1}


async def test_a_push_keeps_what_its_author_could_not_see(server: Any) -> None:
    seen = (await server.get("/pull/notes/ada")).json()

    pushed = await server.push("notes/ada", {"name": "Ada L.", "grade": 1}, seen["hash"])

    merged = {**FULL, "name": "Ada L."}
    assert await data_of(server) == merged
    assert pushed.json()["hash"] == (await server.get("/pull/notes/ada")).json()["hash"]
    assert pushed.json()["hash"] != compute_hash(merged)


async def test_a_field_that_may_be_written_blindly_is_overwritten(server: Any) -> None:
    seen = (await server.get("/pull/notes/ada")).json()

    pushed = await server.push("notes/ada", {**seen["data"], "notes": "mine"}, seen["hash"])

    assert pushed.status_code == 200
    assert (await data_of(server))["notes"] == "mine"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"grade": 2}, "grade"),
        ({"grade": True}, "grade"),
        ({"salary": 8}, "salary"),
        ({"salary": 7}, "salary"),  # as it is: the answer must not tell
    ],
)
async def test_a_field_that_may_not_be_written_is_403(server: Any, change: Any, field: str) -> None:
    seen = (await server.get("/pull/notes/ada")).json()

    answer = await server.push("notes/ada", {**seen["data"], **change}, seen["hash"])

    assert answer.status_code == 403
    assert answer.json() == {"error": f'Forbidden: field "{field}" requires roles: hr'}
    assert await data_of(server) == FULL


async def test_removing_a_field_is_writing_it(server: Any) -> None:
    seen = (await server.get("/pull/notes/ada")).json()

    assert (await server.push("notes/ada", {"name": "Ada"}, seen["hash"])).status_code == 403
    assert await data_of(server) == FULL


async def test_an_equal_number_is_no_change(server: Any) -> None:
    seen = (await server.get("/pull/notes/ada")).json()

    assert (await server.push("notes/ada", {"grade": 1.0}, seen["hash"])).status_code == 200


async def test_a_new_document_obeys_the_same_rules(serve: Any) -> None:
    server = serve(GUARDED)

    assert (await server.push("notes/ben", {"grade": 1})).status_code == 403
    assert (await server.push("notes/ben", {"name": "Ben"})).status_code == 200


async def test_the_schema_holds_for_the_whole_document(serve: Any) -> None:
    schema = {"required": ["salary"], "properties": {"name": {"type": "string"}}}
    server = serve({**GUARDED, "objectSchema": schema})
    await server.push("notes/ada", FULL, roles="hr")
    base = (await server.get("/pull/notes/ada")).json()["hash"]

    good = await server.push("notes/ada", {"name": "A", "grade": 1}, base)
    bad = await server.push("notes/ada", {"name": 7, "grade": 1}, good.json()["hash"])

    assert good.status_code == 200
    assert (bad.status_code, bad.json()["path"]) == (400, ["name"])


async def test_a_violation_of_what_is_hidden_says_nothing_of_it(serve: Any) -> None:
    schema = {"properties": {"salary": {"type": "integer"}}, "maxProperties": 2}
    server = serve({**GUARDED, "objectSchema": schema})
    await server.push("notes/ada", {"salary": 7, "grade": 1}, roles="hr")
    base = (await server.get("/pull/notes/ada")).json()["hash"]

    bad = await server.push("notes/ada", {"name": "A", "grade": 1}, base)

    assert bad.json() == {
        "error": "Schema validation failed: not valid",
        "path": [],
        "validator": "schema",
    }


async def test_nobody_signs_what_they_do_not_see(server: Any) -> None:
    seen = (await server.get("/pull/notes/ada")).json()
    proof = sign_doc_author("notes/ada", seen["data"], PUB, PRIV)

    answer = await server.post(
        "/push/notes/ada", {"data": seen["data"], "baseHash": seen["hash"], **proof}
    )

    assert answer.status_code == 403


async def test_a_conflict_comes_before_the_fields(server: Any) -> None:
    answer = await server.push("notes/ada", {"grade": 9}, "0" * 64)

    assert answer.status_code == 409
