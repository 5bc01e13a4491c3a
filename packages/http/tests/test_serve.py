from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from starfish_http.testing import EdgeContract, ServedCommand

APP = Path(__file__).with_name("edge_app.py")


def command(*more: str) -> list[str]:
    return [sys.executable, str(APP), *more]


def get(path: str, *lines: str) -> bytes:
    return "\r\n".join((f"GET {path} HTTP/1.1", "Host: x", *lines, "", "")).encode()


class TestOneProcess(EdgeContract):
    body_path = "/echo"
    patience_s = 2.0
    drain_s = 2.0

    @pytest.fixture
    def command(self) -> Sequence[str | Path]:
        return command()


class TestSeveralProcesses(EdgeContract):
    body_path = "/echo"
    patience_s = 2.0
    drain_s = 2.0

    @pytest.fixture
    def command(self) -> Sequence[str | Path]:
        return command("--workers", "2")


@pytest.fixture
def served() -> Iterator[ServedCommand]:
    with ServedCommand(command()) as served:
        yield served


@pytest.mark.parametrize("kind", ["waits", "swallows", "blocks", "thread"])
@pytest.mark.parametrize("workers", [1, 2])
def test_whatever_the_application_does_it_ends_in_time(kind: str, workers: int) -> None:
    with (
        ServedCommand(command("--workers", str(workers))) as served,
        served.connect(get(f"/stuck/{kind}")),
    ):
        time.sleep(0.5)

        status = served.stop(within_s=2 + 1 + 1 + 4)

    assert status in ({0} if kind == "waits" else {0, 1}), served.printed()


def test_an_open_stream_ends_in_order_at_the_signal(served: ServedCommand) -> None:
    with served.connect(get("/stream")) as connection:
        assert b"200" in connection.recv(4096)
        began = time.monotonic()

        status = served.stop(within_s=5)
        received = b""
        while more := connection.recv(4096):
            received += more

    assert status == 0
    assert time.monotonic() - began < 1.9
    assert received.endswith(b"0\r\n\r\n")


def test_a_request_in_flight_is_answered_after_the_signal(served: ServedCommand) -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab"
    with served.connect(head) as connection:
        time.sleep(0.2)
        served.process.terminate()
        time.sleep(0.3)
        connection.sendall(b"cd")

        answer = connection.recv(4096)

    assert answer.startswith(b"HTTP/1.1 200")
    assert served.process.wait(5) == 0


def test_ctrl_c_ends_with_130(served: ServedCommand) -> None:
    assert served.stop(signal.SIGINT, within_s=5) == 130


def test_a_port_in_use_is_one_line_and_a_status() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            command("--port", str(port)), capture_output=True, text=True, timeout=30, check=False
        )

    assert done.returncode == 5
    assert done.stderr.count("\n") == 1
    assert str(port) in done.stderr


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.1", "a" * 300])
def test_a_host_that_is_not_ours_is_one_line(host: str) -> None:
    done = subprocess.run(
        command("--host", host), capture_output=True, text=True, timeout=30, check=False
    )

    assert (done.returncode, done.stderr.count("\n")) == (5, 1)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_application_that_cannot_start_says_why_in_one_line(workers: str) -> None:
    done = subprocess.run(
        command("--start", "refuses", "--workers", workers),
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert set(done.stderr.splitlines()) == {"edge: the store is not there"}
    assert "listening" not in done.stdout


@pytest.mark.parametrize("workers", ["1", "3"])
@pytest.mark.parametrize("after_s", [0.0, 0.3, 0.6, 0.9])
def test_a_signal_at_any_moment_ends_it_without_a_trace(workers: str, after_s: float) -> None:
    process = subprocess.Popen(
        command("--workers", workers), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    time.sleep(after_s)
    process.terminate()

    _, said = process.communicate(timeout=10)

    # Before the interpreter has come so far as to handle it, the signal itself is the end.
    assert process.returncode in {0, -signal.SIGTERM}
    assert "Traceback" not in said


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_while_it_starts_ends_it_at_once(workers: str) -> None:
    process = subprocess.Popen(
        command("--start", "waits", "--workers", workers), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "starting\n"
        process.terminate()

        assert process.wait(3) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_an_application_that_does_not_stop_is_ended(tmp_path: Path) -> None:
    with ServedCommand(command("--stop", "waits")) as served:
        assert served.stop(within_s=5) == 0
        assert "did not stop within 1 s" in served.printed()


def test_the_application_is_stopped_in_order_and_its_state_is_there(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with ServedCommand(command("--log", str(log))) as served:
        status, answer = served.ask(get("/state", "Connection: close"))
        assert served.stop(within_s=5) == 0

    assert status == 200
    assert json.loads(answer.rpartition(b"\r\n\r\n")[2])["opened"] == "yes"
    assert log.read_text() == "closed\n"


def test_a_worker_that_dies_is_replaced() -> None:
    with ServedCommand(command("--workers", "2")) as served:
        children = Path(f"/proc/{served.process.pid}/task/{served.process.pid}/children")
        if not children.exists():
            pytest.skip("the system does not list the children of a process")
        before = children.read_text().split()
        os.kill(int(before[0]), signal.SIGKILL)
        end = time.monotonic() + 10
        while len(after := children.read_text().split()) < 2 or after == before:
            assert time.monotonic() < end
            time.sleep(0.05)

        assert served.ask(get("/health", "Connection: close"))[0] == 200
        assert served.stop(within_s=5) == 0


def test_workers_end_when_their_parent_was_killed() -> None:
    with ServedCommand(command("--workers", "2")) as served:
        served.process.kill()
        served.process.wait()
        end = time.monotonic() + 10
        while True:
            try:
                served.connect().close()
            except OSError:
                break
            assert time.monotonic() < end
            time.sleep(0.1)
