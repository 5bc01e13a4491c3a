"""A client that costs next to nothing, so that a test can be many of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest


class Connection:
    """One HTTP connection, one request at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status and JSON of an answer; `ConnectionError` when there is none."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        content = b"" if body is None else json.dumps(body).encode()
        writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n\r\n".encode()
            + content
        )
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].partition("\r")[0])
            answer = await reader.readexactly(length)
        except asyncio.IncompleteReadError as error:
            raise ConnectionError from error
        return int(head.split()[1]), json.loads(answer)

    async def until_healthy(self) -> None:
        """Return once the server answers."""
        async with asyncio.timeout(20):
            while True:
                try:
                    status, _ = await self.ask("GET", "/health")
                except OSError:
                    await self.close()
                    await asyncio.sleep(0.02)
                else:
                    assert status == 200
                    return

    async def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            _, writer = self._streams
            self._streams = None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@pytest.fixture
def connection_class() -> type[Connection]:
    return Connection
