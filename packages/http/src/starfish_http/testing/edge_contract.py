"""What a ``serve`` command owes to the clients that nobody invited.

Inherit `EdgeContract`, say in a fixture how the command is started, and name a request that is
answered 200. Each test starts a process of its own on loopback and waits for the line that tells its
address.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

try:
    import pytest
except ModuleNotFoundError as error:  # pragma: no cover - the tests have it
    raise ImportError(
        "starfish_http.testing needs the extra testing: "
        'pip install --find-links dist "starfish-http[testing]"'
    ) from error

__all__ = ("EdgeContract", "ServedCommand", "assert_problem")

_READY = re.compile(rb"https?://(\[[0-9a-f:.]+\]|[^\s/:\"]+):(\d+)")
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
_CODE = re.compile(r"[a-z][a-z0-9_]*")


class ServedCommand:
    """A command that serves on loopback, in a process of its own, while the ``with`` block runs.

    Args:
        argv: the command; it prints a line with its URL once it is ready.
        cwd: its folder.
        start_limit_s: how long it may take to be ready.

    Raises:
        AssertionError: it did not get ready; with all that it printed.
    """

    def __init__(
        self, argv: Sequence[str | Path], *, cwd: Path | None = None, start_limit_s: float = 30.0
    ) -> None:
        self._argv = [str(each) for each in argv]
        self._cwd = cwd
        self._start_limit_s = start_limit_s
        self._printed: list[bytes] = []
        self._is_ready = threading.Event()
        self.host = ""
        """Its address."""
        self.port = 0
        """Its port."""

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(  # noqa: S603 - the tester's own command
            self._argv,
            cwd=self._cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._is_ready.wait(self._start_limit_s) or not self.port:
            self.kill()
            raise AssertionError(f"{self._argv[0]} did not get ready: {self.printed()}")
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    def printed(self) -> str:
        """All that it printed so far."""
        return b"".join(self._printed).decode("utf-8", "replace")

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()
        self._reader.join(5)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def stop(self, number: int = signal.SIGTERM, *, within_s: float) -> int:
        """Send a signal and wait for the end.

        Returns:
            The exit status, negative for a signal that ended it.

        Raises:
            AssertionError: it still ran after that time.
        """
        self.process.send_signal(number)
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self._argv[0]} still runs {within_s:g} s after signal {number}: {self.printed()}"
            ) from None

    def connect(self, first: bytes = b"", *, timeout_s: float = 10.0) -> socket.socket:
        """A connection that has sent this much."""
        connection = socket.create_connection((self.host, self.port), timeout_s)
        if first:
            connection.sendall(first)
        return connection

    def ask(self, request: bytes, *, timeout_s: float = 10.0) -> tuple[int, bytes]:
        """Send bytes and read until the server ends the connection.

        Returns:
            The status of the last answer, 0 when there was none, and everything that came.
        """
        received = b""
        with self.connect(timeout_s=timeout_s) as connection:
            with suppress(OSError):
                connection.sendall(request)
            with suppress(OSError):
                while more := connection.recv(65_536):
                    received += more
        found = _STATUS.findall(received)
        return (int(found[-1]) if found else 0), received

    def _read(self) -> None:
        stdout = self.process.stdout
        if stdout is None:
            return
        for line in stdout:
            self._printed.append(line)
            found = _READY.search(line)
            if found is not None and not self.port:
                self.host, self.port = found[1].decode().strip("[]"), int(found[2])
                self._is_ready.set()
        self._is_ready.set()


class EdgeContract:
    """The tests; a subclass gives the fixture `command` and, where the defaults do not fit, the attributes."""

    honest_path: ClassVar[str] = "/health"
    """A ``GET`` of this path is answered 200."""
    body_path: ClassVar[str] = "/"
    """A ``POST`` of this path reads its body."""
    body_type: ClassVar[str] = "application/json"
    """Content type of that body."""
    patience_s: ClassVar[float] = 10.0
    """How long the server waits for a silent or slow client."""
    drain_s: ClassVar[float] = 10.0
    """How long requests in flight may go on after SIGTERM."""
    silent_connections: ClassVar[int] = 1000
    """How many connections say nothing at once."""
    margin_s: ClassVar[float] = 5.0
    """What a loaded machine may add to each of these times."""

    @pytest.fixture
    def command(self) -> Sequence[str | Path]:
        """The command line of a server on port 0 of loopback."""
        raise NotImplementedError

    @pytest.fixture
    def served(self, command: Sequence[str | Path]) -> Generator[ServedCommand]:
        """The server, running."""
        with ServedCommand(command) as served:
            yield served

    def honest_request(self) -> bytes:
        """A request that is answered 200."""
        return _head("GET", self.honest_path, "Connection: close")

    def half_a_request(self) -> bytes:
        """A request whose body is announced and has only begun."""
        return (
            _head("POST", self.body_path, f"Content-Type: {self.body_type}", "Content-Length: 5000")
            + b"{"
        )

    def assert_refusal_of_a_body(self, answer: bytes) -> None:
        """Hold the refusal of a body against its shape; override it where a protocol fixes another."""
        assert_problem(answer)

    def test_an_honest_request_is_answered(self, served: ServedCommand) -> None:
        """A request that is in order is answered 200."""
        status, answer = served.ask(self.honest_request())

        assert status == 200, answer

    def test_silent_and_slow_clients_are_let_go(self, served: ServedCommand) -> None:
        """A connection that says nothing, or says it slowly, is closed after some seconds."""
        cases = {
            "silent": (b"", b""),
            "slow head": (_head("GET", self.honest_path)[:-2], b"X-More: 1\r\n"),
            "slow body": (self.half_a_request(), b" "),
            "empty lines": (b"\r\n", b"\r\n"),
        }
        limit = self.patience_s + self.margin_s
        held: dict[str, float | None] = {}

        def hold(name: str) -> None:
            held[name] = _seconds_held(served, *cases[name], limit)

        threads = [threading.Thread(target=hold, args=(name,)) for name in cases]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert {name for name, seconds in held.items() if seconds is None} == set(), held

    @pytest.mark.timeout(120)
    def test_many_silent_connections_keep_nobody_out(self, served: ServedCommand) -> None:
        """A request beside 1,000 silent connections is answered, at once and later."""
        with _many_descriptors(self.silent_connections + 256), ExitStack() as stack:
            silent = [stack.enter_context(served.connect()) for _ in range(self.silent_connections)]
            at_once, answer = served.ask(self.honest_request())
            assert at_once == 200, answer
            time.sleep(self.patience_s + self.margin_s / 2)
            later, answer = served.ask(self.honest_request())
            still_open = sum(_is_open(each) for each in silent)

        assert later == 200, answer
        assert still_open < self.silent_connections / 2

    @pytest.mark.parametrize(
        "state", ["nothing", "silent", "half a head", "half a body", "idle", "all"]
    )
    def test_sigterm_ends_it_in_time_in_every_state(
        self, served: ServedCommand, state: str
    ) -> None:
        """SIGTERM ends it within the drain time, whatever its clients are doing."""
        firsts = {
            "nothing": [],
            "silent": [b""],
            "half a head": [self.half_a_request()[:30]],
            "half a body": [self.half_a_request()],
            "idle": [_head("GET", self.honest_path)],
        }
        firsts["all"] = [each for several in firsts.values() for each in several]
        with ExitStack() as stack:
            for first in firsts[state]:
                stack.enter_context(served.connect(first))
            time.sleep(0.3)

            status = served.stop(within_s=self.drain_s + self.margin_s)

        assert status in {0, -signal.SIGTERM}, served.printed()
        assert "Traceback" not in served.printed()

    @pytest.mark.parametrize(
        ("request_", "statuses"),
        [
            (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", {400}),
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n", {400}),
            (b"GET / HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n", {400}),
            (b"GET /\r\n\r\n", {400, 505}),
            (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", {400, 505}),
            (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", {400, 501}),
            (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
            (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", {400}),
            (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", {414, 431}),
            (b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 100_000 + b"\r\n\r\n", {431}),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", {400}),
        ],
        ids=[
            "no-host", "two-hosts", "malformed-host", "http-0.9", "http-2.0", "coding-under-chunked", "length-and-chunked",
            "negative-length", "long-uri", "long-head", "tls",
        ],
    )  # fmt: skip
    def test_a_request_that_may_be_read_otherwise_is_refused(
        self, served: ServedCommand, request_: bytes, statuses: set[int]
    ) -> None:
        """Requests that a proxy in front may read otherwise are refused, in JSON."""
        status, answer = served.ask(request_, timeout_s=self.patience_s)

        assert status in statuses, answer[:200]
        assert_problem(answer)

    @pytest.mark.parametrize(
        ("method", "path", "statuses"),
        [("GET", "/no/such/path/at/all", {401, 404}), ("DELETE", None, {401, 404, 405})],
    )
    def test_unknown_paths_and_methods_are_refused_in_the_same_shape(
        self, served: ServedCommand, method: str, path: str | None, statuses: set[int]
    ) -> None:
        """Unknown paths and methods have the shape of all refusals."""
        status, answer = served.ask(_head(method, path or self.honest_path, "Connection: close"))

        assert status in statuses, answer
        assert_problem(answer)

    def test_a_body_that_is_far_too_large_is_refused_before_it_is_read(
        self, served: ServedCommand
    ) -> None:
        """A body that announces 10 TB is refused, and the client hears it."""
        head = _head(
            "POST", self.body_path, f"Content-Type: {self.body_type}", f"Content-Length: {10**13}"
        )

        status, answer = served.ask(head + b"{" * 100_000, timeout_s=self.patience_s)

        assert status in {401, 403, 413}, answer[:200]
        self.assert_refusal_of_a_body(answer)

    def test_requests_in_one_piece_are_answered_in_order(self, served: ServedCommand) -> None:
        """A malformed request behind good ones does not cut off their answers."""
        good = _head("GET", self.honest_path)

        _, answer = served.ask(good + good + b"GET / HTTP/1.1\r\n\r\n")

        assert [int(each) for each in _STATUS.findall(answer)] == [200, 200, 400]


def assert_problem(answer: bytes) -> None:
    """The body of an answer is JSON with a code under ``error`` and a sentence beside it."""
    body = json.loads(answer.rpartition(b"\r\n\r\n")[2])
    assert _CODE.fullmatch(body["error"]), body
    sentences = {name for name, value in body.items() if isinstance(value, str) and " " in value}
    assert sentences == {"detail"}, body


def _head(method: str, path: str, *lines: str) -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: x", *lines, "", "")).encode()


def _seconds_held(served: ServedCommand, first: bytes, drip: bytes, limit_s: float) -> float | None:
    """How long a connection was held; ``None`` when it was held for longer than the limit."""
    began = time.monotonic()
    with served.connect(first) as connection:
        connection.settimeout(1.5)
        while time.monotonic() < began + limit_s:
            try:
                if not connection.recv(4096):
                    return time.monotonic() - began
            except TimeoutError:
                with suppress(OSError):
                    connection.sendall(drip)
            except OSError:
                return time.monotonic() - began
    return None


def _is_open(connection: socket.socket) -> bool:
    connection.settimeout(0.01)
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return True
    except OSError:
        pass
    return False


@contextmanager
def _many_descriptors(wanted: int) -> Generator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"{wanted} open files are needed, the system allows {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
