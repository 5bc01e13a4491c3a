"""What the pages show, and to whom."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from starfish_http.components import Component, Facts, Link, Page, PageRequest, Section, Table, Text
from starfish_http.errors import RequestRefusedError
from starfish_server.config.schema import SyncConfig
from starfish_server.console import create_console
from starfish_server.storage.memory import MemoryObjectStore

from .conftest import Service

Make = Callable[..., Service]


async def test_the_front_page_says_what_runs_here_and_needs_no_other_host(
    make_service: Make,
) -> None:
    async with make_service().client() as client:
        answer = await client.get("/")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "curl http://starfish.test/pull/pages/page" in answer.text
    assert re.findall(r"(?:src|href)=\"(?:https?:)?//", answer.text) == []


async def test_the_sync_routes_answer_as_without_a_console(make_service: Make) -> None:
    service = make_service()
    await service.push("pages/a", {"title": "A"})

    async with service.client() as client:
        assert (await client.get("/pull/pages/a")).json()["data"] == {"title": "A"}
        assert (await client.get("/nowhere")).status_code == 404


async def test_a_document_is_shown_with_its_history_and_its_markup_is_text(
    make_service: Make,
) -> None:
    service = make_service()
    await service.push("pages/a", {"title": "<script>alert(1)</script>"})

    async with service.client() as client:
        listed = await client.get("/console/collection", params={"name": "pages"})
        shown = await client.get(
            "/console/document", params={"collection": "pages", "path": "pages/a"}
        )

    assert "collection=pages&amp;path=pages%2Fa" in listed.text
    assert "&lt;script&gt;alert(1)" in shown.text
    assert "<script>alert" not in shown.text
    assert '<th scope="row">1</th>' in shown.text


@pytest.mark.parametrize("name", [None, "carl"])
async def test_documents_of_others_leave_no_trace(make_service: Make, name: str | None) -> None:
    service = make_service()
    await service.push("diary/ada/monday", {"text": "secret"}, "ada")

    async with service.client(name) as client:
        listed = await client.get("/console/collection", params={"name": "diary"})
        shown = await client.get(
            "/console/document", params={"collection": "diary", "path": "diary/ada/monday"}
        )
        absent = await client.get(
            "/console/document", params={"collection": "diary", "path": "diary/ada/never"}
        )

    assert "monday" not in listed.text
    assert (shown.status_code, shown.text) == (absent.status_code, absent.text)
    assert shown.status_code == 404


async def test_somebody_sees_the_own_documents(make_service: Make) -> None:
    service = make_service()
    await service.push("diary/ada/monday", {"text": "mine"}, "ada")

    async with service.client("ada") as client:
        listed = await client.get("/console/collection", params={"name": "diary"})
        shown = await client.get(
            "/console/document", params={"collection": "diary", "path": "diary/ada/monday"}
        )

    assert "diary/ada/monday" in listed.text
    assert "mine" in shown.text
    assert "<td>ada</td>" in shown.text


async def test_a_hidden_field_is_hidden_here_too_and_so_is_every_hash_that_covers_it(
    make_service: Make,
) -> None:
    service = make_service()
    await service.push("cases/7", {"title": "Case 7", "verdict": "guilty"}, "judy")
    params = {"collection": "cases", "path": "cases/7"}

    async with service.client("judy") as judge, service.client("carl") as clerk:
        seen = await judge.get("/console/document", params=params)
        kept = await clerk.get("/console/document", params=params)
        listed = await clerk.get("/console/collection", params={"name": "cases"})

    real = re.search(r"<code title=\"([0-9a-f]{64})\"", seen.text)
    assert real is not None
    assert "guilty" in seen.text
    assert "Case 7" in kept.text
    assert "guilty" not in kept.text
    assert real[1] not in kept.text + listed.text


async def test_bytes_and_elements_are_listed_without_being_read(make_service: Make) -> None:
    service = make_service()
    async with service.client() as client:
        await client.post(
            "/push/photos/1", content=b"\x89PNG", headers={"content-type": "image/png"}
        )
        await client.post("/push/log/door", json={"data": {"open": True}})

        photos = await client.get("/console/collection", params={"name": "photos"})
        photo = await client.get(
            "/console/document", params={"collection": "photos", "path": "photos/1"}
        )
        log = await client.get(
            "/console/document", params={"collection": "log", "path": "log/door"}
        )

    assert "photos/1" in photos.text
    assert "4 bytes of image/png" in photo.text
    assert "&#34;open&#34;: true" in log.text


async def test_a_long_list_goes_on_where_it_ended(make_service: Make) -> None:
    service = make_service()
    for number in range(120):
        await service.push(f"pages/{number:03}", {})
    seen: list[str] = []

    async with service.client() as client:
        at: str | None = "/console/collection?name=pages"
        while at is not None:
            answer = await client.get(at, headers={"hx-request": "true"})
            seen += re.findall(r">pages/(\d+)</a>", answer.text)
            more = re.search(r"hx-get=\"([^\"]+)\"", answer.text)
            at = None if more is None else more[1].replace("&amp;", "&")

    assert seen == [f"{number:03}" for number in range(120)]


async def test_a_list_can_be_narrowed(make_service: Make) -> None:
    service = make_service()
    await service.push("pages/apple", {})
    await service.push("pages/pear", {})

    async with service.client() as client:
        answer = await client.get("/console/collection", params={"name": "pages", "begins": "pe"})

    assert re.findall(r">pages/(\w+)</a>", answer.text) == ["pear"]


@pytest.mark.parametrize(
    "query",
    ["", "?name=", "?name=nowhere", "?name=pages&begins=%00", "?name=pages&after=../.."],
)
async def test_a_query_that_makes_no_sense_is_answered(make_service: Make, query: str) -> None:
    async with make_service().client() as client:
        answer = await client.get(f"/console/collection{query}")

    assert answer.status_code in {200, 400, 404}


# Signing in.


async def test_a_token_signs_in_and_stays_out_of_reach_of_scripts(make_service: Make) -> None:
    service = make_service()

    async with service.client() as client:
        answer = await client.post("/console/sign-in", data={"token": service.tokens["ada"]})
        page = await client.get("/console")

    cookie = answer.headers["set-cookie"].lower()
    assert answer.status_code == 303
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "Signed in as <strong>ada</strong>" in page.text


@pytest.mark.parametrize("token", ["", "unknown", "a b", "x" * 5000, "é"])
async def test_a_token_that_nobody_knows_does_not(make_service: Make, token: str) -> None:
    async with make_service().client() as client:
        answer = await client.post("/console/sign-in", data={"token": token})

    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


async def test_a_form_of_another_site_is_refused(make_service: Make) -> None:
    service = make_service()
    data = {"token": service.tokens["ada"]}

    async with service.client() as client:
        for headers in ({"origin": "http://evil.test"}, {"sec-fetch-site": "cross-site"}):
            answer = await client.post("/console/sign-in", data=data, headers=headers)
            assert answer.status_code == 403
            assert "set-cookie" not in answer.headers


async def test_signing_out_forgets_the_token(make_service: Make) -> None:
    service = make_service()

    async with service.client("ada") as client:
        answer = await client.post("/console/sign-out")

    assert 'starfish-console=""' in answer.headers["set-cookie"]


async def test_the_cookie_opens_no_sync_route(make_service: Make) -> None:
    service = make_service()

    async with service.client("ada") as client:
        assert (await client.get("/pull/diary/ada/monday")).status_code == 401


# The feed.


async def test_the_feed_tells_the_writes_that_the_viewer_may_read(make_service: Make) -> None:
    service = make_service()
    begun, told = asyncio.Event(), asyncio.Event()
    text: list[str] = []

    async def receive() -> dict[str, object]:
        await told.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        text.append(message.get("body", b"").decode())
        if "id:" in text[-1]:
            begun.set()
        if "pages/after" in text[-1]:
            told.set()

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/console/feed/stream",
        "raw_path": b"/console/feed/stream",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"starfish.test")],
        "server": ("starfish.test", 80),
        "client": ("127.0.0.1", 5000),
        "state": {},
    }
    stream = asyncio.create_task(service.app(scope, receive, send))  # type: ignore[arg-type]
    await asyncio.wait_for(begun.wait(), 5)
    await service.push("diary/ada/monday", {"text": "secret"}, "ada")
    await service.push("pages/after", {})
    await asyncio.wait_for(told.wait(), 5)
    await asyncio.wait_for(stream, 5)

    assert "diary" not in "".join(text)


# Parts of the service.


async def _show(request: PageRequest) -> Sequence[Section]:
    if request.query.get("id") == "none":
        raise RequestRefusedError(404, "not_found", "there is no package 'none'")
    return [
        Facts("Facts", [("files", 3), ("next", Link("there", "other", {"id": "1 & 2"}))]),
        Table("Rows", ["a", "b"], [["<i>", None]]),
        Table("Empty", ["a"], []),
        Text("Given", repr(request.file)),
    ]


PART = Component(
    "evidence", "Evidence", pages=[Page("overview", "Overview", _show, takes_file="a proof")]
)


async def test_a_part_shows_its_pages(make_service: Make) -> None:
    async with make_service(PART).client() as client:
        console = await client.get("/console")
        answer = await client.get("/console/part/evidence/overview")
        dropped = await client.post("/console/part/evidence/overview", content=b"abc")
        refused = await client.get("/console/part/evidence/overview", params={"id": "none"})
        absent = await client.get("/console/part/evidence/nowhere")

    assert "Evidence: Overview" in console.text
    assert "/console/part/evidence/other?id=1+%26+2" in answer.text
    assert "&lt;i&gt;" in answer.text
    assert "Nothing here yet." in answer.text
    assert "b&#39;abc&#39;" in dropped.text
    assert (refused.status_code, absent.status_code) == (404, 404)
    assert "there is no package" in refused.text


async def test_a_part_that_is_ill_is_said_to_be(make_service: Make) -> None:
    async def ill() -> dict[str, object]:
        raise ConnectionError("no database")

    async def slow() -> dict[str, object]:
        return {"ok": True, "queue": 3}

    parts = (Component("rows", "Rows", health=ill), Component("queue", "Queue", health=slow))
    async with make_service(*parts).client() as client:
        answer = await client.get("/console")

    assert "does not work" in answer.text
    assert "ConnectionError" in answer.text
    assert "queue: 3" in answer.text


def test_a_configuration_that_cannot_be_served_is_refused() -> None:
    async def nobody(_request: object) -> None: ...

    with pytest.raises(ValueError, match="malformed"):
        create_console(
            store=MemoryObjectStore(),
            config=SyncConfig.model_validate(
                {"collections": [{"name": "a", "storagePath": "{", "readRoles": ["public"]}]}
            ),
            role_resolver=nobody,  # type: ignore[arg-type]
        )
