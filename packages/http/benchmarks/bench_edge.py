"""What the edge costs a small answer: processor time of the server a request, side by side.

The same bare ASGI application, 1 KB of JSON, in a process of its own each: by uvicorn alone, by the
bounded connection, with everything around it that can be switched on, and with Starlette's own layers for the same. Exits 1
above the wanted ratios.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvicorn
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware

from starfish_http.answers import raw_json_answer, send_answer
from starfish_http.middleware import Cors, with_edge
from starfish_http.serve import ServeOptions, listen, serve, url_of

REQUESTS, ROUNDS, PIPELINE = 4_000, 5, 8
ORIGIN = "https://app.example"
BODY = b'{"text":"' + b"x" * 1000 + b'"}'
WANTED = {"bounded": 1.2, "everything on": 1.8}
REQUEST = f"GET /notes/1 HTTP/1.1\r\nHost: x\r\nOrigin: {ORIGIN}\r\nAccept: */*\r\n\r\n".encode()


async def app(_scope: Any, _receive: Any, send: Any) -> None:
    await send_answer(send, raw_json_answer(BODY))


def with_everything(inner: Any) -> Any:
    from starfish_http.metrics import Metrics

    return with_edge(inner, cors=Cors([ORIGIN]), request_ids=True, observers=[Metrics()])


def with_layers(inner: Any) -> Any:
    async def add_id(request: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        answer = await call_next(request)
        answer.headers["x-request-id"] = os.urandom(8).hex()
        return answer

    layered = BaseHTTPMiddleware(inner, dispatch=add_id)
    return CORSMiddleware(layered, allow_origins=[ORIGIN])


def run(kind: str) -> None:
    listener = listen("127.0.0.1", 0)

    def ready() -> None:
        sys.stdout.write(url_of(listener) + "\n")
        sys.stdout.flush()

    if kind in {"uvicorn", "starlette layers"}:
        ready()
        served = app if kind == "uvicorn" else with_layers(app)
        config = uvicorn.Config(
            served, http="httptools", log_config=None, lifespan="off", access_log=False
        )
        uvicorn.Server(config).run(sockets=[listener])
    else:
        made = app if kind == "bounded" else with_everything(app)
        serve(lambda: made, listener, ServeOptions(drain_s=1), on_ready=ready)


def seconds_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(connection: socket.socket, count: int) -> None:
    """Several requests are on their way at once, so that the server is measured, and not the client."""
    size = None
    for _ in range(count // PIPELINE):
        connection.sendall(REQUEST * PIPELINE)
        received = b""
        while received.count(b"HTTP/1.1 200") < PIPELINE or (
            size and len(received) < size * PIPELINE
        ):
            received += connection.recv(65_536)
        if size is None:
            head = received.index(b"\r\n\r\n") + 4
            size = head + len(BODY)
            while len(received) < size * PIPELINE:
                received += connection.recv(65_536)


def cost(kind: str) -> float:
    """Microseconds of processor time a request."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", kind], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.settimeout(30)
            ask(connection, PIPELINE * 50)
            time.sleep(0.2)
            before = seconds_of(process.pid)
            ask(connection, REQUESTS)
            return (seconds_of(process.pid) - before) / REQUESTS * 1e6
    finally:
        process.kill()
        process.wait()


def main() -> int:
    kinds = ("uvicorn", "bounded", "everything on", "starlette layers")
    best = dict.fromkeys(kinds, float("inf"))
    for _ in range(ROUNDS):
        for kind in kinds:
            best[kind] = min(best[kind], cost(kind))
    failed = False
    print(f"{'':18}{'µs a request':>14}{'ratio':>8}{'wanted':>8}")
    for kind in kinds:
        ratio = best[kind] / best["uvicorn"]
        wanted = WANTED.get(kind)
        failed |= wanted is not None and ratio > wanted
        print(
            f"{kind:18}{best[kind]:14.1f}{ratio:8.2f}{'' if wanted is None else f'{wanted:8.1f}'}"
        )
    return int(failed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve")
    kind = parser.parse_args().serve
    if kind is None:
        sys.exit(main())
    run(kind)
