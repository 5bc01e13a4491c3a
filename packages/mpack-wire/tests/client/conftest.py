"""Stores with a history, and a server that answers whatever a test wants."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from starfish_mpack_wire.working_tree import WorkingTree

Answer = Callable[[bytes], bytes]


@pytest.fixture
def impatient() -> Any:
    """Tries again at once, and not often."""
    pytest.importorskip("httpx", reason="needs the extra client")
    from starfish_mpack_wire.client import RetryPolicy

    return RetryPolicy(attempts=3, sleep=lambda seconds: None)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[WorkingTree]:
    (tmp_path / "work").mkdir()
    with WorkingTree.create(tmp_path / "work") as tree:
        yield tree


class RawServer:
    """Answers each connection with what a test hands in: bytes, not HTTP, so that they can be wrong."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.answers: dict[bytes, Answer] = {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                try:
                    self._answer(connection)
                except OSError:
                    continue

    def _answer(self, connection: socket.socket) -> None:
        data = b""
        while b"\r\n\r\n" not in data and (piece := connection.recv(65536)):
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                while len(body) < int(line[15:]) and (piece := connection.recv(65536)):
                    body += piece
        self.requests.append(data)
        for prefix, answer in self.answers.items():
            if head.startswith(prefix):
                connection.sendall(answer(head))
                return
        connection.sendall(
            b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        )

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def raw_server() -> Iterator[RawServer]:
    server = RawServer()
    yield server
    server.close()
