"""Processor time of the server for each request, as ratios that a loaded machine does not move much.

Each line compares two kinds of request in turns: against a bare ASGI answer, against an empty store, a
small blob, no readers. Both sides run in a server process of their own under the same protocol; the
client is one raw asyncio program. Linux only: the time is read from ``/proc``.

    python packages/server/benchmarks/bench_figures.py [--requests 2000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

CONNECTIONS = 16
PUBLIC: dict[str, Any] = {"readRoles": ["public"], "writeRoles": ["public"]}
TEXT = "The quick brown fox jumps over the lazy dog. " * 20
FLAT = {"title": "A note", "tags": ["a", "b", "c"], "text": TEXT}
ROWS = {"rows": [{"id": n, "name": f"row {n}", "price": n * 0.5, "on": True} for n in range(100)]}
COLLECTIONS = [
    {"name": "notes", "storagePath": "notes/{id}", **PUBLIC},
    {"name": "quiet", "storagePath": "quiet/{id}", **PUBLIC},
    {"name": "old", "storagePath": "old/{id}", "listable": True, "ttlMs": 1, **PUBLIC},
    {"name": "few", "storagePath": "few/{id}", "listable": True, **PUBLIC},
    {
        "name": "photos", "storagePath": "photos/{id}", "allowedMimeTypes": ["image/*"],
        "maxBodyBytes": 100_000_000, **PUBLIC,
    },
]  # fmt: skip


def ours(folder: Path) -> Any:
    from starfish_server import SqliteObjectStore, SyncConfig
    from starfish_server.app import create_app

    config = SyncConfig.model_validate({"collections": COLLECTIONS})
    store = SqliteObjectStore(folder / "documents.sqlite")
    options = {"max_event_streams": 5000, "max_event_streams_per_caller": 5000}
    return create_app(config, store=store, **options)


def bare(_folder: Path) -> Any:
    """Reads the body and answers as much as ours does."""
    answer = json.dumps({"data": FLAT, "hash": "0" * 64, "timestamp": 1}).encode()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        more = True
        while more:
            more = (await receive()).get("more_body", False)
        body = answer if scope["method"] == "GET" else answer[-100:]
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


class Server:
    def __init__(self, port: int, pid: int) -> None:
        self.port, self.pid = port, pid

    def processor_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def server(make: Callable[[Path], Any], folder: Path) -> Generator[Server]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    pid = os.fork()
    if pid == 0:
        import uvicorn

        config = uvicorn.Config(
            make(folder), log_level="error", lifespan="auto" if make is ours else "off"
        )
        uvicorn.Server(config).run(sockets=[listener])
        os._exit(0)
    port = listener.getsockname()[1]
    listener.close()
    try:
        yield Server(port, pid)
    finally:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)


def request(
    method: str, path: str, body: bytes = b"", kind: str = "application/json", more: str = ""
) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{more}"
    if method == "POST":
        head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


async def answer(reader: asyncio.StreamReader, *, has_body: bool = True) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    size = int(head.lower().partition(b"content-length:")[2].partition(b"\r")[0] or 0)
    body = await reader.readexactly(size) if has_body and size else b""
    if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 206", b"HTTP/1.1 304")):
        raise RuntimeError(f"{head!r} {body[:200]!r}")
    return body


async def drive(
    port: int, make: Callable[[int, int, bytes], bytes], count: int, *, has_body: bool
) -> None:
    """So many requests over all connections; each is made of the answer before it."""

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        last = b""
        for at in range(count // CONNECTIONS):
            writer.write(make(number, at, last))
            last = await answer(reader, has_body=has_body)
        writer.close()

    await asyncio.gather(*(client(number) for number in range(CONNECTIONS)))


def cost(
    where: Server, make: Callable[[int, int, bytes], bytes], count: int, *, has_body: bool = True
) -> float:
    """Microseconds of processor time for one request."""
    before = where.processor_s()
    asyncio.run(drive(where.port, make, count, has_body=has_body))
    return (where.processor_s() - before) / (count // CONNECTIONS * CONNECTIONS) * 1e6


def pushing(data: object, prefix: str) -> Callable[[int, int, bytes], bytes]:
    def make(number: int, at: int, last: bytes) -> bytes:
        base = json.loads(last)["hash"] if last.startswith(b'{"hash"') and at else None
        body = json.dumps({"data": {**data, "at": at}, "baseHash": base}).encode()  # type: ignore[dict-item]
        return request("POST", f"/push/notes/{prefix}{number}", body)

    return make


def always(text: bytes) -> Callable[[int, int, bytes], bytes]:
    return lambda _number, _at, _last: text


def ratio(
    name: str, want: str, one: Callable[[], float], other: Callable[[], float], rounds: int
) -> None:
    found = [(one(), other()) for _ in range(rounds)]
    ratios = [a / max(b, 1e-9) for a, b in found]
    middle = statistics.median(ratios)
    a, b = (statistics.median(column) for column in zip(*found, strict=True))
    print(f"{name:56s} {a:8.0f} us {b:8.0f} us  {middle:5.2f}x  (wanted {want})", flush=True)


async def fill(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    document = json.dumps({"data": FLAT, "baseHash": None}).encode()
    sent = [request("POST", "/push/notes/read", document), request("POST", "/push/few/1", document)]
    for name, size in (("small", 60_000), ("large", 60_000_000)):
        sent.append(request("POST", f"/push/photos/{name}", b"x" * size, "image/png"))
    sent += [
        request("POST", f"/push/old/{n:06}", b'{"data":{},"baseHash":null}') for n in range(20_000)
    ]
    for at, text in enumerate(sent):
        writer.write(text)
        if at > 4 and at % 64:
            continue
    for _ in sent:
        await answer(reader)
    writer.close()


async def readers(port: int, count: int) -> list[asyncio.StreamWriter]:
    opened = []
    for _ in range(count):
        _reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request("GET", "/events?collections=quiet"))
        opened.append(writer)
    await asyncio.sleep(2)
    return opened


def with_readers(where: Server, count: int, requests: int, prefix: str) -> float:
    async def main() -> float:
        opened = await readers(where.port, count)
        before = where.processor_s()
        await drive(where.port, pushing(FLAT, prefix), requests, has_body=True)
        spent = where.processor_s() - before
        for writer in opened:
            writer.close()
        return spent / requests * 1e6

    return asyncio.run(main())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    count, rounds = options.requests, options.rounds
    if not Path("/proc/self/stat").exists():
        print("skipped: the processor time of another process is read from /proc")
        return 0
    with (
        tempfile.TemporaryDirectory() as folder,
        server(ours, Path(folder)) as mine,
        server(bare, Path(folder)) as plain,
    ):
        time.sleep(1.5)
        asyncio.run(fill(mine.port))
        number = 0

        def fresh(data: object) -> Callable[[int, int, bytes], bytes]:
            nonlocal number
            number += 1
            return pushing(data, f"p{number}-")

        ratio(
            "push 1 KB flat / bare answer",
            "3",
            lambda: cost(mine, fresh(FLAT), count),
            lambda: cost(plain, fresh(FLAT), count),
            rounds,
        )
        ratio(
            "push 5 KB of 100 rows / bare answer",
            "3",
            lambda: cost(mine, fresh(ROWS), count),
            lambda: cost(plain, fresh(ROWS), count),
            rounds,
        )
        pull = always(request("GET", "/pull/notes/read"))
        ratio(
            "pull 1 KB / bare answer",
            "1.8",
            lambda: cost(mine, pull, count),
            lambda: cost(plain, pull, count),
            rounds,
        )
        lists = [always(request("GET", f"/list/{name}?limit=1")) for name in ("old", "few")]
        ratio(
            "list of 1 in 20,000 expired / in none",
            "1.5",
            lambda: cost(mine, lists[0], count),
            lambda: cost(mine, lists[1], count),
            rounds,
        )
        for method, more in (("HEAD", ""), ("GET", "Range: bytes=7-7\r\n")):
            blobs = [
                always(request(method, f"/pull/photos/{name}", more=more))
                for name in ("large", "small")
            ]
            body = method == "GET"
            ratio(
                f"{method} {more.strip() or 'of'} 60 MB / 60 KB",
                "2",
                lambda b=blobs, h=body: cost(mine, b[0], count, has_body=h),
                lambda b=blobs, h=body: cost(mine, b[1], count, has_body=h),
                rounds,
            )
        ratio(
            "push beside 500 idle readers / none",
            "1.1",
            lambda: with_readers(mine, 500, count, f"r{time.monotonic_ns()}-"),
            lambda: with_readers(mine, 0, count, f"r{time.monotonic_ns()}-"),
            rounds,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
