"""Fixtures that every test of this package shares."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings

settings.register_profile("default", derandomize=True, deadline=None, max_examples=40)
settings.register_profile("ci", derandomize=True, deadline=None, max_examples=200)
settings.register_profile("deep", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

pytest.register_assert_rewrite(
    "starfish_mpack_wire.testing", "starfish_http.testing", "starfish_disk.testing"
)

REPETITIONS = int(os.environ.get("STARFISH_REPEAT", "1"))
"""How often each race is run; the promise is 200."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "repetition" in metafunc.fixturenames:
        ids = [f"repeat{number}" for number in range(REPETITIONS)]
        metafunc.parametrize("repetition", range(REPETITIONS), ids=ids)


@pytest.fixture(autouse=True)
def nothing_of_ours_blocks_the_event_loop() -> Iterator[None]:
    with blockbuster_ctx("starfish_mpack_wire") as calls:
        # One look at a file's place for each new connection: microseconds, where a thread costs more.
        for function in calls.functions.values():
            function.can_block_in("starfish_disk/sqlite_file.py", "prepare")
        calls.functions["os.path.abspath"].can_block_in("server/_rows.py", "__init__")
        yield


@dataclass(frozen=True)
class LiveServer:
    """A real server on a loopback port, in a thread of the test."""

    url: str
    data: Path

    def new_repo(self, *, private: bool = False) -> tuple[str, str]:
        """The address of an empty repository, and a token that may write to it."""
        from starfish_mpack_wire.server import create_repo, create_token

        owner = f"o{secrets.token_hex(4)}"
        create_repo(self.data, f"{owner}/notes", private=private)
        return f"{self.url}/{owner}/notes", create_token(self.data, owner)


@pytest.fixture(scope="session")
def live_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    pytest.importorskip("fastapi", reason="needs the extra server")
    uvicorn = pytest.importorskip("uvicorn", reason="needs the extra cli")
    from starfish_mpack_wire.server import create_app

    data = tmp_path_factory.mktemp("server")
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(data), log_level="warning", lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(
        target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True
    )
    thread.start()
    give_up_at = time.monotonic() + 30
    while not server.started and time.monotonic() < give_up_at:
        time.sleep(0.01)
    yield LiveServer(f"http://127.0.0.1:{listener.getsockname()[1]}", data)
    server.should_exit = True
    thread.join(10)
    listener.close()
