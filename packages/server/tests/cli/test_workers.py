"""Several processes: a dead one is replaced, and none outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

PROGRAM = """
import os, select, signal, socket, sys, time
from starfish_server.cli._workers import supervise
from starfish_server.errors import ServerError

mode, folder = sys.argv[1:]
listener = socket.create_server(("127.0.0.1", 0))

def work(on_ready, lifeline):
    open(f"{folder}/{os.getpid()}", "w").close()
    if mode == "prepares":
        time.sleep(1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: None)
    if mode == "refuses":
        raise ServerError("the data folder is gone")
    if mode == "crashes":
        raise ValueError("unexpected")
    on_ready()
    select.select([lifeline], [], [])
    os.unlink(f"{folder}/{os.getpid()}")
    return 0

sys.exit(supervise(2, listener, work, on_ready=lambda: print("ready", flush=True)))
"""


def eventually(check: Callable[[], bool]) -> bool:
    for _ in range(500):
        if check():
            return True
        time.sleep(0.01)
    return False


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


class Group:
    def __init__(self, mode: str, folder: Path) -> None:
        self.folder = folder
        self.parent = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, mode, str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def pids(self) -> set[int]:
        return {int(each.name) for each in self.folder.iterdir()}

    def wait_until_ready(self) -> set[int]:
        assert self.parent.stdout is not None
        assert self.parent.stdout.readline() == "ready\n"
        return self.pids()


@pytest.fixture
def group(tmp_path: Path) -> Generator[Callable[[str], Group]]:
    groups: list[Group] = []

    def start(mode: str) -> Group:
        groups.append(Group(mode, tmp_path))
        return groups[-1]

    yield start
    for each in groups:
        each.parent.kill()
        each.parent.communicate()


def test_a_worker_that_is_killed_is_replaced(group: Callable[[str], Group]) -> None:
    running = group("serves")
    first, second = sorted(running.wait_until_ready())

    os.kill(first, signal.SIGKILL)

    assert eventually(lambda: len(running.pids()) == 3)
    (new,) = running.pids() - {first, second}
    assert is_alive(new)
    assert is_alive(second)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_stops_every_worker_and_ends_with_0(
    group: Callable[[str], Group], number: signal.Signals
) -> None:
    running = group("serves")
    pids = running.wait_until_ready()

    running.parent.send_signal(number)

    assert running.parent.wait(10) == 0
    assert not any(map(is_alive, pids))


def test_a_stop_signal_is_not_lost_on_a_worker_that_still_prepares(
    group: Callable[[str], Group],
) -> None:
    running = group("prepares")
    assert eventually(lambda: len(running.pids()) == 2)

    running.parent.terminate()

    assert running.parent.wait(10) == 0


def test_workers_stop_when_their_parent_is_killed(group: Callable[[str], Group]) -> None:
    running = group("serves")
    pids = running.wait_until_ready()

    running.parent.kill()
    running.parent.wait(10)

    assert eventually(lambda: not any(map(is_alive, pids)))
    assert running.pids() == set()


@pytest.mark.parametrize(
    ("mode", "said"), [("refuses", "the data folder is gone"), ("crashes", "unexpected")]
)
def test_a_worker_that_cannot_start_ends_the_server_with_1(
    group: Callable[[str], Group], mode: str, said: str
) -> None:
    running = group(mode)

    out, err = running.parent.communicate(timeout=20)

    assert running.parent.returncode == 1
    assert out == ""
    assert said in err
    assert ("Traceback" in err) == (mode == "crashes")
