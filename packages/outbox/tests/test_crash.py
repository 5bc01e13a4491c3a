"""``kill -9`` at random moments of enqueue and drain; three processes share the SQLite file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROUNDS = int(os.environ.get("OUTBOX_CRASH_ROUNDS", "200"))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("kind", "rounds"), [("sqlite", ROUNDS), ("files", ROUNDS // 4)], ids=["sqlite", "files"]
)
def test_nothing_acknowledged_is_lost_and_nothing_is_sent_twice_without_a_crash(
    tmp_path: Path, kind: str, rounds: int, record_property: Callable[[str, object], None]
) -> None:
    script = Path(__file__).with_name("crash_rounds.py")
    done = subprocess.run(
        [sys.executable, str(script), kind, str(tmp_path), str(rounds), "7"],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    record_property("report", report)

    assert report["lost"] == 0
    assert report["sent_again_after_done"] == 0
    assert report["sent_twice_without_a_crash"] == 0
    assert report["quarantined"] == 0
    # at most the one under way is sent once more after each crash
    assert report["sent_again_after_a_crash"] <= report["kills"]
    assert report["kills"] == rounds * (3 if kind == "sqlite" else 1)
    assert report["acknowledged"] > rounds // 5
