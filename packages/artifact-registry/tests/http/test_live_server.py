"""A real server on loopback, and clients that do not behave."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="needs the extra cli")

import uvicorn
from fastapi import FastAPI

from starfish_artifact_registry.http import HttpLimits
from starfish_artifact_registry.registry import Registry
from starfish_artifact_registry.storage._content_folder import Draft
from starfish_http.callers import anyone

pytestmark = pytest.mark.network
PACKAGE = json.dumps(
    {"name": "n", "producer": "p", "subject": "s", "retention_class": "raw-evidence"}
).encode()


class Client:
    """One connection, bytes as a test wants them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, port: int) -> Client:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, method: str, target: str, body: bytes = b"", **headers: object) -> None:
        headers = {"content_length": len(body), **headers}
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        self.writer.write(f"{method} {target} HTTP/1.1\r\nhost: x\r\n{lines}\r\n".encode() + body)

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        """Status, headers and JSON."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(head[0].split()[1]), headers, json.loads(body) if body else None

    async def ask(self, method: str, target: str, body: bytes = b"", **headers: object) -> Any:
        self.send(method, target, body, **headers)
        return await self.answer()


@pytest.fixture
def linger_s() -> float:
    """Longer than anything here waits: who waits for its end fails."""
    return 120.0


@pytest.fixture
def body_interval_s() -> float:
    return 60.0


@pytest.fixture
def limits(limits: HttpLimits, linger_s: float, body_interval_s: float) -> HttpLimits:
    return dataclasses.replace(limits, linger_s=linger_s, body_interval_s=body_interval_s)


@pytest.fixture
def authenticate() -> Any:
    return anyone


@pytest.fixture
async def server(
    make_app: Callable[..., FastAPI], authenticate: Any
) -> AsyncGenerator[uvicorn.Server]:
    app = make_app(authenticate=authenticate)
    config = uvicorn.Config(app, port=0, lifespan="off", ws="none", log_level="critical")
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    yield server
    server.force_exit = True
    await server.shutdown()


@pytest.fixture
def port(server: uvicorn.Server) -> int:
    number: int = server.servers[0].sockets[0].getsockname()[1]
    return number


@pytest.fixture
async def live(port: int) -> AsyncGenerator[Client]:
    client = await Client.connect(port)
    yield client
    client.writer.close()


@pytest.fixture
async def files(live: Client) -> str:
    """Where files of a new package go."""
    _, headers, _ = await live.ask("POST", "/v1/packages", PACKAGE, content_type="application/json")
    return f"{headers['location']}/files"


async def the_request_begins(server: uvicorn.Server) -> None:
    async with asyncio.timeout(20):
        while not server.server_state.tasks:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)


async def is_empty(registry: Registry, files: str, tmp_path: Path) -> bool:
    """Whether the package has no file, and the store nothing that looks like one."""
    package = uuid.UUID(files.split("/")[3])
    stored = [each for each in (tmp_path / "content").rglob("*") if each.is_file()]
    return (await registry.get_package(package)).file_count == 0 and stored == []


@pytest.mark.parametrize("path", ["..", "../../etc/passwd", "a/..", "a/./b", "/etc/passwd", "a//b"])
async def test_dots_that_nobody_resolved_are_refused(
    live: Client, files: str, registry: Registry, tmp_path: Path, path: str
) -> None:
    status, _, body = await live.ask("PUT", f"{files}/{path}", b"x")

    assert (status, body["error"]) == (400, "invalid_relative_path")
    assert await is_empty(registry, files, tmp_path)


async def test_a_body_beyond_the_limit_is_refused_before_it_comes(live: Client, files: str) -> None:
    status, headers, body = await live.ask("PUT", f"{files}/a", content_length=1_000_001)

    assert (status, body["error"], body["maxBytes"]) == (413, "body_too_large", 1_000_000)
    assert headers["connection"] == "close"


REFUSALS = {
    "too much of it": ("PUT", "{files}/a", "transfer-encoding: chunked", 413),
    "too much announced": ("PUT", "{files}/a", "content-length: 1000000000000", 413),
    "too much JSON": ("POST", "/v1/packages", "transfer-encoding: chunked", 413),
    "no such package": ("PUT", f"/v1/packages/{uuid.UUID(int=1)}/files/a", "transfer-encoding: chunked", 404),
    "path taken": ("PUT", "{files}/taken", "transfer-encoding: chunked", 409),
    "path not legal": ("PUT", "{files}/a//b", "transfer-encoding: chunked", 400),
    "id not legal": ("PUT", "/v1/packages/none/files/a", "transfer-encoding: chunked", 422),
    "actor not legal": ("PUT", "{files}/a", "registry-actor: \xe9\r\ntransfer-encoding: chunked", 400),
    "method not legal": ("PATCH", "{files}/a", "transfer-encoding: chunked", 405),
}  # fmt: skip


async def pour(connection: socket.socket, head: str) -> None:
    """Send a request whose body does not end, until the connection does."""
    loop = asyncio.get_running_loop()
    chunk = (b"10000\r\n" if "chunked" in head else b"") + bytes(65_536) + b"\r\n"
    with contextlib.suppress(ConnectionError):
        await loop.sock_sendall(connection, f"{head}\r\n\r\n".encode("latin-1"))
        while True:
            await loop.sock_sendall(connection, chunk)


async def read_late(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """The answer, taken from the system long after it was sent: a reset would have removed it."""
    await asyncio.sleep(0.2)
    received = b""
    async with asyncio.timeout(20):
        while b"\r\n\r\n" not in received or not received.endswith(b"}"):
            part = await asyncio.get_running_loop().sock_recv(connection, 65_536)
            assert part != b""
            received += part
    return int(received.split()[1]), json.loads(received.partition(b"\r\n\r\n")[2])


@pytest.fixture
async def raw(port: int) -> AsyncGenerator[socket.socket]:
    """A connection below asyncio's own reader, which forgets what it has when a reset comes."""
    with socket.socket() as connection:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
        yield connection


@pytest.mark.parametrize(("method", "target", "header", "status"), REFUSALS.values(), ids=REFUSALS)
async def test_a_client_that_never_stops_pouring_gets_its_answer(
    *, raw: socket.socket, live: Client, files: str, registry: Registry, tmp_path: Path,
    repetition: int, method: str, target: str, header: str, status: int,
) -> None:  # fmt: skip
    if "taken" in target:
        await live.ask("PUT", f"{files}/taken", b"x")
    head = f"{method} {target.format(files=files)} HTTP/1.1\r\nhost: x\r\n{header}"
    pouring = asyncio.ensure_future(pour(raw, head))

    answer, body = await read_late(raw)
    went_on = not pouring.done()
    pouring.cancel()
    await asyncio.wait([pouring])

    assert (answer, went_on) == (status, True), body
    assert "taken" in target or await is_empty(registry, files, tmp_path)


async def nobody(_token: str) -> None:
    return None


@pytest.mark.parametrize("authenticate", [nobody])
async def test_a_stranger_who_never_stops_pouring_gets_its_answer(raw: socket.socket) -> None:
    head = "PUT /v1/packages/x/files/a HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000000"
    pouring = asyncio.ensure_future(
        pour(raw, head.replace("/x/", f"/{uuid.UUID(int=1)}/") + "\r\nauthorization: Bearer no")
    )

    answer, body = await read_late(raw)
    pouring.cancel()
    await asyncio.wait([pouring])

    assert (answer, body["error"]) == (401, "unauthenticated")


@pytest.mark.parametrize("linger_s", [0.5])
async def test_pouring_after_the_answer_ends_with_the_connection(
    raw: socket.socket, files: str
) -> None:
    head = f"PUT {files}/a//b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked"
    pouring = asyncio.ensure_future(pour(raw, head))

    await read_late(raw)

    await asyncio.wait_for(pouring, 20)


async def test_whoever_stops_at_the_answer_is_let_go_at_once(
    raw: socket.socket, server: uvicorn.Server, files: str
) -> None:
    head = f"PUT {files}/a//b HTTP/1.1\r\nhost: x\r\ncontent-length: 900000\r\n\r\nx"
    await asyncio.get_running_loop().sock_sendall(raw, head.encode())

    await read_late(raw)
    lingering = set(server.server_state.tasks)
    raw.close()
    done, _ = await asyncio.wait(lingering, timeout=20)

    assert len(done) == len(lingering) == 1


async def test_a_refusal_of_a_request_without_a_body_keeps_the_connection(live: Client) -> None:
    target = f"/v1/packages/{uuid.UUID(int=1)}/finalize"
    live.writer.write(f"POST {target} HTTP/1.1\r\nhost: x\r\n\r\n".encode())

    status, headers, _ = await live.answer()
    again, _, _ = await live.ask("POST", target)

    assert (status, again, "connection" in headers) == (404, 404, False)


@pytest.mark.parametrize("body_interval_s", [0.2])
@pytest.mark.parametrize("dripping", [False, True])
async def test_a_body_that_stalls_or_drips_is_cut_off(
    *, live: Client, files: str, registry: Registry, tmp_path: Path, dripping: bool
) -> None:
    async def drip() -> None:
        while dripping:
            live.writer.write(b"x")
            await asyncio.sleep(0.05)

    live.send("PUT", f"{files}/a", b"x" * 150, content_length=100_000)
    drops = asyncio.ensure_future(drip())
    status, headers, body = await live.answer()
    drops.cancel()

    assert (status, body["error"]) == (408, "body_too_slow")
    assert headers["connection"] == "close"
    assert await is_empty(registry, files, tmp_path)


@pytest.mark.parametrize("framing", ["content-length: 100000", "transfer-encoding: chunked"])
async def test_a_connection_that_is_cut_leaves_nothing(
    *,
    live: Client,
    server: uvicorn.Server,
    files: str,
    registry: Registry,
    tmp_path: Path,
    framing: str,
) -> None:
    live.writer.write(
        f"PUT {files}/a HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n3e8\r\n".encode() + b"x" * 500
    )
    await live.writer.drain()
    await the_request_begins(server)
    live.writer.transport.abort()
    await asyncio.wait(server.server_state.tasks, timeout=20)

    assert await is_empty(registry, files, tmp_path)


async def test_a_length_that_is_none_is_refused(live: Client, files: str) -> None:
    live.send("PUT", f"{files}/a", b"x", content_length="many")

    assert (await live.reader.readline()).startswith(b"HTTP/1.1 400")


async def test_a_full_disk_is_507_and_the_service_goes_on(
    *,
    live: Client,
    port: int,
    files: str,
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_room(_draft: Draft, _block: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(Draft, "write", no_room)
        # Smaller content goes into the database with its event.
        status, _, body = await live.ask("PUT", f"{files}/a", bytes(100_000))
        assert await is_empty(registry, files, tmp_path)
    again = await Client.connect(port)
    created, _, _ = await again.ask("PUT", f"{files}/a", b"x")
    again.writer.close()

    assert (status, body["error"]) == (507, "storage_full")
    assert str(tmp_path) not in json.dumps(body)
    assert created == 201


async def test_an_event_stream_whose_reader_leaves_frees_its_place(
    port: int, server: uvicorn.Server, limits: Any
) -> None:
    for _ in range(3 * limits.max_event_streams):
        reader = await Client.connect(port)
        reader.send("GET", "/v1/events")
        assert b"200" in await reader.reader.readline()
        reader.writer.transport.abort()
        await asyncio.wait(server.server_state.tasks, timeout=20)


def serve(folder: Path) -> tuple[subprocess.Popen[str], int]:
    command = [sys.executable, "-m", "starfish_artifact_registry", "serve", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--registry", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline().rpartition(":")[2])


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
async def test_a_service_that_is_told_to_stop_ends_its_streams_and_says_nothing(
    tmp_path: Path, engine: object, number: signal.Signals, status: int
) -> None:
    process, port = await asyncio.to_thread(serve, tmp_path)
    reader = await Client.connect(port)
    reader.send("GET", "/events")
    assert b"200" in await reader.reader.readline()

    process.send_signal(number)
    said, complaints = await asyncio.to_thread(process.communicate, timeout=20)  # of the drain's 30
    rest = await reader.reader.read()
    reader.writer.close()

    assert (process.returncode, said, complaints) == (status, "", "")
    assert rest.endswith(b"0\r\n\r\n")  # whole, not cut


@pytest.mark.slow
@pytest.mark.timeout(150)
async def test_nothing_acknowledged_is_lost_when_the_server_is_killed(
    tmp_path: Path, engine: object
) -> None:
    # `engine` has made registry.sqlite in the folder that is served.
    process, port = await asyncio.to_thread(serve, tmp_path)
    client = await Client.connect(port)
    _, headers, _ = await client.ask("POST", "/packages", PACKAGE, content_type="application/json")
    client.writer.close()
    package, acknowledged = headers["location"], set[str]()

    async def upload(number: int) -> None:
        connection = await Client.connect(port)
        for count in range(10_000):
            name = f"{number}-{count}"
            try:
                status, _, _ = await connection.ask("PUT", f"{package}/files/{name}", name.encode())
            except (asyncio.IncompleteReadError, OSError):
                connection.writer.close()
                return
            assert status == 201
            acknowledged.add(name)
            if len(acknowledged) == 60:
                process.send_signal(signal.SIGKILL)

    await asyncio.gather(*(upload(number) for number in range(8)))
    process.communicate()
    restarted, port = await asyncio.to_thread(serve, tmp_path)
    client = await Client.connect(port)
    _, _, listed = await client.ask("GET", f"{package}/files?limit=1000")
    _, _, verified = await client.ask("POST", f"{package}/verify")
    client.writer.close()
    restarted.terminate()
    restarted.communicate()

    assert acknowledged <= {file["relative_path"] for file in listed["files"]}
    assert verified["ok"]
