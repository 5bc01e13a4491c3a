"""A process that is killed while it ingests loses nothing that it acknowledged."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from starfish_artifact_registry.dataplane import InProcessDataPlane
from starfish_artifact_registry.db.engine import create_engine
from starfish_artifact_registry.db.schema import artifact_files
from starfish_artifact_registry.events import RegistryViewWriter, replay
from starfish_artifact_registry.registry import Registry
from starfish_artifact_registry.storage import LocalBackend

KILLS = int(os.environ.get("STARFISH_KILLS", "6"))
"""Rounds for each database; the promise is 100."""

CHILD = """
import asyncio, os, sys
from starfish_artifact_registry.dataplane import InProcessDataPlane
from starfish_artifact_registry.db.engine import create_engine
from starfish_artifact_registry.events import RegistryViewWriter
from starfish_artifact_registry.registry import Registry
from starfish_artifact_registry.storage import LocalBackend

async def round_of(url, folder):
    engine = create_engine(url)
    registry = Registry(engine, InProcessDataPlane(LocalBackend(folder)), RegistryViewWriter())
    package_id = await registry.create_package(
        name="n", producer="p", subject="s", retention_class="derived", actor="child")

    async def worker(number):
        for count in range(10**6):
            data = f"{os.getpid()} {number} {count}".encode() * (1 + count % 3000)
            async def stream():
                for start in range(0, len(data), 50_000):
                    yield data[start:start + 50_000]
            path = f"{number}/{count}"
            file_id = await registry.ingest_file(package_id, relative_path=path,
                media_type="text/plain", stream=stream(), actor="child")
            os.write(1, f"{file_id} {len(data)}\\n".encode())

    await asyncio.gather(*(worker(number) for number in range(4)))

url, folder = sys.argv[1:]
os.write(1, b"ready\\n")
# One process that has imported everything makes the children: a round costs milliseconds.
for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        asyncio.run(round_of(url, folder))
    os.write(1, f"pid {child}\\n".encode())
    os.waitpid(child, 0)
    os.write(1, b"dead\\n")
"""


@pytest.mark.timeout(60 + 2 * KILLS)
def test_what_was_acknowledged_is_there_after_a_kill(database_url: str, tmp_path: Path) -> None:
    rng = random.Random(7)
    content = tmp_path / "content"
    acknowledged: dict[str, int] = {}
    parent = subprocess.Popen(
        [sys.executable, "-c", CHILD, database_url, str(content)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    try:
        assert parent.stdout.readline() == "ready\n"
        for _ in range(KILLS):
            parent.stdin.write("go\n")
            wait_for = rng.randrange(1, 40)
            pid = 0
            for line in parent.stdout:
                word, _, rest = line.rstrip("\n").partition(" ")
                if word == "dead":
                    break
                if word == "pid":
                    pid = int(rest)
                    continue
                acknowledged[word] = int(rest)
                wait_for -= 1
                if wait_for == 0:
                    time.sleep(rng.random() * 0.004)
                    os.kill(pid, signal.SIGKILL)
    finally:
        parent.stdin.close()
        parent.wait(20)
        parent.stdout.close()

    found = asyncio.run(_look(database_url, content))

    assert len(acknowledged) >= KILLS
    assert acknowledged.items() <= found.items()


async def _look(database_url: str, content: Path) -> dict[str, int]:
    """Every file of the registry, once its bytes were found to be those of the log."""
    engine = create_engine(database_url)
    dataplane = InProcessDataPlane(LocalBackend(content))
    registry = Registry(engine, dataplane, RegistryViewWriter())
    assert (await registry.verify_log()).ok
    async with engine.connect() as connection:
        before = await _rows(connection)
    checked = await registry.verify_all()
    assert (checked.damaged, checked.files_checked) == ((), len(before))
    await replay(engine, RegistryViewWriter())
    async with engine.connect() as connection:
        assert await _rows(connection) == before
    await engine.dispose()
    return {str(row.id): row.size_bytes for row in before}


async def _rows(connection: Any) -> list[Any]:
    files = select(artifact_files).order_by(artifact_files.c.id)
    return list((await connection.execute(files)).all())
