"""Files of 4 KiB pushed over HTTP, beside the registry that container images are pushed to.

Each round pushes new content over 16 connections to a server process of its own: ours is one
`PUT` a file into one package, answered when content and event are on disk; the peer is
`docker-registry` of the distribution, a `POST` and a `PUT` a blob as its protocol wants it, on its
own filesystem driver. The rounds alternate and the median of the ratios counts.

What to keep in mind: client and server share the machine, so the client's time is in both figures.
The peer is taken from the path, else its Debian package is unpacked into a temporary folder
without being installed; where neither can be had, the rate that was once measured for it on two
cores stands in, and the table says so.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

CONNECTIONS = 16
FILES = 800
FILE_BYTES = 4096
ROUNDS = 3
WANTED = 3.0
MEASURED_ELSEWHERE = 324.0
"""Blobs a second of docker-registry 2.8 on two cores, where it cannot be run here."""


class Connection:
    """One HTTP connection, as thin as can be: the client must not be measured instead."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(
        self, method: str, target: str, body: bytes, media_type: str = "application/octet-stream"
    ) -> tuple[int, str, bytes]:
        """Status, ``Location`` and body of the answer."""
        head = (
            f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {media_type}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length, location = 0, ""
        for line in answer.split("\r\n")[1:]:
            name, _, value = line.partition(": ")
            if name.lower() == "content-length":
                length = int(value)
            elif name.lower() == "location":
                location = value
        return int(answer[9:12]), location, await self._reader.readexactly(length)

    def close(self) -> None:
        self._writer.close()


Push = Callable[[Connection, bytes], Awaitable[None]]


@dataclass
class Rival:
    """A server that runs, and how a file is pushed to it."""

    label: str
    port: int
    push: Push


async def push_all(rival: Rival) -> float:
    """Files a second."""
    contents = iter([os.urandom(FILE_BYTES) for _ in range(FILES)])
    connections = [await Connection.open(rival.port) for _ in range(CONNECTIONS)]

    async def pusher(connection: Connection) -> None:
        for content in contents:
            await rival.push(connection, content)

    began = time.perf_counter()
    await asyncio.gather(*(pusher(connection) for connection in connections))
    elapsed = time.perf_counter() - began
    for connection in connections:
        connection.close()
    return FILES / elapsed


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def running(command: list[str]) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


async def until_ready(port: int, target: str) -> None:
    for _ in range(300):
        try:
            connection = await Connection.open(port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            await connection.ask("GET", target, b"")
            connection.close()
            return
    raise SystemExit(f"nothing listens on port {port}")


@asynccontextmanager
async def ours(folder: Path) -> AsyncIterator[Rival]:
    port = free_port()
    program = [sys.executable, "-m", "starfish_artifact_registry", "--registry", str(folder)]
    init = [*program[:3], "init", *program[3:]]
    await asyncio.to_thread(subprocess.run, init, check=True, stdout=subprocess.DEVNULL)
    with running([*program[:3], "serve", "--port", str(port), *program[3:]]):
        await until_ready(port, "/packages")
        connection = await Connection.open(port)
        package = (
            b'{"name": "bench", "producer": "bench", "subject": "4 KiB files",'
            b' "retention_class": "raw-evidence"}'
        )
        status, location, answer = await connection.ask(
            "POST", "/packages", package, "application/json"
        )
        if status != 201:
            raise SystemExit(f"the package was refused: {answer.decode()}")
        connection.close()

        async def push(connection: Connection, content: bytes) -> None:
            status, _, answer = await connection.ask(
                "PUT", f"{location}/files/{uuid.uuid4().hex}", content
            )
            if status != 201:
                raise SystemExit(f"a file was refused: {answer.decode()}")

        yield Rival("starfish-artifact-registry", port, push)


@asynccontextmanager
async def docker_registry(binary: Path, folder: Path) -> AsyncIterator[Rival]:
    port = free_port()
    configuration = folder / "config.yml"
    configuration.write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder / 'blobs'}}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    with running([str(binary), "serve", str(configuration)]):
        await until_ready(port, "/v2/")

        async def push(connection: Connection, content: bytes) -> None:
            status, location, _ = await connection.ask("POST", "/v2/bench/blobs/uploads/", b"")
            target = location[location.index("/v2/") :]
            digest = hashlib.sha256(content).hexdigest()
            if status == 202:
                status, _, _ = await connection.ask(
                    "PUT", f"{target}&digest=sha256:{digest}", content
                )
            if status != 201:
                raise SystemExit(f"docker-registry refused a blob: {status}")

        yield Rival("docker-registry", port, push)


def find_docker_registry(folder: Path) -> Path | None:
    """The peer's program, from the path or from its package; ``None`` where there is neither."""
    installed = shutil.which("docker-registry")
    if installed is not None:
        return Path(installed)
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return None
    fetch = ["apt-get", "download", "docker-registry"]
    if subprocess.run(fetch, cwd=folder, capture_output=True, check=False).returncode != 0:
        return None
    package = next(folder.glob("docker-registry_*.deb"))
    subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], check=True)
    return folder / "usr/bin/docker-registry"


async def compare(folder: Path, binary: Path | None) -> float:
    """The median ratio of the rates."""
    for name in ("ours", "peer"):
        (folder / name).mkdir()
    async with ours(folder / "ours") as rival:
        if binary is None:
            rates = [await push_all(rival) for _ in range(ROUNDS)]
            print(f"{'docker-registry':<28}{MEASURED_ELSEWHERE:>8,.0f} files/s  (not run here)")
            print(f"{rival.label:<28}{statistics.median(rates):>8,.0f} files/s")
            return statistics.median(rates) / MEASURED_ELSEWHERE
        async with docker_registry(binary, folder / "peer") as peer:
            found: dict[str, list[float]] = {peer.label: [], rival.label: []}
            for _ in range(ROUNDS):
                found[peer.label].append(await push_all(peer))
                found[rival.label].append(await push_all(rival))
    for label, rates in found.items():
        print(f"{label:<28}{statistics.median(rates):>8,.0f} files/s")
    pairs = zip(found[rival.label], found[peer.label], strict=True)
    return statistics.median(mine / theirs for mine, theirs in pairs)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="starfish-bench-") as temporary:
        folder = Path(temporary)
        ratio = asyncio.run(compare(folder, find_docker_registry(folder)))
    verdict = "ok" if ratio >= WANTED else "MISSED"
    print(
        f"pushes a second over HTTP, {CONNECTIONS} connections, against docker-registry: "
        f"measured {ratio:.2f}x, wanted {WANTED:.2f}x  {verdict}"
    )
    return int(ratio < WANTED)


if __name__ == "__main__":
    sys.exit(main())
