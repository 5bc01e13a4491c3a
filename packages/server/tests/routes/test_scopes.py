"""A credential for some documents: asked for every path that a request reaches."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from starfish_server import AuthResult, SqliteObjectStore
from starfish_server.auth import TokenFile, create_token_role_resolver

MEMBER = {"readRoles": ["member"], "writeRoles": ["member"]}
APPEND = {"type": "by_timestamp", "requireAuthorSignature": False}
COLLECTIONS = (
    {**MEMBER, "name": "notes", "storagePath": "notes/{id}", "listable": True},
    {**MEMBER, "name": "log", "storagePath": "log/{id}", "appendOnly": APPEND},
    {**MEMBER, "name": "photos", "storagePath": "photos/{id}", "allowedMimeTypes": ["image/*"]},
    {**MEMBER, "name": "front", "storagePath": "card/{id}", "bundle": "card"},
    {**MEMBER, "name": "back", "storagePath": "card/{id}", "bundle": "card"},
)
REACHED = ["notes", "notes/a", "log/a", "photos/a", "card/a/front"]


class Narrow(AuthResult):
    def allows(self, action: str, key: str) -> bool:
        return key in REACHED


async def scoped(request: Request) -> AuthResult:
    if request.headers.get("x-user") == "owner":
        return AuthResult("owner", ["member"])
    return AuthResult("guest", ["member"], scope_paths=REACHED)


async def narrowed(request: Request) -> AuthResult:
    if request.headers.get("x-user") == "owner":
        return AuthResult("owner", ["member"])
    return Narrow("guest", ["member"])


@pytest.fixture(params=[scoped, narrowed])
async def served(request: Any, serve: Any, tmp_path: Path) -> Any:
    store = SqliteObjectStore(tmp_path / "documents.sqlite")
    served = serve(*COLLECTIONS, store=store, role_resolver=request.param)
    for name in "ab":
        for path in ("notes", "card"):
            suffixes = ("/front", "/back") if path == "card" else ("",)
            for suffix in suffixes:
                body = {"data": {"of": f"{path}/{name}{suffix}"}, "baseHash": None}
                pushed = await served.post(f"/push/{path}/{name}{suffix}", body, user="owner")
                assert pushed.status_code == 200
        await served.post(f"/push/log/{name}", {"data": {"of": name}}, user="owner")
        await upload(served, name, user="owner")
    yield served
    await store.close()


async def upload(served: Any, name: str, **headers: str) -> Any:
    sent = {"content-type": "image/png"} | {f"x-{key}": value for key, value in headers.items()}
    return await served.client.post(f"/push/photos/{name}", content=b"x", headers=sent)


async def test_reads_stay_within_the_scope(served: Any) -> None:
    for path in ("notes/%s", "log/%s?last=1", "photos/%s"):
        assert (await served.get("/pull/" + path % "a")).status_code == 200
        assert (await served.get("/pull/" + path % "b")).status_code == 403


async def test_writes_stay_within_the_scope(served: Any) -> None:
    assert (await served.push("notes/a", {}, "0" * 64)).status_code == 409
    assert (await served.push("notes/b", {}, "0" * 64)).status_code == 403
    assert (await served.post("/push/log/a", {"data": {}})).status_code == 200
    assert (await served.post("/push/log/b", {"data": {}})).status_code == 403
    assert (await upload(served, "a")).status_code == 200
    assert (await upload(served, "b")).status_code == 403


async def test_a_listing_leaves_out_the_rest(served: Any) -> None:
    assert (await served.get("/list/notes")).json()["items"] == ["a"]
    assert (await served.get("/list/notes", user="owner")).json()["items"] == ["a", "b"]


async def test_each_entry_of_a_batch_is_asked_for(served: Any) -> None:
    sets = json.dumps({"notes": [{"id": "a"}, {"id": "b"}]})
    answer = await served.client.get("/batch/pull", params={"collections": "notes", "params": sets})

    first, second = answer.json()["collections"]["notes"]
    assert first["data"] == {"of": "notes/a"}
    assert second == {"error": "Forbidden"}


async def test_each_member_of_a_bundle_is_asked_for(served: Any) -> None:
    assert list((await served.get("/pull/card/a")).json()["collections"]) == ["front"]
    assert (await served.get("/pull/card/b")).status_code == 403


async def test_each_event_is_asked_for(served: Any, stream: Any) -> None:
    async with stream(served, "/events?since=0") as events:
        told = await events.events(4)

    assert {event["key"] for event in told} == {"notes/a", "card/a/front", "log/a", "photos/a"}


async def test_a_token_of_a_namespace_is_good_nowhere_else(serve: Any, tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "tokens.json")
    token = await asyncio.to_thread(
        tokens.create, "ada", roles=["member"], namespaces=["acme"], scope_paths=["notes/**"]
    )
    notes = COLLECTIONS[0]
    served = serve(
        notes,
        namespaces={"acme": [notes], "other": [notes]},
        role_resolver=create_token_role_resolver(tokens),
    )
    headers = {"authorization": f"Bearer {token}"}

    statuses = [
        (await served.client.get(f"{prefix}/pull/notes/1", headers=headers)).status_code
        for prefix in ("", "/acme", "/other")
    ]

    assert statuses == [403, 200, 403]
