"""Networks that lose answers."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from typing import Self

import pytest


class Proxy:
    """Stands before the database; cuts connections, or swallows what the database answers."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.swallows = False
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_error: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
        both = {writer, to_server}
        self._writers |= both
        with contextlib.suppress(OSError):
            await asyncio.gather(
                self._pass_on(reader, to_server, is_answer=False),
                self._pass_on(from_server, writer, is_answer=True),
            )
        for each in both:
            each.close()
        self._writers -= both

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        while data := await reader.read(65536):
            if is_answer and self.swallows:
                self.cut()
                return
            writer.write(data)
            await writer.drain()
        writer.close()


class Endpoint:
    """An S3 endpoint in front of the real one; it may keep answers back, or be none at all."""

    def __init__(self, target: int | None) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self.swallowed = 0
        self.swallows: bytes | None = None
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_error: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request a connection."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            body = await reader.readexactly(int(length[1]) if length else 0)
            if self._target is None:  # takes every write, whatever its condition
                answer = b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: 0\r\n\r\n'
            else:
                head = head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
                from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
                to_server.write(head + body)
                answer = await from_server.read()
                to_server.close()
            if self.swallows is not None and head.startswith(self.swallows):
                self.swallowed += 1
                self.swallows = None
                if self.meanwhile is not None:
                    await self.meanwhile()
            else:
                first, rest = answer.split(b"\r\n", 1)
                writer.write(b"%s\r\nConnection: close\r\n%s" % (first, rest))
                await writer.drain()
        writer.close()


@pytest.fixture
def proxy_class() -> type[Proxy]:
    return Proxy


@pytest.fixture
def endpoint_class() -> type[Endpoint]:
    return Endpoint
