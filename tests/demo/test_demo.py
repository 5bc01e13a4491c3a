"""`make demo` tells the truth: it runs to its end, and its counts are those of the tree."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_demo_ends_with_nothing_lost() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs/demo"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    pages = [
        ROOT / "README.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "packages").glob("*/README.md"),
    ]
    summary = done.stdout.strip().splitlines()[-1]
    assert f"{len(pages)} pages queued offline and delivered" in summary
    assert "0 lost" in summary
    assert re.search(r"Cloned in .* s: [1-9]\d* commits\. Verified", done.stdout)
    acknowledged = re.search(r"(\d+) writes acknowledged", summary)
    assert acknowledged is not None
    assert int(acknowledged[1]) >= 200
    assert f"The pages become evidence: {len(pages)} files" in done.stdout
    assert "The fixity check names it: README.md." in done.stdout
    assert "the same rows, byte for byte" in done.stdout
