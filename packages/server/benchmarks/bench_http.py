"""Requests a second over HTTP, beside a straightforward FastAPI implementation of the protocol.

Both run as one uvicorn process with uvloop and httptools; one client with 64 connections, a raw
asyncio protocol, drives them in turns. Ours stores in SQLite and has committed with fsync before
it answers. The peer stores files, one lock a key, without fsync.

What to keep in mind: client and server share the machine, so a faster machine moves both figures;
each connection updates a document of its own, so nobody conflicts.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import uvicorn
import uvloop
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse

CONNECTIONS = 64
WANTED = 3.0
TEXT = "The quick brown fox jumps over the lazy dog. " * 20


def document(revision: int) -> dict[str, Any]:
    """About 1 KB of JSON."""
    return {"title": "A note", "revision": revision, "tags": ["a", "b", "c"], "text": TEXT}


# --- ours -------------------------------------------------------------------------------------


def ours(folder: Path) -> FastAPI:
    from starfish_server import (
        AuthResult,
        CollectionConfig,
        SqliteObjectStore,
        SyncConfig,
        SyncRouterOptions,
        create_sync_router,
    )
    from starfish_server.router.application import SyncFastAPI

    async def anybody(_request: Request) -> AuthResult:
        return AuthResult(identity=None)

    notes = CollectionConfig(
        name="notes", storage_path="notes/{note}", read_roles=["public"], write_roles=["public"]
    )
    app = SyncFastAPI()
    store = SqliteObjectStore(folder / "documents.sqlite")
    options = SyncRouterOptions(store, SyncConfig(collections=[notes]), anybody)
    app.include_router(create_sync_router(options))
    return app


# --- the peer: what a competent engineer writes in an afternoon ---------------------------------


def peer(folder: Path) -> FastAPI:  # noqa: C901 - one function, as such a file would be
    app = FastAPI()
    locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
    legal = re.compile(r"[A-Za-z0-9._:@-]+")

    def path_of(note: str) -> Path:
        if not legal.fullmatch(note) or ".." in note:
            raise HTTPException(400, "Invalid path parameter")
        return folder / f"{note}.json"

    def read(path: Path) -> dict[str, Any] | None:
        try:
            return json.loads(path.read_text())
        except FileNotFoundError:
            return None

    def write(path: Path, stored: dict[str, Any]) -> None:
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(stored))
        temporary.replace(path)

    def hash_of(data: dict[str, Any]) -> str:
        text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @app.get("/pull/notes/{note}")
    async def pull(note: str) -> dict[str, Any]:
        stored = await asyncio.to_thread(read, path_of(note))
        now = int(time.time() * 1000)
        if stored is None:
            return {"data": {}, "hash": "", "timestamp": now}
        return {"data": stored["data"], "hash": stored["hash"], "timestamp": now}

    @app.post("/push/notes/{note}")
    async def push(note: str, request: Request) -> Any:
        path = path_of(note)
        try:
            body = await request.json()
        except ValueError:
            raise HTTPException(400, "Invalid JSON body") from None
        if not isinstance(body, dict) or not isinstance(body.get("data"), dict):
            raise HTTPException(400, "Missing or invalid data")
        data, base_hash = body["data"], body.get("baseHash")
        async with locks[note]:
            stored = await asyncio.to_thread(read, path)
            current = None if stored is None else stored["hash"]
            if current != base_hash:
                return JSONResponse({"error": "hash_mismatch", "currentHash": current}, 409)
            now = int(time.time() * 1000)
            new = {"v": 1, "data": data, "ts": now, "hash": hash_of(data)}
            await asyncio.to_thread(write, path, new)
        return {"hash": new["hash"], "timestamp": now}

    return app


# --- the client ---------------------------------------------------------------------------------


class Connection(asyncio.Protocol):
    """One request at a time, as lean as it gets: only the needed bytes are looked at."""

    def __init__(self) -> None:
        self._buffer = b""
        self._answer: asyncio.Future[bytes] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a TCP connection is one

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        at = self._buffer.lower().find(b"content-length: ", 0, end + 2) + 16
        length = int(self._buffer[at : self._buffer.index(b"\r", at)])
        if len(self._buffer) >= end + 4 + length and self._answer is not None:
            answer, self._buffer = self._buffer, b""
            self._answer.set_result(answer)

    async def ask(self, request: bytes) -> bytes:
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        self._transport.close()


def push_request(note: str, base_hash: str | None, revision: int) -> bytes:
    body = json.dumps({"data": document(revision), "baseHash": base_hash}).encode()
    head = (
        f"POST /push/notes/{note} HTTP/1.1\r\nHost: bench\r\nAccept: application/json\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def pull_request(note: str) -> bytes:
    return (
        f"GET /pull/notes/{note} HTTP/1.1\r\nHost: bench\r\nAccept: application/json\r\n\r\n"
    ).encode()


async def pushes(port: int, seconds: float, round_: int) -> float:
    done = 0
    deadline = 0.0

    async def one(number: int) -> None:
        nonlocal done
        _, connection = await asyncio.get_running_loop().create_connection(
            Connection, "127.0.0.1", port
        )
        note, base, revision = f"r{round_}n{number}", None, 0
        while time.perf_counter() < deadline:
            answer = await connection.ask(push_request(note, base, revision))
            if not answer.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"refused: {answer!r}")
            at = answer.rindex(b'"hash":"') + 8
            base = answer[at : at + 64].decode()
            revision += 1
            done += 1
        connection.close()

    began = time.perf_counter()
    deadline = began + seconds
    await asyncio.gather(*(one(number) for number in range(CONNECTIONS)))
    return done / (time.perf_counter() - began)


async def pulls(port: int, seconds: float, round_: int) -> float:
    done = 0
    deadline = 0.0

    async def one(number: int) -> None:
        nonlocal done
        _, connection = await asyncio.get_running_loop().create_connection(
            Connection, "127.0.0.1", port
        )
        request = pull_request(f"r{round_}n{number}")
        while time.perf_counter() < deadline:
            answer = await connection.ask(request)
            if not answer.startswith(b"HTTP/1.1 200") or TEXT.encode() not in answer:
                raise SystemExit(f"refused: {answer!r}")
            done += 1
        connection.close()

    began = time.perf_counter()
    deadline = began + seconds
    await asyncio.gather(*(one(number) for number in range(CONNECTIONS)))
    return done / (time.perf_counter() - began)


# --- running both ---------------------------------------------------------------------------------

SERVERS = {"starfish-server, SQLite, fsync": ours, "plain FastAPI, files, no fsync": peer}


def serve(name: str, folder: Path, descriptor: int) -> None:
    app = SERVERS[name](folder)
    listener = socket.socket(fileno=descriptor)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        log_level="warning",
    )
    server = uvicorn.Server(config)
    if os.environ.get("STARFISH_PROFILE"):
        import cProfile

        cProfile.runctx(
            "server.run(sockets=[listener])", globals(), locals(), os.environ["STARFISH_PROFILE"]
        )
    else:
        server.run(sockets=[listener])


def start(name: str, folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    command = [sys.executable, __file__, "--serve", name, str(folder), str(listener.fileno())]
    process = subprocess.Popen(command, pass_fds=[listener.fileno()])
    port = listener.getsockname()[1]
    listener.close()
    return process, port


async def measure(rounds: int, seconds: float) -> dict[str, dict[str, list[float]]]:
    figures: dict[str, dict[str, list[float]]] = {n: {"push": [], "pull": []} for n in SERVERS}
    with tempfile.TemporaryDirectory(prefix="starfish-bench-") as temporary:
        running = {}
        for number, name in enumerate(SERVERS):
            folder = Path(temporary) / str(number)
            folder.mkdir()
            running[name] = start(name, folder)
        try:
            for _process, port in running.values():
                await pushes(port, 0.5, 0)  # warm
                await pulls(port, 0.3, 0)
            gc.disable()
            for round_ in range(1, rounds + 1):
                for name, (_process, port) in running.items():
                    figures[name]["push"].append(await pushes(port, seconds, round_))
                    figures[name]["pull"].append(await pulls(port, seconds, round_))
        finally:
            for process, _port in running.values():
                process.terminate()
                process.wait()
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", nargs=3, metavar=("NAME", "FOLDER", "FD"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    arguments = parser.parse_args()
    if arguments.serve:
        name, folder, descriptor = arguments.serve
        serve(name, Path(folder), int(descriptor))
        return 0
    print(
        f"1 KB documents, {CONNECTIONS} connections, {os.cpu_count()} cores, Python {sys.version.split()[0]}"
    )
    figures = uvloop.run(measure(arguments.rounds, arguments.seconds))
    print(f"{'':34}{'push/s':>10}{'pull/s':>10}")
    for name, each in figures.items():
        print(
            f"{name:34}{statistics.median(each['push']):>10,.0f}{statistics.median(each['pull']):>10,.0f}"
        )
    names = list(SERVERS)
    missed = False
    for what in ("push", "pull"):
        pairs = zip(figures[names[0]][what], figures[names[1]][what], strict=True)
        ratio = statistics.median(a / b for a, b in pairs)
        missed = missed or ratio < WANTED
        verdict = "ok" if ratio >= WANTED else "MISSED"
        print(f"{what} of 1 KB: measured {ratio:.2f}x, wanted {WANTED:.2f}x  {verdict}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
