"""A real server on loopback, and clients that do not behave."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
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

from starfish_artifact_registry.registry import Registry
from starfish_artifact_registry.storage._content_folder import Draft

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
async def port(make_app: Callable[..., FastAPI]) -> AsyncGenerator[int]:
    config = uvicorn.Config(make_app(), port=0, lifespan="off", ws="none", log_level="critical")
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    yield server.servers[0].sockets[0].getsockname()[1]
    server.force_exit = True
    await server.shutdown()


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

    assert (status, body["error"], body["max_bytes"]) == (413, "body_too_large", 1_000_000)
    assert headers["connection"] == "close"


async def test_an_endless_body_is_cut_off(
    live: Client, files: str, registry: Registry, tmp_path: Path
) -> None:
    async def pour() -> None:
        live.writer.write(
            f"PUT {files}/a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode()
        )
        while True:
            live.writer.write(b"10000\r\n" + bytes(65_536) + b"\r\n")
            await live.writer.drain()

    pouring = asyncio.ensure_future(pour())
    status, _, body = await live.answer()
    pouring.cancel()
    await asyncio.wait([pouring])

    assert (status, body["error"]) == (413, "body_too_large")
    assert await is_empty(registry, files, tmp_path)


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
    live: Client, files: str, registry: Registry, tmp_path: Path, framing: str
) -> None:
    live.writer.write(
        f"PUT {files}/a HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n3e8\r\n".encode() + b"x" * 500
    )
    await live.writer.drain()
    await asyncio.sleep(0.05)
    live.writer.transport.abort()
    await asyncio.sleep(0.1)

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
        status, _, body = await live.ask("PUT", f"{files}/a", b"x")
        assert await is_empty(registry, files, tmp_path)
    again = await Client.connect(port)
    created, _, _ = await again.ask("PUT", f"{files}/a", b"x")
    again.writer.close()

    assert (status, body["error"]) == (507, "storage_full")
    assert str(tmp_path) not in json.dumps(body)
    assert created == 201


async def test_an_event_stream_whose_reader_leaves_frees_its_place(port: int, limits: Any) -> None:
    for _ in range(3 * limits.max_event_streams):
        reader = await Client.connect(port)
        reader.send("GET", "/v1/events")
        assert b"200" in await reader.reader.readline()
        reader.writer.transport.abort()
        await asyncio.sleep(0.05)


def serve(folder: Path) -> tuple[subprocess.Popen[str], int]:
    command = [sys.executable, "-m", "starfish_artifact_registry", "serve", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--registry", str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline().rpartition(":")[2])


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
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    restarted, port = await asyncio.to_thread(serve, tmp_path)
    client = await Client.connect(port)
    _, _, listed = await client.ask("GET", f"{package}/files?limit=1000")
    _, _, verified = await client.ask("POST", f"{package}/verify")
    client.writer.close()
    restarted.terminate()
    restarted.wait()
    assert restarted.stdout is not None
    restarted.stdout.close()

    assert acknowledged <= {file["relative_path"] for file in listed["files"]}
    assert verified["ok"]
