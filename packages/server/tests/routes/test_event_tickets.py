"""``POST /events/ticket``: one stream for a client that cannot send headers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from starfish_protocol.testing import ManualClock
from starfish_server import AuthResult, MemoryObjectStore
from starfish_server.requests import _stream_tickets

Serve = Callable[..., Any]
Stream = Callable[..., Any]
NOTES = {"readRoles": ["self"]}


async def ticket(served: Any, path: str = "/events/ticket", **headers: str) -> str:
    answer = await served.client.post(path, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return str(answer.json()["ticket"])


async def refused(served: Any, text: str) -> bool:
    answer = await served.get(f"/events?ticket={text}")
    return (answer.status_code, answer.json()) == (401, {"error": "Invalid ticket"})


async def test_a_stream_has_the_rights_of_the_caller_who_got_the_ticket(
    serve: Serve, stream: Stream
) -> None:
    served = serve(NOTES)
    text = await ticket(served, **{"x-user": "ada"})
    async with stream(served, f"?ticket={text}&since=0") as events:
        for name in ("ben", "ada"):
            await served.push(f"notes/{name}", {}, user=name)
        assert [each["key"] for each in await events.events(1)] == ["notes/ada"]


async def test_it_opens_one_stream_on_whichever_server_shares_the_store(
    serve: Serve, stream: Stream
) -> None:
    store = MemoryObjectStore()
    one, other = serve(NOTES, store=store), serve(NOTES, store=store)
    text = await ticket(one, **{"x-user": "ada"})

    async with stream(other, f"?ticket={text}") as events:
        assert events.status == 200
    assert await refused(one, text)
    assert await refused(other, text)


async def test_of_two_that_come_at_once_one_is_let_in(serve: Serve, stream: Stream) -> None:
    served = serve(NOTES)
    text = await ticket(served, **{"x-user": "ada"})

    async def opens() -> int:
        async with stream(served, f"?ticket={text}") as events:
            return int(events.status)

    assert sorted(await asyncio.gather(*(opens() for _ in range(5)))) == [200] + [401] * 4


async def test_it_is_good_for_seconds(serve: Serve) -> None:
    clock = ManualClock()
    served = serve(NOTES, clock=clock)
    answer = await served.client.post("/events/ticket", headers={"x-user": "ada"})
    assert 1000 <= answer.json()["expires"] - clock.now_ms() <= 60_000
    clock.advance(answer.json()["expires"] - clock.now_ms())
    assert await refused(served, answer.json()["ticket"])


async def test_the_store_forgets_used_tickets(serve: Serve, stream: Stream) -> None:
    clock = ManualClock()
    store = MemoryObjectStore(clock=clock)
    served = serve(NOTES, clock=clock, store=store)
    text = await ticket(served, **{"x-user": "ada"})
    async with stream(served, f"?ticket={text}"):
        pass
    assert len(await store.scan("~server/ticket/")) == 1
    clock.advance(60_000)
    assert await store.expire(clock.now_ms()) == 1


async def test_a_credential_that_is_withdrawn_ends_the_stream(serve: Serve, stream: Stream) -> None:
    revoked = False

    async def resolver(request: Any) -> AuthResult:
        if revoked or request.headers.get("authorization") != "Bearer ada":
            raise PermissionError
        return AuthResult("ada")

    served = serve(NOTES, role_resolver=resolver)
    credential = {"authorization": "Bearer ada"}
    first, second = [await ticket(served, **credential) for _ in range(2)]
    async with stream(served, f"?ticket={first}") as events:
        await served.client.post(
            "/push/notes/ada", json={"data": {}, "baseHash": None}, headers=credential
        )
        assert len(await events.events(1)) == 1
        pushed = (await served.client.get("/pull/notes/ada", headers=credential)).json()["hash"]
        await served.client.post(
            "/push/notes/ada", json={"data": {"n": 1}, "baseHash": pushed}, headers=credential
        )
        revoked = True
        while not events.ended:
            await events.part()
    answer = await served.get(f"/events?ticket={second}")
    assert answer.status_code == 401


async def test_it_tells_nothing_and_cannot_be_made(serve: Serve) -> None:
    served, other = serve(NOTES), serve(NOTES)
    text = await ticket(served, **{"x-user": "ada-lovelace"})
    assert "ada" not in text
    for forged in ("", "x", "A" * 100, text[:-2] + "AA", text + "A", await ticket(other)):
        assert await refused(served, forged)


async def test_a_ticket_of_a_namespace_is_good_there_only(serve: Serve, stream: Stream) -> None:
    served = serve(NOTES, namespaces={"team": [{"readRoles": ["self"]}]})
    text = await ticket(served, "/team/events/ticket", **{"x-user": "ada"})
    assert await refused(served, text)
    async with stream(served, f"/team/events?ticket={text}") as events:
        assert events.status == 200


async def test_who_is_refused_gets_none(serve: Serve) -> None:
    async def resolver(_request: Any) -> AuthResult:
        raise PermissionError

    answer = await serve(NOTES, role_resolver=resolver).client.post("/events/ticket")
    assert answer.status_code == 401


async def test_credentials_must_fit_into_an_address(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_stream_tickets, "_MOST_BYTES", 500)
    answer = await serve(NOTES).client.post("/events/ticket", headers={"cookie": "c" * 600})
    assert (answer.status_code, answer.json()["error"]) == (
        400,
        "Credentials too long for a ticket",
    )
