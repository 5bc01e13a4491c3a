"""Several processes on one store: nobody's increment is lost."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CLIENTS = 64
INCREMENTS = 3

pytest.importorskip("uvicorn", reason="the extra uvicorn is not installed")

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.timeout(120)]


@pytest.fixture(params=["sqlite", "filesystem"])
def port(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    counters = {
        "name": "counters", "storagePath": "counters/{counter}",
        "readRoles": ["public"], "writeRoles": ["public"],
    }  # fmt: skip
    config = tmp_path / "starfish.json"
    config.write_text(json.dumps({"collections": [counters]}))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [
        sys.executable, "-m", "starfish_server", "run", "--config", config, "--data",
        tmp_path / "data", "--store", request.param, "--port", str(port), "--workers", "4",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait()


async def test_64_clients_increment_one_counter(port: int, connection_class: Any) -> None:
    first = connection_class(port)
    await first.until_healthy()
    conflicts = 0

    async def client() -> None:
        nonlocal conflicts
        connection = connection_class(port)
        for _ in range(INCREMENTS):
            status = 409
            while status == 409:
                _, stored = await connection.ask("GET", "/pull/counters/c")
                push = {
                    "data": {"n": stored["data"].get("n", 0) + 1},
                    "baseHash": stored["hash"] or None,
                }
                status, _ = await connection.ask("POST", "/push/counters/c", push)
                conflicts += status == 409
            assert status == 200
        await connection.close()

    await asyncio.gather(*(client() for _ in range(CLIENTS)))

    _, stored = await first.ask("GET", "/pull/counters/c")
    await first.close()
    assert stored["data"] == {"n": CLIENTS * INCREMENTS}
    assert conflicts > 0  # or there was no race
