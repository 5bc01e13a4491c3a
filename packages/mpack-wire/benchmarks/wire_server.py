"""A server in a process of its own, and pushes to it; for the benchmarks beside this file."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from starfish_mpack_wire._messages import (
    MEDIA_TYPE,
    PresignRequest,
    UnpackRequest,
    decode_message,
)
from starfish_mpack_wire._model.object_ids import blob_id
from starfish_mpack_wire.server import create_repo, create_token

SERVE = """
import sys, uvicorn
from starfish_mpack_wire.server import create_app
uvicorn.run(create_app(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
"""


@dataclass
class Serving:
    """A running server."""

    data: Path
    address: str
    token: str
    http: httpx.Client

    def create(self, slug: str) -> str:
        """Make a repository; its address."""
        create_repo(self.data, f"bench/{slug}")
        return f"{self.address}/bench/{slug}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(folder: Path) -> Iterator[Serving]:
    """Start a server over a folder and stop it again."""
    data = folder / "data"
    token = create_token(data, "bench")
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(data), str(port)])
    headers = {"Authorization": f"Bearer {token}", "Content-Type": MEDIA_TYPE, "Accept": MEDIA_TYPE}
    address = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(headers=headers, timeout=600) as http:
            for _ in range(600):
                try:
                    http.get(f"{address}/health").raise_for_status()
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            yield Serving(data, address, token, http)
    finally:
        process.kill()
        process.wait()


def push(server: Serving, url: str, pack: bytes, head: str) -> None:
    """Push a pack as a new branch."""
    mpack_id = blob_id(pack)
    asked = PresignRequest(mpack_id=mpack_id, size_bytes=len(pack)).to_bytes()
    granted = decode_message(
        server.http.post(f"{url}/push/presign", content=asked).raise_for_status().content
    )
    httpx.put(granted["upload_url"], content=pack, timeout=600).raise_for_status()
    request = UnpackRequest(mpack_id=mpack_id, branch="main", head=head)
    server.http.post(f"{url}/push/unpack", content=request.to_bytes()).raise_for_status()
