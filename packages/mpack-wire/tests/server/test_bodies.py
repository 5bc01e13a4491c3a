"""Bodies over the cap: the answer comes first, and a client that is still sending gets to see it."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("fastapi", reason="needs the extra server")

from starfish_mpack_wire.limits import Limits
from starfish_mpack_wire.server import _answers

PIECE = b"x" * 65536
ALLOWED = Limits().max_message_bytes


class Caller:
    """Sends a body without end to an application, and notes how much of it was taken when the answer began."""

    def __init__(self, headers: list[tuple[bytes, bytes]]) -> None:
        self.headers = headers
        self.sent = 0
        self.sent_before_the_answer = 0
        self.answers: list[Any] = []

    async def receive(self) -> dict[str, Any]:
        await asyncio.sleep(0)
        self.sent += len(PIECE)
        return {"type": "http.request", "body": PIECE, "more_body": True}

    async def send(self, message: Any) -> None:
        if not self.answers:
            self.sent_before_the_answer = self.sent
        self.answers.append(message)

    async def post(self, app: Any, path: str) -> int:
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": self.headers,
            "client": ("192.0.2.1", 1),
        }
        await app(scope, self.receive, self.send)
        return int(self.answers[0]["status"])


async def test_a_body_over_the_cap_is_answered_before_it_is_read_and_let_go_after_a_while(
    wire: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_answers, "Lingering", partial(_answers.Lingering, linger_s=0.05))
    announced = Caller([(b"content-length", b"%d" % (ALLOWED + 1))])
    unannounced = Caller([])

    for caller in (announced, unannounced):
        assert await caller.post(wire.app, f"{wire.repo}/fetch") == 413
        assert caller.sent > caller.sent_before_the_answer, "it was let go at once"
        assert caller.answers[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    assert announced.sent_before_the_answer == 0
    assert ALLOWED < unannounced.sent_before_the_answer <= ALLOWED + len(PIECE)


@pytest.mark.network
@pytest.mark.parametrize("announced", [True, False], ids=["announced", "in chunks"])
def test_a_client_that_sends_before_it_reads_gets_the_answer_and_no_reset(
    live_server: Any, *, announced: bool
) -> None:
    address = urlsplit(live_server.new_repo()[0])
    count = 64 if announced else ALLOWED // len(PIECE) + 16
    length = b"Content-Length: %d" % (2 * ALLOWED)
    how = length if announced else b"Transfer-Encoding: chunked"
    answer = b""
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        connection.sendall(b"POST %s/fetch HTTP/1.1\r\nHost: x\r\n" % address.path.encode())
        connection.sendall(how + b"\r\n\r\n")
        for _ in range(count):
            connection.sendall(PIECE if announced else b"%x\r\n%b\r\n" % (len(PIECE), PIECE))
        if not announced:
            connection.sendall(b"0\r\n\r\n")
        while piece := connection.recv(65536):
            answer += piece

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close\r\n" in answer.lower()
    assert b"body_too_large" in answer
