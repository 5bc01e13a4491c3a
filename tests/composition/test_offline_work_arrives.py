"""Outbox, server and projection together, each with its own storage, over real HTTP."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from starfish_outbox import OutboxQueue, SqliteOutbox, drain_outbox
from starfish_outbox.http import PushSender

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.network


class Service:
    """The service of docs/demo as a process that a test starts and kills."""

    def __init__(self, data: Path) -> None:
        self.data = data
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        script = ROOT / "docs/demo/service.py"
        command = [sys.executable, script, "--data", self.data, "--port", str(self.port)]
        self.processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))

    def kill(self) -> None:
        while self.processes:
            process = self.processes.pop()
            process.kill()
            process.wait()

    async def healthy(self, client: httpx.AsyncClient) -> None:
        until = time.monotonic() + 45
        while time.monotonic() < until:
            try:
                if (await client.get("/health")).status_code == 200:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.05)
        pytest.fail("the service does not answer /health")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path / "server")
    yield service
    service.kill()


@pytest.fixture
async def client(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=service.url, timeout=20) as client:
        yield client


@pytest.fixture
async def queue(tmp_path: Path) -> AsyncIterator[OutboxQueue]:
    storage = SqliteOutbox(tmp_path / "outbox.sqlite")
    queue: OutboxQueue = OutboxQueue(storage)
    await queue.hydrate("outbox.ada")
    yield queue
    await storage.close()


def page(name: str, base_hash: str | None = None, **body: object) -> dict[str, object]:
    return {
        "path": f"pages/{name}",
        "body": {"title": name, "text": "", **body},
        "baseHash": base_hash,
    }


async def test_what_was_queued_offline_arrives_once_and_is_listed_in_order(
    service: Service, client: httpx.AsyncClient, queue: OutboxQueue
) -> None:
    names = [f"p{number}" for number in range(20)]
    for name in names:
        await queue.enqueue(name, page(name))
    offline = await drain_outbox(queue, PushSender(client))

    service.start()
    await service.healthy(client)
    online = await drain_outbox(queue, PushSender(client), concurrency=1)

    assert (offline.sent, offline.failed) == (0, 0)
    assert (online.sent, online.failed) == (20, 0)
    assert queue.get() == []
    contents = (await client.get("/pull/contents")).json()["data"]["items"]
    assert [entry["id"] for entry in contents] == names


async def test_an_offline_edit_merges_with_what_somebody_else_wrote(
    service: Service, client: httpx.AsyncClient, queue: OutboxQueue
) -> None:
    service.start()
    await service.healthy(client)
    first = await client.post("/push/pages/p", json={"data": page("p")["body"], "baseHash": None})
    base_hash = first.json()["hash"]
    await queue.enqueue("edit", page("p", base_hash, tags={"ada": True}))
    theirs = {"title": "p", "text": "by ben", "tags": {"ben": True}}
    await client.post("/push/pages/p", json={"data": theirs, "baseHash": base_hash})

    result = await drain_outbox(queue, PushSender(client))

    assert (result.sent, result.failed) == (1, 0)
    merged = (await client.get("/pull/pages/p")).json()["data"]
    assert merged == {"title": "p", "text": "by ben", "tags": {"ada": True, "ben": True}}


async def test_a_write_that_the_server_refuses_for_good_does_not_block_the_others(
    service: Service, client: httpx.AsyncClient, queue: OutboxQueue
) -> None:
    service.start()
    await service.healthy(client)
    await queue.enqueue("bad", {"path": "pages/bad", "body": {"title": 1}, "baseHash": None})
    await queue.enqueue("good", page("good"))

    result = await drain_outbox(queue, PushSender(client))

    assert (result.sent, result.failed) == (1, 1)
    assert [(entry.id, entry.status) for entry in queue.get()] == [("bad", "failed")]


async def test_a_server_killed_during_a_drain_loses_nothing_and_sends_nothing_twice(
    service: Service, client: httpx.AsyncClient, queue: OutboxQueue
) -> None:
    names = [f"p{number}" for number in range(100)]
    for name in names:
        await queue.enqueue(name, page(name))
    service.start()
    await service.healthy(client)

    under_way = asyncio.Event()
    queue.subscribe(lambda: under_way.set() if len(queue.get()) < 60 else None)
    draining = asyncio.create_task(drain_outbox(queue, PushSender(client), concurrency=4))
    await under_way.wait()
    service.kill()
    await draining
    assert queue.get() != []
    service.start()
    await service.healthy(client)
    await drain_outbox(queue, PushSender(client), concurrency=4)

    assert queue.get() == []
    listed = (await client.get("/list/pages", params={"limit": 1000})).json()["items"]
    assert sorted(listed) == sorted(names)
