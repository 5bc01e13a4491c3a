from __future__ import annotations

import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from starfish_http.testing import ServedCommand

APP = Path(__file__).with_name("edge_app.py")


def serve(*more: str) -> ServedCommand:
    return ServedCommand([sys.executable, APP, "--connections", "20", *more])


def get(path: str, *lines: str) -> bytes:
    return "\r\n".join((f"GET {path} HTTP/1.1", "Host: x", *lines, "", "")).encode()


def from_address(
    served: ServedCommand, source: str, request: bytes = b"", timeout_s: float = 5
) -> socket.socket:
    connection = socket.create_connection((served.host, served.port), timeout_s, (source, 0))
    if request:
        connection.sendall(request)
    return connection


def status_of(connection: socket.socket) -> int:
    answer = connection.recv(4096)
    return int(answer[9:12]) if answer else 0


def test_streams_of_one_address_leave_connections_for_others() -> None:
    with serve() as served, ExitStack() as stack:
        streams = [
            stack.enter_context(from_address(served, "127.0.0.1", get("/stream")))
            for _ in range(30)
        ]
        statuses = [status_of(each) for each in streams]
        other = stack.enter_context(from_address(served, "127.0.0.2", get("/health")))

        assert status_of(other) == 200

    assert statuses.count(200) == 10
    assert statuses.count(503) == 20


def test_a_connection_beyond_the_bound_is_told_in_the_shape_of_all_refusals() -> None:
    with serve() as served, ExitStack() as stack:
        for _ in range(10):
            status_of(stack.enter_context(from_address(served, "127.0.0.1", get("/stream"))))

        status, answer = served.ask(get("/health"))

    assert status == 503
    assert b'{"error":"too_many_connections"' in answer
    assert b"\r\nretry-after: 1\r\n" in answer


def test_the_address_with_most_silent_connections_makes_room_for_another() -> None:
    with serve() as served, ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(from_address(served, "127.0.0.1"))
        quiet = [stack.enter_context(from_address(served, f"127.0.0.{n}")) for n in range(2, 12)]
        time.sleep(0.3)

        assert (
            status_of(stack.enter_context(from_address(served, "127.0.0.20", get("/health"))))
            == 200
        )

        for each in quiet:
            each.sendall(get("/health"))
            assert status_of(each) == 200


def test_an_answered_connection_makes_room_and_one_being_answered_does_not() -> None:
    with serve() as served, ExitStack() as stack:
        stream = stack.enter_context(from_address(served, "127.0.0.1", get("/stream")))
        assert status_of(stream) == 200
        for _ in range(9):
            idle = stack.enter_context(from_address(served, "127.0.0.1", get("/health")))
            assert status_of(idle) == 200

        for _ in range(9):
            assert (
                status_of(stack.enter_context(from_address(served, "127.0.0.1", get("/health"))))
                == 200
            )
        assert stream.recv(4096)


def test_a_refusal_is_heard_although_the_client_goes_on_sending() -> None:
    with serve() as served, served.connect(b"GET / HTTP/1.1\r\nX-A: ") as connection:
        for _ in range(30):
            connection.sendall(b"a" * 10_000)
            time.sleep(0.01)

        answer = connection.recv(4096)

    assert answer.startswith(b"HTTP/1.1 431")


def test_a_refused_request_waits_for_the_answer_to_the_one_before() -> None:
    with serve() as served, served.connect() as connection:
        connection.sendall(get("/stuck/nothing") + b"GET / HTTP/1.1\r\n\r\n" + get("/health"))

        answer = b""
        while more := connection.recv(4096):
            answer += more

    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.count(b"HTTP/1.1 400") == 1
    assert answer.count(b"HTTP/1.1 200") == 1


def test_http_1_0_needs_no_host() -> None:
    with serve() as served:
        assert served.ask(b"GET /health HTTP/1.0\r\n\r\n")[0] == 200


def test_a_client_that_reads_nothing_is_let_go() -> None:
    # 30 s is the bound of an unread answer; the stream is small, so only its end is looked at here.
    with serve() as served, served.connect(get("/stream")):
        assert served.stop(within_s=6) == 0
