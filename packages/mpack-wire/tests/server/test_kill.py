"""A server that is killed in the middle of a push: everything of it is there afterwards, or nothing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra server")
pytest.importorskip("uvicorn", reason="needs the extra cli")

import httpx
import msgpack

from starfish_mpack_wire._model.object_ids import blob_id
from starfish_mpack_wire._pack.parser import parse_wire_mpack
from starfish_mpack_wire.server import create_repo, create_token

ROUNDS = int(os.environ.get("STARFISH_REPEAT", "4"))
FORK = """
import os, signal, socket, sys, uvicorn
from starfish_mpack_wire.server import create_app
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
holder = socket.socket()
holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
holder.bind(("127.0.0.1", 0))
port = holder.getsockname()[1]
print(port, flush=True)
for _ in sys.stdin:
    pid = os.fork()
    if pid == 0:
        app = create_app(sys.argv[1])
        uvicorn.run(app, host="127.0.0.1", port=port, log_level="critical")
        os._exit(0)
    print(pid, flush=True)
"""
"""Imports once and starts a server for each line that it reads; holds the port, so that nobody takes it in between."""


class KilledServer:
    """A server over a folder, started again after each kill on the same port."""

    def __init__(self, data: Path) -> None:
        token = create_token(data, "ada")
        create_repo(data, "ada/notes")
        self.starter = subprocess.Popen(
            [sys.executable, "-c", FORK, str(data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.starter.stdout is not None
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{int(self.starter.stdout.readline())}",
            headers={"Authorization": f"Bearer {token}", "Accept": "application/x-msgpack"},
            timeout=30,
        )
        self.pid = 0

    def start(self) -> None:
        assert self.starter.stdin is not None
        assert self.starter.stdout is not None
        self.starter.stdin.write("start\n")
        self.starter.stdin.flush()
        self.pid = int(self.starter.stdout.readline())
        for _ in range(600):
            try:
                self.http.get("/health").raise_for_status()
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                return
        pytest.fail("the server did not start")

    def await_death(self) -> None:
        with suppress(ProcessLookupError):
            while True:
                os.kill(self.pid, 0)
                time.sleep(0.01)

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.starter.kill()
        for pipe in (self.starter.stdin, self.starter.stdout):
            assert pipe is not None
            pipe.close()
        self.starter.wait()
        self.http.close()

    def call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        content = None if body is None else msgpack.packb(body)
        answer = self.http.request(method, f"/ada/notes{path}", content=content)
        assert answer.status_code == 200, answer.content
        found: dict[str, Any] = msgpack.unpackb(answer.content)
        return found

    def upload(self, pack: bytes) -> str:
        mpack_id = blob_id(pack)
        asked = {"mpack_id": mpack_id, "size_bytes": len(pack)}
        url = self.call("POST", "/push/presign", asked)["upload_url"]
        if url is not None:
            assert httpx.put(url, content=pack, timeout=30).status_code == 204
        return mpack_id


@pytest.mark.timeout(60 + 10 * ROUNDS)
def test_a_killed_server_has_all_of_a_push_or_nothing(tmp_path: Path, story: Any) -> None:
    chance = random.Random(ROUNDS)
    server = KilledServer(tmp_path / "data")
    held: list[str] = []
    try:
        server.start()
        for _ in range(ROUNDS):
            line = story.line(60, held[-1] if held else None)
            pack = story.pack(line[-1], held)
            mpack_id = server.upload(pack)
            request = {
                "mpack_id": mpack_id,
                "branch": "main",
                "expected_head": held[-1] if held else None,
            }
            # Somewhere between the first look at the pack and the answer.
            killer = threading.Timer(chance.uniform(0, 0.5), os.kill, (server.pid, 9))
            killer.start()
            answered = False
            try:
                server.call("POST", "/push/unpack", request)
                answered = True
            except httpx.TransportError:
                pass
            killer.join()
            server.await_death()
            server.start()

            head = server.call("GET", "/refs")["branches"].get("main")
            assert head in ([line[-1]] if answered else [line[-1], held[-1] if held else None])
            server.upload(pack)
            again = server.call("POST", "/push/unpack", request)
            assert again["head"] == line[-1]
            assert again["commits_written"] == (0 if head == line[-1] else 60)
            held += line
            offer = server.call("POST", "/fetch", {"want": [line[-1]]})
            contents = parse_wire_mpack(httpx.get(offer["mpack_url"]).content)
            assert {each["commit_id"] for each in contents["commits"]} == set(held)
            assert {each["object_id"] for each in contents["blobs"]} == story.blobs_of(held)
    finally:
        server.close()
