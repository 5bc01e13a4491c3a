"""Hooks: their order, what they may answer, and what happens when they fail."""

from __future__ import annotations

from typing import Any

import pytest

from starfish_protocol.hash import compute_hash
from starfish_protocol.plugins import (
    InterceptPullResult,
    PullHookContext,
    PullHookResult,
    PushHookContext,
    PushHookResult,
    ServerPlugin,
    WriteEvent,
)
from starfish_protocol.testing import ManualClock


async def test_after_write_gets_what_was_stored_and_cannot_fail_the_push(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[WriteEvent] = []

    def fail(_event: WriteEvent) -> None:
        raise ValueError("boom")

    async def observe(event: WriteEvent) -> None:
        seen.append(event)

    plugins = [ServerPlugin("broken", after_write=fail), ServerPlugin("good", after_write=observe)]
    server = serve(namespaces={"acme": [{}]}, plugins=plugins, clock=ManualClock(5))
    answer = await server.client.post(
        "/acme/push/notes/ada",
        json={"data": {"a": 1, "__proto__": 1}, "baseHash": None},
        headers={"x-user": "ada"},
    )
    await server.client.post(
        "/acme/push/notes/ada", json={"data": {}, "baseHash": "x"}
    )  # a conflict is not a write

    digest = compute_hash({"a": 1})
    assert answer.status_code == 200
    assert seen == [
        WriteEvent("notes", digest, 5, {"identity": "ada"}, {"a": 1}, "acme", "ada", "notes/ada")
    ]
    assert "after_write of plugin broken failed for collection notes" in caplog.text


async def test_the_first_rejection_of_a_pull_wins(serve: Any) -> None:
    seen: list[PullHookContext] = []

    async def proceed(context: PullHookContext) -> PullHookResult:
        seen.append(context)
        return PullHookResult("proceed")

    def hook(status: int | None, error: str | None) -> ServerPlugin:
        return ServerPlugin("p", before_pull=lambda _c: PullHookResult("reject", status, error))

    server = serve(
        {}, plugins=[ServerPlugin("a", before_pull=proceed), hook(None, None), hook(410, "b")]
    )
    answer = await server.get("/pull/notes/ada")

    assert (answer.status_code, answer.json()) == (403, {"error": "Forbidden"})
    assert seen == [PullHookContext("notes", {"identity": "ada"})]


@pytest.mark.parametrize("kind", [{}, {"allowedMimeTypes": ["a/b"]},
                                  {"appendOnly": {"type": "by_timestamp"}}])  # fmt: skip
async def test_a_plugin_may_answer_a_pull(serve: Any, kind: Any) -> None:
    plugin = ServerPlugin(
        "p", intercept_pull=lambda _c: InterceptPullResult("respond", 203, b"<a/>", "text/xml")
    )
    answer = await serve(kind, plugins=[plugin]).get("/pull/notes/ada")

    assert (answer.status_code, answer.content) == (203, b"<a/>")
    assert answer.headers["content-type"] == "text/xml"


async def test_a_plugin_that_answers_pulls_sees_the_key_and_the_query(serve: Any) -> None:
    seen: list[tuple[object, object]] = []

    def intercept(context: PullHookContext) -> InterceptPullResult:
        seen.append((context.document_key, context.query))
        return InterceptPullResult("proceed")

    server = serve({}, plugins=[ServerPlugin("p", intercept_pull=intercept)])
    await server.get("/pull/notes/ada?since=abc&x=%C3%A9")
    await server.get('/batch/pull?collections=notes&params={"notes":[{"identity":"ada"}]}')

    assert seen == [("notes/ada", {"since": "abc", "x": "é"}), (None, None)]


async def test_a_plugin_may_make_a_document_of_what_is_stored(serve: Any) -> None:
    seen: list[str] = []

    async def read_stored(key: str, body: bytes) -> bytes:
        seen.append(key)
        return body.replace(b"stored", b"shown")

    later = ServerPlugin("q", read_stored=lambda _key, body: body.replace(b"shown", b"shown twice"))
    server = serve({}, plugins=[ServerPlugin("p", read_stored=read_stored), later])
    await server.push("notes/ada", {"n": "stored"})
    pulled = await server.get("/pull/notes/ada")
    batch = await server.get('/batch/pull?collections=notes&params={"notes":[{"identity":"ada"}]}')
    never = await server.get("/pull/notes/ben")

    assert pulled.json()["data"] == {"n": "shown twice"}
    assert batch.json()["collections"]["notes"][0]["data"] == {"n": "shown twice"}
    assert never.json()["hash"] == ""
    assert seen == ["notes/ada", "notes/ada"]


async def test_a_plugin_may_answer_or_refuse_a_push(serve: Any) -> None:
    def intercept(context: PushHookContext) -> PushHookResult:
        match context.params["identity"]:
            case "here":
                return PushHookResult("respond", 202, body={"raw": context.raw_body})
            case "empty":
                return PushHookResult("respond")
            case "never":
                return PushHookResult("reject", 422, "no")
        return PushHookResult("proceed")

    server = serve({}, plugins=[ServerPlugin("p", intercept_push=intercept)])

    answered = await server.push("notes/here", {"é": 1})
    empty = await server.push("notes/empty", {})
    refused = await server.push("notes/never", {})
    stored = await server.push("notes/ada", {})

    assert answered.status_code == 202
    assert '"é"' in answered.json()["raw"] or "\\u00e9" in answered.json()["raw"]
    assert (empty.status_code, empty.json()) == (200, {})
    assert (refused.status_code, refused.json()) == (422, {"error": "no"})
    assert stored.status_code == 200
    assert await server.store.list_keys("") == ["notes/ada"]


async def test_a_push_is_intercepted_only_when_it_is_a_good_one(serve: Any) -> None:
    seen: list[str] = []

    def intercept(context: PushHookContext) -> PushHookResult:
        seen.append(context.raw_body)
        return PushHookResult("proceed")

    server = serve(
        {"objectSchema": {"required": ["a"]}}, plugins=[ServerPlugin("p", intercept_push=intercept)]
    )
    assert (await server.push("notes/ada", {})).status_code == 400

    assert seen == []


async def test_a_plugin_sees_blobs_byte_for_character(serve: Any) -> None:
    seen: list[str] = []

    def intercept(context: PushHookContext) -> PushHookResult:
        seen.append(context.raw_body)
        return PushHookResult("proceed")

    server = serve(
        {"allowedMimeTypes": ["image/png"]}, plugins=[ServerPlugin("p", intercept_push=intercept)]
    )
    await server.client.post(
        "/push/notes/ada", content=bytes(range(256)), headers={"content-type": "image/png"}
    )

    assert seen[0].encode("latin-1") == bytes(range(256))
