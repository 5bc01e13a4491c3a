"""Who may do what, on every route, and that nobody learns what they may not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from starfish_protocol.plugins import AuthorizeContext, AuthorizeResult, ServerPlugin
from starfish_server import AuthResult, MemoryObjectStore, StoreContext
from starfish_server.auth import AuthError

PRIVATE = {"readRoles": ["self", "admin"], "writeRoles": ["self"], "listable": True,
           "storagePath": "notes/{identity}/{note}"}  # fmt: skip


async def test_self_is_whoever_the_path_names(serve: Any) -> None:
    server = serve(PRIVATE)

    assert (await server.push("notes/ada/1", {"n": 1}, user="ada")).status_code == 200
    assert (await server.get("/pull/notes/ada/1", user="ada")).json()["data"] == {"n": 1}
    assert (await server.get("/pull/notes/ada/1", user="eve", roles="admin")).status_code == 200
    assert (await server.get("/pull/notes/ada/1", user="eve")).status_code == 403
    assert (await server.push("notes/ada/1", {}, user="eve", roles="admin")).status_code == 403
    assert (await server.get("/list/notes/ada", user="eve")).status_code == 403
    assert (await server.get("/list/notes/ada", user="ada")).json()["items"] == ["1"]


async def test_a_resolver_may_grant_self_as_a_role(serve: Any) -> None:
    answer = await serve(PRIVATE).get("/pull/notes/ada/1", user="eve", roles="self")

    assert answer.status_code == 200


async def test_anonymous_is_401_and_known_is_403(serve: Any) -> None:
    server = serve({"readRoles": ["admin"], "writeRoles": []})

    anonymous = await server.get("/pull/notes/ada")
    known = await server.get("/pull/notes/ada", user="eve")

    assert (anonymous.status_code, anonymous.json()) == (401, {"error": "Unauthorized"})
    assert anonymous.headers["www-authenticate"] == "Bearer"
    assert (known.status_code, known.json()) == (403, {"error": "Forbidden"})
    assert (await server.push("notes/ada", {}, user="eve", roles="admin")).status_code == 403


@pytest.mark.parametrize("kind", [{}, {"allowedMimeTypes": ["image/png"]},
                                  {"appendOnly": {"type": "by_timestamp"}}])  # fmt: skip
async def test_a_refusal_does_not_tell_whether_there_is_a_document(serve: Any, kind: Any) -> None:
    store = MemoryObjectStore({"notes/ada": "anything"})
    server = serve({"readRoles": ["self"], "writeRoles": ["self"], **kind}, store=store)

    for user in ({}, {"user": "eve"}):
        answers = [
            [
                await server.get(f"/pull/notes/{name}", **user),
                await server.push(f"notes/{name}", {}, **user),
            ]
            for name in ("ada", "ben")
        ]
        for there, missing in zip(*answers, strict=True):
            assert there.status_code in {401, 403}
            assert (there.status_code, there.content) == (missing.status_code, missing.content)
            assert there.headers == missing.headers


async def test_the_resolver_is_asked_once_a_request(serve: Any) -> None:
    asked = 0

    async def resolver(request: Request) -> AuthResult:
        nonlocal asked
        asked += 1
        return AuthResult("ada", [])

    server = serve(
        PRIVATE, {"name": "more", "storagePath": "more/{identity}"}, role_resolver=resolver
    )
    params = '{"notes":[{"note":"1"},{"note":"2"}],"more":[{}]}'

    answer = await server.get(f"/batch/pull?collections=notes,more&params={params}")

    assert [len(each) for each in answer.json()["collections"].values()] == [2, 1]
    assert asked == 1


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (AuthError(), 401, "Unauthorized"),
        (AuthError("token expired"), 401, "token expired"),
        (AuthError("blocked", status=403), 403, "blocked"),
        (AuthError("too large", status=413), 413, "too large"),
        (HTTPException(403, "no"), 403, "Forbidden"),
        (HTTPException(500, "secret"), 401, "Unauthorized"),
        (ValueError("secret"), 401, "Unauthorized"),
        (TimeoutError("a database of its own"), 401, "Unauthorized"),
    ],
)
async def test_a_resolver_that_raises_refuses(
    serve: Any, error: Exception, status: int, text: str
) -> None:
    async def resolver(_request: Request) -> AuthResult:
        raise error

    server = serve(PRIVATE, {"name": "open", "storagePath": "open"}, role_resolver=resolver)

    refused = await server.get("/pull/notes/ada/1")
    public = await server.get("/pull/open")

    assert (refused.status_code, refused.json()) == (status, {"error": text})
    assert public.status_code == 200


async def test_a_slow_resolver_is_503_and_cancelled(serve: Any) -> None:
    cancelled = asyncio.Event()

    async def resolver(_request: Request) -> AuthResult:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        raise AssertionError

    server = serve(PRIVATE, role_resolver=resolver, role_resolver_timeout=0.01)

    answer = await server.get("/pull/notes/ada/1")

    assert (answer.status_code, answer.json()) == (503, {"error": "Role resolver timed out"})
    assert cancelled.is_set()


async def test_a_resolver_may_wait_and_may_read_the_body(serve: Any) -> None:
    async def resolver(request: Request) -> AuthResult:
        await asyncio.sleep(0)
        return AuthResult((await request.json())["data"]["user"], [])

    server = serve({"writeRoles": ["self"], "maxBodyBytes": 200}, role_resolver=resolver)

    assert (await server.push("notes/ada", {"user": "ada"})).status_code == 200
    assert (await server.push("notes/ada", {"user": "eve"})).status_code == 403
    large = await server.push("notes/ada", {"user": "ada", "text": "x" * 200})
    assert (large.status_code, large.json()) == (413, {"error": "Payload too large"})


async def test_an_enricher_adds_roles_for_the_document(serve: Any) -> None:
    async def enricher(auth: AuthResult, params: dict[str, str]) -> list[str]:
        return ["member"] if params["note"] == "shared" and auth.identity == "eve" else []

    server = serve({**PRIVATE, "readRoles": ["member"]}, role_enricher=enricher)

    assert (await server.get("/pull/notes/ada/shared", user="eve")).status_code == 200
    assert (await server.get("/pull/notes/ada/mine", user="eve")).status_code == 403
    batch = '{"notes":[{"identity":"ada","note":"shared"},{"identity":"ada","note":"mine"}]}'
    answer = await server.get(f"/batch/pull?collections=notes&params={batch}", user="eve")
    entries = answer.json()["collections"]["notes"]
    assert [entry.get("error") for entry in entries] == [None, "Forbidden"]


async def test_an_enricher_that_fails_opens_nothing(serve: Any) -> None:
    async def enricher(auth: AuthResult, params: dict[str, str]) -> list[str]:
        raise ValueError("secret")

    answer = await serve(PRIVATE, role_enricher=enricher).get("/pull/notes/ada/1", user="ada")

    assert (answer.status_code, answer.json()) == (503, {"error": "Role enricher failed"})


async def test_a_plugin_decides_over_every_action(serve: Any) -> None:
    seen: list[AuthorizeContext] = []

    async def authorize(context: AuthorizeContext) -> AuthorizeResult:
        seen.append(context)
        if context.params.get("note") == "closed":
            return AuthorizeResult("reject", 451, "closed by order")
        return AuthorizeResult("proceed")

    server = serve(
        PRIVATE,
        {"name": "one", "storagePath": "b/{note}", "bundle": "b"},
        {"name": "two", "storagePath": "b/{note}", "bundle": "b"},
        plugins=[ServerPlugin("p", authorize=authorize)],
    )

    assert (await server.get("/pull/notes/ada/closed", user="ada")).status_code == 451
    assert (await server.push("notes/ada/closed", {}, user="ada")).json()[
        "error"
    ] == "closed by order"
    assert (await server.get("/list/notes/ada", user="ada")).status_code == 200
    batch = '{"notes":[{"note":"closed"}]}'
    answer = await server.get(f"/batch/pull?collections=notes&params={batch}", user="ada")
    assert answer.json()["collections"]["notes"] == [{"error": "closed by order"}]
    assert (await server.get("/pull/b/closed")).status_code == 451
    actions = [(context.action, context.collection) for context in seen]
    assert actions == [
        ("pull", "notes"), ("push", "notes"), ("list", "notes"), ("pull", "notes"),
        ("pull", "one"), ("pull", "two"),
    ]  # fmt: skip
    assert await server.store.list_keys("") == []


async def test_the_store_learns_on_whose_behalf_it_works(serve: Any) -> None:
    contexts: list[StoreContext | None] = []

    class Listening(MemoryObjectStore):
        async def get_with_etag(self, key: str, *, context: StoreContext | None = None) -> Any:
            contexts.append(context)
            return await super().get_with_etag(key, context=context)

    server = serve(namespaces={"acme": [PRIVATE]}, store=Listening())
    await server.get("/acme/pull/notes/ada/1", user="ada", roles="x,y")

    params = {"identity": "ada", "note": "1"}
    assert contexts == [StoreContext("notes", params, "ada", ("x", "y"), "pull", "acme")]


@pytest.mark.parametrize(
    ("limit", "statuses"),
    [
        ({"rateLimit": {"pull": {"windowMs": 1000, "maxRequests": 2}}}, [200, 200, 429]),
        ({"rateLimit": {"windowMs": 1000, "maxRequests": 2}}, [200, 200, 200]),
        ({"rateLimit": {"push": {"windowMs": 1000, "maxRequests": 1}}}, [200, 200, 200]),
    ],
)
async def test_too_many_requests_are_429(serve: Any, limit: Any, statuses: list[int]) -> None:
    server = serve(limit)

    answers = [await server.get("/pull/notes/ada", user="ada") for _ in statuses]

    assert [answer.status_code for answer in answers] == statuses
    assert (await server.get("/pull/notes/ada", user="ben")).status_code == 200
    if statuses[-1] == 429:
        assert answers[-1].json() == {"error": "Rate limit exceeded"}
        assert answers[-1].headers["retry-after"] == "1"
