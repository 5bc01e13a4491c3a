"""Four processes share a runner, any of them is killed at any moment, and each event counts once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from starfish_watcher import EventStore, Runner, SqliteSink
from starfish_watcher.testing.samples import at, credit

ROUNDS = int(os.environ.get("STARFISH_KILLS", "6"))
"""How many processes are killed; the full number is 100."""
FOLDER = Path(__file__).parent
PROGRAM = f"""
import sys
sys.path.insert(0, {str(FOLDER)!r})
from ledger_view import PoisonLedger
from starfish_watcher import EventStore, Runner, SqliteSink
events, sink, poison = sys.argv[1:4]
if sink.startswith("postgresql:"):
    from starfish_watcher.postgres import PostgresSink
    dsn, _, schema = sink.rpartition("#")
    tables = PostgresSink(dsn, schema=schema)
else:
    tables = SqliteSink(sink)
store = EventStore.open(events)
runner = Runner(store, [PoisonLedger()], name="r", sink=tables, partitions=4, batch=7,
                lease_s=0.5, poison=poison)
runner.run()
"""


def started(events: Path, sink: str, poison: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(events), sink, poison], stderr=subprocess.PIPE
    )


def run_with_kills(events: Path, sink: str, expected: int, runner: Runner, seed: int) -> None:
    chance = random.Random(seed)
    children = [started(events, sink, "park") for _ in range(4)]
    try:
        with EventStore.open(events) as store:
            kills = 0
            for number in range(expected):
                store.append(at(f"a:{number % 23}"), *_kind_and_payload(number))
                if number % max(1, expected // ROUNDS) == 0 and kills < ROUNDS:
                    kills += 1
                    time.sleep(chance.uniform(0, 0.4))
                    victim = chance.randrange(4)
                    children[victim].kill()
                    children[victim].communicate()
                    children[victim] = started(events, sink, "park")
            deadline = time.monotonic() + 50
            while runner.stats().lag and time.monotonic() < deadline:
                time.sleep(0.05)
        assert [child.poll() for child in children] == [None] * 4, [
            child.stderr.read() for child in children if child.poll() is not None and child.stderr
        ]
        assert runner.stats().lag == 0
    finally:
        for child in children:
            child.kill()
            child.communicate()


def _kind_and_payload(number: int) -> Any:
    from starfish_watcher.testing.samples import CREDIT

    return CREDIT, {"amount": -1 if number % 50 == 7 else number}


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
@pytest.mark.timeout(180)
def test_each_event_has_its_effects_once(
    engine: str, tmp_path: Path, request: pytest.FixtureRequest, unique_name: str
) -> None:
    sys.path.insert(0, str(FOLDER))
    try:
        from ledger_view import PoisonLedger
    finally:
        sys.path.remove(str(FOLDER))
    events, expected = tmp_path / "events.db", 300
    with EventStore.open(events) as store:
        if engine == "sqlite":
            address, tables = str(tmp_path / "views.db"), SqliteSink(tmp_path / "views.db")
        else:
            from starfish_watcher.postgres import PostgresSink

            dsn = request.getfixturevalue("postgres_server").dsn
            address = f"{dsn}#{unique_name}"
            tables = PostgresSink(dsn, schema=unique_name)
        runner = Runner(store, [PoisonLedger()], name="r", sink=tables, partitions=4, poison="park")
        runner.stats()
        run_with_kills(events, address, expected, runner, seed=7)
        with tables.reading() as connection:
            rows = [
                tuple(row)
                for row in connection.execute(
                    "SELECT sequence, entity FROM ledger ORDER BY sequence"
                ).fetchall()
            ]
        logged = store.read(0, 1000)
        good = [(e.sequence, e.entity) for e in logged if e.payload["amount"] >= 0]
        poison = [e.sequence for e in logged if e.payload["amount"] < 0]
        assert len(logged) == expected
        assert rows == good
        assert [each.sequence for each in runner.parked()] == poison
        tables.close()


def test_a_process_that_stops_at_a_poison_event_says_which(tmp_path: Path) -> None:
    events = tmp_path / "events.db"
    with EventStore.open(events) as store:
        credit(store, "a", 1)
        credit(store, "a", -1)
    child = started(events, str(tmp_path / "views.db"), "stop")
    _, told = child.communicate(timeout=50)
    assert child.returncode == 1
    assert b"ViewFailed: runner 'r': view 'ledger' failed at event 2" in told
