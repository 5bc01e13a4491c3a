from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from starfish_http.errors import RequestRefusedError
from starfish_http.events import COMMENT, EventStream, StreamBudget, format_event
from starfish_http.stopping import STOPPING, stopping_of


def parse(text: bytes) -> dict[str, str]:
    """An event stream of one event, read as the standard says."""
    fields: dict[str, list[str]] = {}
    for line in text.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        name, _, value = line.partition(":")
        if line:
            fields.setdefault(name, []).append(value.removeprefix(" "))
    return {name: "\n".join(values) for name, values in fields.items()}


@given(st.text(), st.none() | st.text(st.characters(exclude_characters="\r\n\0"), min_size=1))
def test_an_event_is_read_as_it_was_written(data: str, name: str | None) -> None:
    found = parse(format_event(data, event=name, id_=name))

    assert found["data"] == data.replace("\r\n", "\n").replace("\r", "\n")
    assert found.get("event") == name == found.get("id")


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\0"])
def test_a_name_of_several_lines_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="one line"):
        format_event("x", id_=text)


class Client:
    """The two channels of an ASGI request."""

    def __init__(self, *, reads: bool = True) -> None:
        self.blocks: list[bytes] = []
        self.ended = False
        self.left = asyncio.Event()
        self._reads = reads

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            if not self._reads:
                await asyncio.sleep(600)
            self.blocks.append(message["body"])
            self.ended = not message.get("more_body", False)


def request(state: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"type": "http", "method": "GET", "headers": [], "state": state or {}}


class Source:
    """Numbers, and whether it was closed."""

    def __init__(self, count: int, *, then_waits: bool = False) -> None:
        self.asked = 0
        self.closed = False
        self._count = count
        self._then_waits = then_waits

    async def blocks(self) -> AsyncGenerator[bytes]:
        try:
            for n in range(self._count):
                self.asked += 1
                yield format_event(str(n))
            if self._then_waits:
                await asyncio.sleep(600)
        finally:
            self.closed = True


async def test_a_stream_sends_every_block_and_ends_with_its_source() -> None:
    client, source = Client(), Source(3)

    await EventStream(source.blocks())(request(), client.receive, client.send)

    assert client.blocks == [COMMENT, b"data: 0\n\n", b"data: 1\n\n", b"data: 2\n\n", b""]
    assert client.ended
    assert source.closed


async def test_a_quiet_stream_sends_comments() -> None:
    client, source = Client(), Source(0, then_waits=True)
    stream = EventStream(source.blocks(), heartbeat_s=0.01, lifetime_s=0.2)

    await stream(request(), client.receive, client.send)

    assert client.blocks.count(COMMENT) > 3
    assert client.ended
    assert source.closed


@pytest.mark.parametrize("how", ["event", "state"])
async def test_a_stream_ends_when_the_server_stops(how: str) -> None:
    client, source, stopping = Client(), Source(1, then_waits=True), asyncio.Event()
    stream = EventStream(source.blocks(), stopping=stopping if how == "event" else None)
    scope = request({STOPPING: stopping} if how == "state" else None)
    asyncio.get_running_loop().call_later(0.05, stopping.set)

    async with asyncio.timeout(5):
        await stream(scope, client.receive, client.send)

    assert client.ended
    assert source.closed


async def test_a_stream_ends_when_the_client_leaves() -> None:
    client, source = Client(), Source(1, then_waits=True)
    asyncio.get_running_loop().call_later(0.05, client.left.set)

    async with asyncio.timeout(5):
        await EventStream(source.blocks())(request(), client.receive, client.send)

    assert source.closed


async def test_a_reader_that_takes_nothing_is_asked_for_nothing_and_let_go() -> None:
    client, source = Client(reads=False), Source(100)

    await EventStream(source.blocks(), unread_s=0.05)(request(), client.receive, client.send)

    assert source.asked == 0
    assert not client.ended


async def test_the_fault_of_a_source_ends_its_stream_in_order(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def blocks() -> AsyncGenerator[bytes]:
        yield b"data: 1\n\n"
        raise ZeroDivisionError

    client = Client()
    await EventStream(blocks())(request(), client.receive, client.send)

    assert client.ended
    assert "ends early" in caplog.text


def test_streams_have_a_budget_a_caller_and_in_all() -> None:
    budget = StreamBudget(total=3, per_caller=2)
    with budget.enter("ada"), budget.enter("ada"):
        with pytest.raises(RequestRefusedError) as refusal, budget.enter("ada"):
            pass
        assert refusal.value.status == 429
        with (
            budget.enter("eve"),
            pytest.raises(RequestRefusedError) as refusal,
            budget.enter("bob"),
        ):
            pass
        assert refusal.value.status == 503
    with budget.enter("ada"), budget.enter("ada"), budget.enter("eve"):
        pass


def test_an_application_of_another_server_is_told_nothing() -> None:
    assert stopping_of({"type": "http"}) is None
