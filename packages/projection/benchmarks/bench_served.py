"""Lists as servers keep them, on SQLite: growth of an append over HTTP, two processes, start-up.

Growth is measured turn by turn on two servers, one with a short list and one with a long one, and shown
beside a plugin that keeps the same list in one document. Everything runs on one disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI

from starfish_projection import (
    Projection,
    ProjectionOp,
    ProjectionPlugin,
    ProjectionSet,
    create_projection_server_plugin,
)
from starfish_protocol.plugins import WriteEvent
from starfish_server import AuthResult, SyncRouterOptions, create_sync_router
from starfish_server.config.schema import SyncConfig
from starfish_server.protocol.push import push
from starfish_server.protocol.types import PushSuccess
from starfish_server.storage.base import AbstractObjectStore, StoreContext
from starfish_server.storage.sqlite import SqliteObjectStore

_ENTRIES = 20_000
_UNFOLDED = 4_000
_BLOCK = 20
_ROUNDS = 12
_SECONDS = 10.0
_WRITERS = 8
_OPEN = {"readRoles": ["public"], "writeRoles": ["public"]}
CONFIG = SyncConfig(
    collections=[
        {"name": "notes", "storagePath": "notes/{note}", **_OPEN},
        {"name": "list", "storagePath": "list", "readRoles": ["public"], "pullOnly": True},
    ]
)


class View:
    """A projection that counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0
        self.projection = Projection("notes", "list", self.project)

    def project(self, event: WriteEvent) -> ProjectionOp:
        self.calls += 1
        return ProjectionSet(event.params["note"], event.body or {})


def body(number: int) -> dict[str, str]:
    """Whose entry has about 150 bytes."""
    return {"title": f"Note {number:08d}", "text": "x" * 90}


async def write(store: AbstractObjectStore, note: str, number: int) -> PushSuccess:
    """A push as a server stores it, without the hooks that follow."""
    context = StoreContext("notes", {"note": note}, None, (), "push")
    answer = await push(store, f"notes/{note}", body(number), None, context=context)
    assert isinstance(answer, PushSuccess)
    return answer


async def fill(store: SqliteObjectStore, begin: int, end: int) -> None:
    for start in range(begin, end, 256):
        numbers = range(start, min(start + 256, end))
        await asyncio.gather(*(write(store, f"n{n}", n) for n in numbers))


async def anybody(_request: object) -> AuthResult:
    return AuthResult(identity=None)


@asynccontextmanager
async def served(
    store: SqliteObjectStore, plugin: ProjectionPlugin
) -> AsyncGenerator[httpx.AsyncClient]:
    """A server of a store, and a client that has had its first answer."""
    app = FastAPI()
    router = create_sync_router(SyncRouterOptions(store, CONFIG, anybody, plugins=[plugin]))
    app.include_router(router)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=url, timeout=120) as client:
            await client.get("/pull/notes/none")
            yield client
        server.should_exit = True
        await task


async def post(client: httpx.AsyncClient, number: int) -> float:
    begin = time.perf_counter()
    answer = await client.post(
        f"/push/notes/n{number}", json={"data": body(number), "baseHash": None}
    )
    answer.raise_for_status()
    return time.perf_counter() - begin


async def growth(folder: Path, pieces_above_bytes: int | None) -> float:
    """Time of an append to the long list, by that to the short one."""
    async with contextlib.AsyncExitStack() as stack:
        clients: list[tuple[httpx.AsyncClient, int]] = []
        for length in (0, _ENTRIES):
            store = SqliteObjectStore(folder / f"{length}-{pieces_above_bytes}.sqlite")
            stack.push_async_callback(store.close)
            await fill(store, 0, length)
            plugin = create_projection_server_plugin(
                store=store, projections=[View().projection], pieces_above_bytes=pieces_above_bytes
            )
            client = await stack.enter_async_context(served(store, plugin))
            await plugin.wait_for(timeout=120)
            clients.append((client, length))
        seconds: dict[int, list[float]] = {0: [], _ENTRIES: []}
        for round_ in range(_ROUNDS):
            for client, length in clients:
                begin = length + round_ * _BLOCK
                taken = [await post(client, number) for number in range(begin, begin + _BLOCK)]
                seconds[length].append(statistics.median(taken))
    short, long = (statistics.median(seconds[length][2:]) for length in (0, _ENTRIES))
    where = "in pieces" if pieces_above_bytes is not None else "in one document"
    print(
        f"an append over HTTP, {where}: {short * 1e3:.2f} ms at first,"
        f" {long * 1e3:.2f} ms at {_ENTRIES:,} entries"
    )
    return long / short


async def start_up(folder: Path) -> float:
    """Seconds from the start to the first answer, with writes that nobody folded."""
    store = SqliteObjectStore(folder / "unfolded.sqlite")
    await fill(store, 0, _UNFOLDED)
    plugin = create_projection_server_plugin(store=store, projections=[View().projection])
    app = FastAPI()
    router = create_sync_router(SyncRouterOptions(store, CONFIG, anybody, plugins=[plugin]))
    app.include_router(router)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://bench") as client:
        begin = time.perf_counter()
        async with router.lifespan_context(app):
            (await client.get("/pull/notes/n1")).raise_for_status()
            taken = time.perf_counter() - begin
            await plugin.wait_for(timeout=120)
    await store.close()
    return taken


async def projected(folder: Path) -> float:
    """How often ``project`` is asked for a live push."""
    store, view = SqliteObjectStore(folder / "live.sqlite"), View()
    plugin = create_projection_server_plugin(store=store, projections=[view.projection])
    async with served(store, plugin) as client:
        for number in range(200):
            await post(client, number)
        await plugin.wait_for()
    await store.close()
    return view.calls / 200


async def write_without_pause(path: Path, name: str) -> None:
    """One of two processes: pushes, each followed by its hook as in a server."""
    store = SqliteObjectStore(path)
    plugin = create_projection_server_plugin(store=store, projections=[View().projection])
    assert plugin.startup is not None
    assert plugin.shutdown is not None
    assert plugin.after_write is not None
    await plugin.startup()
    taken: list[float] = []
    print("ready", flush=True)
    begin_at = float(sys.stdin.readline())
    await asyncio.sleep(max(0.0, begin_at - time.time()))

    async def writer(lane: int) -> None:
        for number in range(10**9):
            if time.time() >= begin_at + _SECONDS:
                return
            note = f"{name}-{lane}-{number}"
            begin = time.perf_counter()
            answer = await write(store, note, number)
            event = WriteEvent(
                "notes",
                answer.hash,
                answer.timestamp,
                {"note": note},
                body(number),
                document_key=f"notes/{note}",
            )
            await plugin.after_write(event)
            taken.append(time.perf_counter() - begin)

    await asyncio.gather(*(writer(lane) for lane in range(_WRITERS)))
    dropped = sum(plugin.stats().dropped.values())
    await plugin.shutdown()
    await store.close()
    print(json.dumps({"taken": taken, "dropped": dropped}))


def two_processes(folder: Path) -> tuple[float, float, int]:
    """The slower process by the faster, the 99th percentile by the median, operations lost."""
    path = folder / "shared.sqlite"
    command = [sys.executable, __file__]
    children = [
        subprocess.Popen(
            [*command, str(path), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in "ab"
    ]
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()
    begin_at = time.time() + 0.5
    for child in children:
        assert child.stdin is not None
        child.stdin.write(f"{begin_at}\n")
        child.stdin.flush()
    told = [json.loads(child.communicate()[0]) for child in children]
    pushes = sum(len(each["taken"]) for each in told)

    async def entries() -> int:
        store = SqliteObjectStore(path)
        plugin = create_projection_server_plugin(store=store, projections=[View().projection])
        async with served(store, plugin) as client:
            await plugin.wait_for(timeout=60)
            items = (await client.get("/pull/list")).json()["data"]["items"]
        await store.close()
        return len(items)

    lost = pushes - asyncio.run(entries()) + sum(each["dropped"] for each in told)
    rates = sorted(len(each["taken"]) / _SECONDS for each in told)
    taken = sorted(seconds for each in told for seconds in each["taken"])
    median, late = statistics.median(taken), taken[len(taken) * 99 // 100]
    print(
        f"two processes, {_WRITERS} writers each: {rates[0]:.0f} and {rates[1]:.0f} pushes a second,"
        f" median {median * 1e3:.0f} ms, 99th percentile {late * 1e3:.0f} ms"
    )
    return rates[0] / rates[1], late / median, lost


def verdict(figure: str, measured: float, wanted: str, *, met: bool) -> bool:
    print(f"{figure}: measured {measured:.2f}, wanted {wanted}  {'ok' if met else 'MISSED'}")
    return met


def main() -> int:
    with tempfile.TemporaryDirectory(dir=".", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        in_pieces = asyncio.run(growth(folder, 64 << 10))
        asyncio.run(growth(folder, None))
        started = [
            asyncio.run(start_up(folder / str(n)))
            for n in range(3)
            if not (folder / str(n)).mkdir()
        ]
        once = asyncio.run(projected(folder))
        fairness, lateness, lost = two_processes(folder)
    milliseconds = statistics.median(started) * 1e3
    print()
    met = [
        verdict(f"append, {_ENTRIES:,} entries by none", in_pieces, "< 1.5", met=in_pieces < 1.5),
        verdict(
            f"first answer with {_UNFOLDED:,} unfolded documents, ms",
            milliseconds,
            "<= 100",
            met=milliseconds <= 100,
        ),
        verdict("calls of project for a live push", once, "1", met=once == 1),
        verdict("slower of two processes by the faster", fairness, ">= 0.7", met=fairness >= 0.7),
        verdict("99th percentile of a push by its median", lateness, "< 10", met=lateness < 10),
        verdict("operations lost by two processes", lost, "0", met=lost == 0),
    ]
    return 0 if all(met) else 1


if __name__ == "__main__":
    if len(sys.argv) == 3:
        asyncio.run(write_without_pause(Path(sys.argv[1]), sys.argv[2]))
    else:
        sys.exit(main())
