"""The end of an answer to a body that was not read: when it comes, whatever the client does."""

from __future__ import annotations

import asyncio

import pytest
from starlette.responses import Response
from starlette.types import Message

from starfish_artifact_registry.http._lingering_response import LingeringResponse

MORE: Message = {"type": "http.request", "body": b"x", "more_body": True}
LAST: Message = {"type": "http.request", "body": b"x", "more_body": False}
GONE: Message = {"type": "http.disconnect"}


async def answer(
    *incoming: Message, linger_s: float, pause_s: float | None = None
) -> list[Message]:
    """The sent messages, with those received in between; the client goes on with its last message."""
    happened: list[Message] = []
    messages = iter(incoming)
    message = MORE

    async def receive() -> Message:
        nonlocal message
        message = next(messages, message)
        if pause_s is not None:
            await asyncio.sleep(pause_s)
        happened.append(message)
        return message

    async def send(sent: Message) -> None:
        happened.append(sent)

    scope = {"type": "http", "method": "PUT", "headers": []}
    await LingeringResponse(Response(b"no", 409), linger_s)(scope, receive, send)
    return happened


async def test_the_whole_answer_goes_out_before_anything_is_read() -> None:
    start, body, read, end = await answer(GONE, linger_s=60)

    assert (start["type"], start["status"]) == ("http.response.start", 409)
    assert {(b"connection", b"close"), (b"content-length", b"2")} <= set(start["headers"])
    assert (body["body"], body["more_body"]) == (b"no", True)
    assert read == GONE
    assert (end["body"], end["more_body"]) == (b"", False)


@pytest.mark.parametrize("last", [LAST, GONE], ids=["the body ends", "the client goes"])
async def test_it_ends_when_nothing_more_can_come(last: Message) -> None:
    happened = await answer(MORE, MORE, last, linger_s=60)

    assert happened[2:-1] == [MORE, MORE, last]


@pytest.mark.parametrize("pause_s", [None, 0, 0.01, 60])
async def test_it_ends_with_the_time_for_a_client_that_never_ends(pause_s: float | None) -> None:
    async with asyncio.timeout(20):
        happened = await answer(linger_s=0.1, pause_s=pause_s)

    assert happened[-1]["more_body"] is False
