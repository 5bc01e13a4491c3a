"""Death at each named point, and at any moment from outside: the promises hold."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import pytest

from starfish_watcher import EventStore, StoreClosed
from starfish_watcher.fault_points import FaultPoint, FaultPoints
from starfish_watcher.testing.samples import (
    CREDIT,
    Balance,
    History,
    at,
    credit,
    in_process,
)

ROUNDS = int(os.environ.get("STARFISH_KILLS", "6"))
"""Kills from outside in each test; the full number is 100."""
POINTS = get_args(FaultPoint)
DURABILITIES = ("commit", "batched", "none")


def independent_fold(store: EventStore, entity: str) -> int:
    """What the state must be, without any of the projection's code."""
    return sum(event.payload["amount"] for event in store.read(0, 65_536) if event.entity == entity)


def assert_sound(store: EventStore) -> None:
    events = store.read(0, 65_536)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert store.verify_chain().events == len(events)
    for entity in {event.entity for event in events}:
        assert store.project(Balance, entity) == independent_fold(store, entity)
        state = store.project(History, entity)
        assert state is not None
        assert len(state["sequences"]) == store.generation(entity)


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("point", POINTS)
def test_crash_at_each_injection_point_then_reopen(
    tmp_path: Path, point: FaultPoint, durability: str
) -> None:
    expression = (
        f"EventStore.open({str(tmp_path / 'events.db')!r}, fault_points=(points := FaultPoints()))"
    )
    body = (
        "import os, signal\n"
        f"credit(store, 'a', 1, durability={durability!r})\n"
        f"points.arm({point!r}, lambda: os.kill(os.getpid(), signal.SIGKILL))\n"
        "store.append_batch([(at(n), CREDIT, {'amount': 10}) for n in ('a', 'b') * 40],"
        f" durability={durability!r})\n"
    )
    child = in_process(
        f"__import__('sys')\nfrom starfish_watcher.fault_points import FaultPoints\nstore = {expression}",
        body,
    )
    child.communicate(timeout=50)

    assert child.returncode == -signal.SIGKILL
    with EventStore.open(tmp_path / "events.db") as store:
        whole = point == "after_commit"
        assert store.last_sequence() == (81 if whole else 1)
        assert store.generation("b") == (40 if whole else 0)
        assert_sound(store)
        assert credit(store, "a") == (42 if whole else 2)
        assert_sound(store)


@pytest.mark.parametrize("point", POINTS)
def test_an_error_at_each_injection_point_ends_the_writer_and_not_the_file(
    tmp_path: Path, point: FaultPoint
) -> None:
    points = FaultPoints()
    store = EventStore.open(tmp_path / "events.db", fault_points=points)
    credit(store, "a")

    def fail() -> None:
        raise MemoryError(point)

    points.arm(point, fail)
    with pytest.raises(StoreClosed, match=point):
        store.append_batch([(at("a"), CREDIT, {"amount": 10})] * 2)
    with pytest.raises(StoreClosed, match=point):
        store.read()

    with EventStore.open(tmp_path / "events.db") as store:
        assert store.last_sequence() == (3 if point == "after_commit" else 1)
        assert_sound(store)


def kill_after_a_while(child: subprocess.Popen[str], chance: random.Random) -> str:
    """Wait for its first line, then a random moment, then kill it; everything it printed."""
    with child:
        assert child.stdout
        assert child.stderr
        first = child.stdout.readline()
        time.sleep(chance.uniform(0, 0.05))
        child.kill()
        printed, error = first + child.stdout.read(), child.stderr.read()
    assert not error, error
    return printed


@pytest.mark.timeout(600)
@pytest.mark.parametrize("durability", DURABILITIES)
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, durability: str) -> None:
    expression = f"EventStore.open({str(tmp_path / 'events.db')!r}, durability={durability!r})"
    body = (
        "import threading\n"
        "lock = threading.Lock()\n"
        "def write(name):\n"
        "    while True:\n"
        "        receipts = store.append_batch([(at(name), CREDIT, {'amount': 1})] * 3)\n"
        "        with lock: print(receipts[-1].sequence, flush=True)\n"
        "for n in range(3): threading.Thread(target=write, args=(f'e:{n}',)).start()\n"
    )
    chance = random.Random(durability)
    for _ in range(max(2, ROUNDS // 3)):
        printed = kill_after_a_while(in_process(expression, body), chance)
        acknowledged = max(int(line) for line in printed.split("\n")[:-1])

        with EventStore.open(tmp_path / "events.db") as store:
            assert store.last_sequence() >= acknowledged
            assert store.last_sequence() % 3 == 0
            assert_sound(store)


@pytest.mark.timeout(600)
def test_checkpointed_cursor_across_kill_9_loses_nothing_and_repeats_little(
    tmp_path: Path,
) -> None:
    path, total, batch = tmp_path / "events.db", 2_000, 10
    with EventStore.open(path) as store:
        store.append_batch([(at(f"e:{n % 3}"), CREDIT, {"amount": 1}) for n in range(total)])
    body = (
        f"cursor = store.cursor(checkpoint={str(tmp_path / 'reader.checkpoint')!r})\n"
        f"while batch := cursor.poll({batch}):\n"
        "    for event in batch: print(event.sequence, flush=True)\n"
        "    cursor.ack()\n"
    )
    chance = random.Random(9)
    received: list[int] = []
    for _ in range(ROUNDS):
        child = in_process(f"EventStore.open({str(path)!r}, check='none')", body)
        printed = kill_after_a_while(child, chance)
        received += [int(line) for line in printed.split("\n")[:-1] if line]
    with EventStore.open(path) as store:
        cursor = store.cursor(checkpoint=tmp_path / "reader.checkpoint")
        # A line that was printed and a batch that was polled may be cut off: at least once.
        received += [event.sequence for event in cursor.poll(total)]

    assert set(received) == set(range(1, total + 1))
    assert len(received) - total <= (ROUNDS + 1) * batch


@pytest.mark.timeout(600)
def test_checkpointed_cursor_watcher_across_kill_9_never_goes_back(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    body = (
        f"watcher = store.watch_projection_cursor(Balance, 'a', checkpoint={str(tmp_path / 'w')!r})\n"
        "while True:\n"
        "    print(watcher.acked, watcher.generation, flush=True)\n"
        "    credit(store, 'a')\n"
        "    change = watcher.recv(20)\n"
        "    assert change.state == change.generation\n"
        "    watcher.ack()\n"
    )
    chance = random.Random(3)
    acked = 0
    for _ in range(max(2, ROUNDS // 3)):
        printed = kill_after_a_while(in_process(f"EventStore.open({str(path)!r})", body), chance)
        lines = [line.split() for line in printed.split("\n")[:-1]]
        assert int(lines[0][0]) >= acked
        acked = int(lines[-1][0])

    with EventStore.open(path) as store:
        watcher = store.watch_projection_cursor(Balance, "a", checkpoint=tmp_path / "w")
        assert acked <= watcher.acked <= store.generation("a")


def test_a_full_disk_refuses_appends_keeps_what_was_acknowledged_and_goes_on_with_room(
    tmp_path: Path,
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = (
        "unshare",
        "-rm",
        "sh",
        "-c",
        f'mount -t tmpfs -o size=1m none "{disk}" && exec "$@"',
    )
    try:
        subprocess.run([*mounted, "sh", "true"], check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no small disk can be mounted here: {error}")
    script = (
        "import os, sys\n"
        "from starfish_watcher import *\n"
        "from starfish_watcher.testing.samples import *\n"
        f"os.chdir({str(disk)!r})\n"
        "with open('ballast', 'wb') as ballast: ballast.write(bytes(200_000))\n"
        "store = EventStore.open('events.db')\n"
        "watcher = store.watch_projection(Balance, 'a')\n"
        "def large(): store.append(at('a'), CREDIT, {'amount': 1, 'blob': bytes(20_000)})\n"
        "count = 0\n"
        "for _ in range(2):\n"
        "    try:\n"
        "        while True: large(); count += 1\n"
        "    except StoreFullError: pass\n"
        "assert count > 5, count\n"
        "assert store.last_sequence() == store.verify_chain().events == count\n"
        "assert watcher.recv(5) == (count, count)\n"
        "os.unlink('ballast')\n"
        "large(); count += 1\n"
        "assert watcher.recv(5) == (count, count)\n"
        "store.close()\n"
        "with EventStore.open('events.db') as store:\n"
        "    assert store.verify_chain().events == store.project(Balance, 'a') == count\n"
    )
    done = subprocess.run(
        [*mounted, "sh", sys.executable, "-c", script],
        check=False, capture_output=True, text=True, timeout=50,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
