"""``run`` as a process: what it prints, what it refuses, and how it stops."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import httpx
import pytest

from starfish_server.auth import TokenFile
from starfish_server.cli import main

pytest.importorskip("uvicorn", reason="the extra uvicorn is not installed")

CONFIG = {
    "collections": [
        {"name": "wall", "storagePath": "wall/{n}", "readRoles": ["public"],
         "writeRoles": ["public"], "maxBodyBytes": 1000},
        {"name": "notes", "storagePath": "notes/{identity}", "readRoles": ["self"],
         "writeRoles": ["self"]},
        {"name": "few", "storagePath": "few/{n}", "readRoles": ["public"],
         "writeRoles": ["public"], "rateLimit": {"pull": {"windowMs": 60000, "maxRequests": 5}}},
    ]
}  # fmt: skip
COMMAND = [sys.executable, "-m", "starfish_server", "run"]


class Server:
    """A running server; standard error is collected so that it never fills its pipe."""

    def __init__(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._errors: list[str] = []
        self._collector = threading.Thread(
            target=self._errors.extend, args=[self.process.stderr], daemon=True
        )
        self._collector.start()

    def wait_until_ready(self) -> "Server":
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.url = line.removeprefix("listening on ").strip()
        assert self.url.startswith("http://127.0.0.1:"), (line, self._errors)
        self.port = int(self.url.rpartition(":")[2])
        return self

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(20)

    def errors(self) -> str:
        self._collector.join(5)
        return "".join(self._errors)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "starfish.json"
    path.write_text(json.dumps(CONFIG))
    return path


@pytest.fixture
def run(config: Path, tmp_path: Path) -> Generator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*options: str) -> Server:
        servers.append(Server("--config", str(config), "--data", str(tmp_path / "data"), *options))
        return servers[-1].wait_until_ready()

    yield start
    for each in servers:
        each.process.kill()
        each.process.wait()
        for pipe in (each.process.stdout, each.process.stderr):
            assert pipe is not None
            pipe.close()


def refused(*options: str) -> tuple[int, str]:
    result = subprocess.run(
        [*COMMAND, *options], capture_output=True, text=True, timeout=30, check=False
    )
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.returncode, result.stderr


def push(url: str, data: Any, base: str | None = None) -> httpx.Response:
    return httpx.post(url, json={"data": data, "baseHash": base})


@pytest.mark.parametrize("options", [[], ["--workers", "2"], ["--store", "filesystem"]], ids=str)
def test_sigterm_finishes_the_request_in_flight_and_nothing_is_lost(
    run: Callable[..., Server], options: list[str]
) -> None:
    server = run(*options)
    assert httpx.get(f"{server.url}/health").json()["ok"] is True
    body = json.dumps({"data": {"text": "late"}, "baseHash": None}).encode()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(
            b"POST /push/wall/1 HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n" % len(body) + body[:5]
        )
        time.sleep(0.3)  # the server has to see the request before it sees the signal
        server.process.terminate()
        time.sleep(0.3)
        connection.sendall(body[5:])
        answer = connection.recv(65536)

    assert answer.startswith(b"HTTP/1.1 200")
    assert server.process.wait(20) == 0
    again = run(*options)
    assert httpx.get(f"{again.url}/pull/wall/1").json()["data"] == {"text": "late"}
    assert again.stop() == 0
    assert "Traceback" not in server.errors() + again.errors()


def test_sigint_stops_an_idle_server(run: Callable[..., Server]) -> None:
    server = run()

    server.process.send_signal(signal.SIGINT)

    assert server.process.wait(20) == 130


def test_a_request_that_takes_longer_than_the_drain_does_not_hold_the_server(
    run: Callable[..., Server],
) -> None:
    server = run("--drain", "1")
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"POST /push/wall/1 HTTP/1.1\r\nhost: a\r\ncontent-length: 50\r\n\r\n{")
        time.sleep(0.3)
        begin = time.monotonic()

        assert server.stop() == 0
        assert time.monotonic() - begin < 8


def test_a_killed_worker_is_replaced_while_the_others_serve(run: Callable[..., Server]) -> None:
    server = run("--workers", "2")
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    if not children.exists():
        pytest.skip("the kernel does not list children")
    first, second = map(int, children.read_text().split())

    os.kill(first, signal.SIGKILL)
    for number in range(50):
        assert push(f"{server.url}/push/wall/k{number}", {"n": number}).status_code == 200
        if len(children.read_text().split()) == 2 and str(first) not in children.read_text():
            break
        time.sleep(0.1)

    assert str(second) in children.read_text().split()
    assert len(children.read_text().split()) == 2
    assert server.stop() == 0
    assert f"worker {first} ended with status -9" in server.errors()


def test_workers_count_requests_together(run: Callable[..., Server]) -> None:
    server = run("--workers", "2")

    answers = [httpx.get(f"{server.url}/pull/few/1") for _ in range(12)]

    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [429] * 7
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60


def test_tokens_open_what_is_their_identitys_until_they_are_revoked(
    run: Callable[..., Server], tmp_path: Path
) -> None:
    tokens = TokenFile(tmp_path / "tokens.json")
    token = tokens.create("ada")
    headers = {"authorization": f"Bearer {token}"}
    server = run("--tokens", str(tokens.path), "--host", "127.0.0.1", "--access-log")
    url = f"{server.url}/push/notes/ada"

    assert push(url, {"n": 1}).status_code == 401
    body = {"data": {"n": 1}, "baseHash": None}
    assert httpx.post(url, json=body, headers={"authorization": "Bearer x"}).status_code == 401
    assert httpx.post(url, json=body, headers=headers).status_code == 200
    assert httpx.get(f"{server.url}/pull/notes/ada", headers=headers).json()["data"] == {"n": 1}
    assert httpx.get(f"{server.url}/pull/notes/bob", headers=headers).status_code == 403
    tokens.revoke("ada")
    for _ in range(50):
        status = httpx.get(f"{server.url}/pull/notes/ada", headers=headers).status_code
        if status == 401:
            break
        time.sleep(0.1)

    assert status == 401
    assert server.stop() == 0
    errors = server.errors()
    assert '"GET /pull/notes/ada HTTP/1.1\\" 200' in errors
    assert token not in errors
    assert all(json.loads(line) for line in errors.splitlines() if line.startswith("{"))


def test_without_tokens_only_loopback_is_served(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--config", str(config), "--data", str(tmp_path / "d"), "--port", "0"]

    status, errors = refused(*options, "--host", "0.0.0.0")
    assert (status, "--host 0.0.0.0 would let anybody on the network in" in errors) == (2, True)
    for host in ("::", "192.0.2.1"):
        assert main(["run", *options, "--host", host]) == 2
        assert f"--host {host} would let anybody on the network in" in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "--store sqlite needs --data DIR"),
        (["--store", "memory", "--workers", "2"], "--store memory belongs to one process"),
        (["--store", "memory", "--data", "d"], "--store memory keeps nothing in --data"),
        (["--store", "postgres"], "--store postgres needs --dsn URL such as"),
        (
            ["--store", "postgres", "--dsn", "host=x"],
            "--store postgres needs --dsn URL such as postgresql://",
        ),
        (["--store", "objects"], "--store objects needs --bucket URL such as s3://bucket/prefix"),
        (["--store", "postgres", "--data", "d"], "--store postgres keeps nothing in --data"),
        (["--store", "tape"], "must be one of sqlite, filesystem, postgres, objects, memory"),
        (["--data", "d", "--workers", "0"], "Invalid value for '--workers'"),
        (["--data", "d", "--port", "65536"], "Invalid value for '--port'"),
        (["--data", "d", "--host", "no.such.host.invalid"], "is not an address of this machine"),
        (["--data", "d", "--hots", "x"], "No such option: --hots"),
    ],
)
def test_options_that_make_no_sense_are_wrong_usage(
    config: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert main(["run", "--config", str(config), *options]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


def test_a_database_that_does_not_answer_is_told_in_a_line_without_its_password(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STARFISH_DSN", "postgresql://ada:secret@127.0.0.1:1/none")
    status, errors = refused("--config", str(config), "--port", "0", "--store", "postgres")

    assert status == 1
    assert "store postgresql://127.0.0.1:1/none, schema 'starfish' is unavailable" in errors
    assert "secret" not in errors


def test_a_bad_configuration_lists_every_problem(config: Path, tmp_path: Path) -> None:
    broken = [{"name": "a", "storagePath": "a/{"}, {"name": "a", "storagePath": "b", "x": 1}]
    config.write_text(json.dumps({"collections": broken}))

    status, errors = refused("--config", str(config), "--data", str(tmp_path / "d"))

    assert status == 1
    assert "starfish-server: collections[0].storagePath: segment '{'" in errors
    assert "starfish-server: collections[1].x: 'x' is not a field here" in errors


def test_what_keeps_a_server_from_starting_is_told_in_a_line(config: Path, tmp_path: Path) -> None:
    options = ["--config", str(config), "--port", "0"]
    (tmp_path / "file").write_text("")

    for extra in ([], ["--workers", "2"]):
        status, errors = refused(*options, "--data", str(tmp_path / "file" / "d"), *extra)
        assert status == 1
        assert "file" in errors
    missing = str(tmp_path / "tokens.json")
    status, errors = refused(*options, "--data", str(tmp_path / "d"), "--tokens", missing)
    assert (status, "tokens.json: No such file" in errors) == (1, True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = ["--config", str(config), "--data", str(tmp_path / "d"), "--port", str(port)]
        status, errors = refused(*options)
    assert (status, f"cannot listen on '127.0.0.1' port {port}" in errors) == (5, True)


def test_without_the_extra_the_message_names_it(config: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['uvicorn'] = None; from starfish_server.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, "run", "--config", config, "--data", tmp_path / "d"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 1
    assert 'pip install --find-links dist "starfish-server[serve]"' in result.stderr
    assert "Traceback" not in result.stderr
