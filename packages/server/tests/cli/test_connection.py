"""Slow and greedy clients: a connection is answered or closed within its bounds."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

uvicorn = pytest.importorskip("uvicorn", reason="the extra uvicorn is not installed")
pytest.importorskip("httptools", reason="the extra uvicorn is not installed")

from starfish_server.cli._connection import BoundedHttpProtocol  # noqa: E402


class Quick(BoundedHttpProtocol):
    head_timeout_s = 0.2
    max_head_bytes = 2_000
    body_interval_s = 0.2
    min_body_bytes = 1_000
    unread_timeout_s = 0.3


class Application:
    """Reads the body, waits where the path says so, and answers what it read."""

    def __init__(self) -> None:
        self.disconnected = asyncio.Event()
        self.release = asyncio.Event()
        self.entered = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.entered.set()
        if scope["path"] == "/wait":
            await self.release.wait()
        length = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnected.set()
                return
            length += len(message["body"])
            if not message["more_body"]:
                break
        body = b"x" * 50_000_000 if scope["path"] == "/large" else str(length).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def serving(application: Application) -> AsyncGenerator[tuple[int, Any]]:
    config = uvicorn.Config(
        application, port=0, http=Quick, ws="none", lifespan="off", log_config=None,
        timeout_keep_alive=1, timeout_graceful_shutdown=2,
    )  # fmt: skip
    started = asyncio.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            started.set()

    server = Server(config)
    task = asyncio.create_task(server._serve())
    await started.wait()
    try:
        yield server.servers[0].sockets[0].getsockname()[1], server
    finally:
        application.release.set()
        server.should_exit = True
        await task


async def exchange(port: int, *pieces: bytes, pause: float = 0.05) -> tuple[int, bytes]:
    """Send the pieces with pauses; the status and everything that comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(pause)
        if reader.at_eof() or reader.exception() is not None:
            break
    try:
        answer = await asyncio.wait_for(reader.read(), 5)
    except ConnectionError:  # the answer was lost, because this side went on sending
        answer = b""
    writer.close()
    return (int(answer.split()[1]) if answer else 0), answer


POST = b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"


async def test_a_request_in_one_piece_or_several_is_answered() -> None:
    async with serving(Application()) as (port, _):
        assert (await exchange(port, POST % 3 + b"abc"))[1].endswith(b"\r\n\r\n3")
        pieces = [POST[:10], POST[10:] % 3, b"a", b"bc"]
        assert (await exchange(port, *pieces, pause=0.03))[1].endswith(b"\r\n\r\n3")


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [b"GET / HTTP/1.1\r\n"],
        [b"GET / HTTP/1.1\r\n", b"a: b\r\n", b"c: d\r\n", b"e: f\r\n", b"g: h\r\n"],
        [b"\r\n", b"\r\n"],
    ],
    ids=["nothing", "a line", "a header now and then", "empty lines"],
)
async def test_a_head_that_does_not_end_is_answered_408(pieces: list[bytes]) -> None:
    async with serving(Application()) as (port, server):
        status, answer = await exchange(port, *pieces)
        await asyncio.sleep(0.05)

        assert status == 408
        assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"error": "request_timeout"}
        assert not server.server_state.connections


async def test_a_head_that_grows_without_end_is_answered_431() -> None:
    async with serving(Application()) as (port, _):
        pieces = [b"GET / HTTP/1.1\r\n", *[b"a: %s\r\n" % (b"b" * 500)] * 5]

        assert (await exchange(port, *pieces, pause=0.02))[0] == 431


async def test_a_body_that_stops_is_answered_408_and_the_application_sees_a_disconnect() -> None:
    application = Application()
    async with serving(application) as (port, _):
        status, _ = await exchange(port, POST % 100_000, b"abc")

        assert status == 408
        await asyncio.wait_for(application.disconnected.wait(), 2)


async def test_a_body_that_trickles_is_cut_off() -> None:
    application = Application()
    async with serving(application) as (port, _):
        status, _ = await exchange(port, POST % 100_000, *[b"a"] * 50, pause=0.02)

        assert status in {408, 0}
        await asyncio.wait_for(application.disconnected.wait(), 2)


async def test_a_body_that_is_slow_but_steady_is_read_to_its_end() -> None:
    async with serving(Application()) as (port, _):
        pieces = [b"x" * 1_000] * 12
        status, answer = await exchange(port, POST % 12_000, *pieces, pause=0.06)

        assert (status, answer[-5:]) == (200, b"12000")


async def test_a_client_is_not_blamed_while_the_application_does_not_read() -> None:
    application = Application()
    async with serving(application) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write((POST % 400_000).replace(b"/ ", b"/wait "))
        writer.write(b"x" * 399_999)
        await asyncio.sleep(0.8)
        application.release.set()
        writer.write(b"x")
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()

        assert answer.endswith(b"\r\n\r\n400000")


async def test_an_answer_takes_as_long_as_it_takes_after_the_request_is_complete() -> None:
    application = Application()
    async with serving(application) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /wait HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        await asyncio.sleep(0.8)
        application.release.set()
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()

        assert answer.startswith(b"HTTP/1.1 200")


async def test_a_slow_head_does_not_cut_off_the_answer_before_it() -> None:
    application = Application()
    async with serving(application) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\nGET / HT")
        await asyncio.sleep(0.8)
        application.release.set()
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()

        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.count(b"HTTP/1.1 ") <= 2


async def test_a_kept_connection_serves_more_requests_and_then_ends() -> None:
    async with serving(Application()) as (port, _):
        request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
        _, answer = await exchange(port, request, request, request + request, pause=0.3)

        assert answer.count(b"HTTP/1.1 200") == 4


async def test_an_answer_that_is_not_read_ends_the_connection() -> None:
    async with serving(Application()) as (port, server):
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.transport.pause_reading()
        writer.write(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n")
        for _ in range(200):
            await asyncio.sleep(0.02)
            if server.server_state.total_requests and not server.server_state.connections:
                break

        assert not server.server_state.connections
        writer.transport.abort()
