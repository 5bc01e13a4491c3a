"""A bounded share of the simulation; see ``simulation/__main__.py`` for the long run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip(
    "starfish_outbox.http", reason="the extra http is not installed", exc_type=ImportError
)

SIMULATION = Path(__file__).with_name("simulation")
SEEDS = int(os.environ.get("OUTBOX_SEEDS", "300"))
EXAMPLES = ("200", "218", "2345", "5320", "20201")
"""Seeds that showed a fault once: edits joined before sending, leases and a clock that jumps (two), an
own push remembered by another process, a deletion that an answer about another document seemed to prove."""


def simulate(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SIMULATION, *options], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_acknowledged_edit_is_on_the_server_in_the_outbox_or_a_conflict() -> None:
    done = simulate("--seeds", str(SEEDS))

    assert done.returncode == 0, done.stdout + done.stderr
    counted = [int(n) for n in re.findall(r"\d+", done.stdout.splitlines()[-1])]
    seeds, wrong, edits, sent, conflicts, crashes = counted
    assert (seeds, wrong) == (SEEDS, 0)
    assert sent > edits // 2
    assert min(conflicts, crashes) > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_planted_fault_is_found() -> None:
    done = simulate("--seeds", "150", "--plants")

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_seeds_that_showed_a_fault_once() -> None:
    done = simulate("--only", *EXAMPLES)

    assert done.returncode == 0, done.stdout + done.stderr
