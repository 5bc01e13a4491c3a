"""A reader of `/events` that is cut off and goes on at another server, all the time.

``STARFISH_FEED_WRITES`` says how many writes; the promise is 10,000 with 100 resumptions.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

WRITES = int(os.environ.get("STARFISH_FEED_WRITES", "600"))
RESUMPTIONS = max(10, min(100, WRITES // 30))
WRITERS = 8

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.timeout(90 + WRITES // 20)]


@pytest.fixture
def ports(postgres_database: str, tmp_path: Path) -> Iterator[list[int]]:
    """Two servers on one database."""
    notes = {
        "name": "notes", "storagePath": "notes/{note}",
        "readRoles": ["public"], "writeRoles": ["public"],
    }  # fmt: skip
    config = tmp_path / "starfish.json"
    config.write_text(json.dumps({"collections": [notes]}))
    ports, processes = [], []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ports.append(listener.getsockname()[1])
        command = [
            sys.executable, "-m", "starfish_server", "run", "--config", config,
            "--store", "postgres", "--port", str(ports[-1]),
        ]  # fmt: skip
        processes.append(
            subprocess.Popen(
                command,
                env={**os.environ, "STARFISH_DSN": postgres_database},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
    try:
        yield ports
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


class Reader:
    """Reads some events, is cut off, and goes on at the other server."""

    def __init__(self, ports: list[int], every: int) -> None:
        self._ports = itertools.cycle(ports)
        self._every = every
        self.seen: list[tuple[str, str]] = []
        self.cuts = 0
        self.position = "0"

    async def read(self, count: int) -> None:
        while len(self.seen) < count:
            await self._read_some(min(self._every, count - len(self.seen)))
            self.cuts += 1

    async def _read_some(self, count: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", next(self._ports))
        target = f"/events?collections=notes&since={self.position}"
        writer.write(f"GET {target} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        assert b" 200 " in await reader.readuntil(b"\r\n")
        position = ""
        while count:
            line = (await reader.readline()).decode().strip()
            assert not line.startswith("event:"), "the log was lost"
            if line.startswith("id:"):
                position = line.partition(":")[2].strip()
            elif line.startswith("data:"):
                event = json.loads(line.partition(":")[2])
                self.seen.append((event["key"], event["hash"]))
                self.position = position
                count -= 1
        writer.transport.abort()


async def test_each_change_is_seen_once_and_in_order(
    ports: list[int], connection_class: Any
) -> None:
    pushed: defaultdict[str, list[str]] = defaultdict(list)
    for port in ports:
        waiting = connection_class(port)
        await waiting.until_healthy()
        await waiting.close()

    async def write(number: int) -> None:
        key = f"notes/{number}"
        connections = [connection_class(port) for port in ports]
        for n in range(WRITES // WRITERS):
            base = pushed[key][-1] if pushed[key] else None
            push = {"data": {"n": n}, "baseHash": base}
            status, answer = await connections[n % 2].ask("POST", f"/push/{key}", push)
            assert status == 200, answer
            pushed[key].append(answer["hash"])
        for connection in connections:
            await connection.close()

    reader = Reader(ports, WRITES // RESUMPTIONS)
    await asyncio.gather(
        reader.read(WRITES // WRITERS * WRITERS), *(write(number) for number in range(WRITERS))
    )

    assert reader.cuts >= RESUMPTIONS
    seen: defaultdict[str, list[str]] = defaultdict(list)
    for key, digest in reader.seen:
        seen[key].append(digest)
    assert seen == pushed
    sys.stdout.write(f"{len(reader.seen)} changes, {reader.cuts} resumptions\n")
