"""Several processes on one store: nobody's increment is lost."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from servers.s3 import BUCKET, S3Server

CLIENTS = 64
INCREMENTS = 3

pytest.importorskip("uvicorn", reason="the extra uvicorn is not installed")

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.timeout(120)]


STORES = {
    "sqlite": (1, 4),
    "filesystem": (1, 4),
    "postgres": (2, 2),
    "objects": (2, 2),
}
"""How many servers, and how many workers each has."""


@pytest.fixture(params=STORES)
def ports(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[int]]:
    counters = {
        "name": "counters", "storagePath": "counters/{counter}",
        "readRoles": ["public"], "writeRoles": ["public"],
    }  # fmt: skip
    config = tmp_path / "starfish.json"
    config.write_text(json.dumps({"collections": [counters]}))
    servers, workers = STORES[request.param]
    place: list[str | Path] = ["--data", tmp_path / "data"]
    if request.param == "postgres":
        place = ["--dsn", request.getfixturevalue("postgres_database")]
    environment = dict(os.environ)
    if request.param == "objects":
        s3: S3Server = request.getfixturevalue("s3_server")
        place = ["--bucket", f"s3://{BUCKET}/{uuid.uuid4().hex}"]
        environment |= {
            "AWS_ENDPOINT": s3.endpoint, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": s3.secret_key,
        }  # fmt: skip
    ports: list[int] = []
    processes: list[subprocess.Popen[bytes]] = []
    for _ in range(servers):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ports.append(listener.getsockname()[1])
        command = [
            sys.executable, "-m", "starfish_server", "run", "--config", config, *place,
            "--store", request.param, "--port", str(ports[-1]), "--workers", str(workers),
        ]  # fmt: skip
        processes.append(
            subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        )
    try:
        yield ports
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


async def test_64_clients_increment_one_counter(ports: list[int], connection_class: Any) -> None:
    waiting = [connection_class(port) for port in ports]
    for each in waiting:
        await each.until_healthy()
        await each.close()
    first = waiting[0]
    conflicts = 0

    async def client(number: int) -> None:
        nonlocal conflicts
        connection = connection_class(ports[number % len(ports)])
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

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))

    _, stored = await first.ask("GET", "/pull/counters/c")
    await first.close()
    assert stored["data"] == {"n": CLIENTS * INCREMENTS}
    assert conflicts > 0  # or there was no race
