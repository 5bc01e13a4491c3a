"""A server as a child process: ready when `start` returns, gone when the tests are."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

READY_S = 30.0
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def runs(binary: Path, account: dict[str, Any], argument: str = "--version") -> bool:
    """Whether that account may execute it."""
    try:
        done = subprocess.run(
            [binary, argument], capture_output=True, check=False, cwd="/", **account
        )
    except OSError:
        return False
    return done.returncode == 0


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
        self.port = free_port()
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

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(20)
            self.process = None

    def remove(self) -> None:
        self.stop()
        for _ in range(50):
            shutil.rmtree(self.folder, ignore_errors=True)
            if not self.folder.exists():
                return
            time.sleep(0.1)


S = TypeVar("S", bound=Server)


def shared(request: pytest.FixtureRequest, create: Callable[[], S], kind: type[S]) -> S:
    """The one server of its kind for this run, whichever packages ask for it; nobody stops it."""
    servers = request.config.stash.setdefault(_SHARED, {})
    if kind not in servers:
        server = create()
        request.config.add_cleanup(server.remove)
        server.start()
        servers[kind] = server
    found = servers[kind]
    assert isinstance(found, kind)
    return found


_SHARED = pytest.StashKey[dict[type[Server], Server]]()
