"""The commands of the README do what it says, and a reader that goes away does no harm."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("typer", reason="needs the extra cli")

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


def shell(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", script], cwd=folder, env={**os.environ, "PATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_story_of_the_readme_is_true(tmp_path: Path) -> None:
    (tmp_path / "recordings").mkdir()
    (tmp_path / "recordings/gate.txt").write_text("a car at 02:14")
    story = "\n".join(
        line.removeprefix("$ ")
        for block in BLOCK.findall(README.read_text())
        for line in block.splitlines()
        if line.startswith("$ ")
    )
    quick, _, damage = story.partition("printf")

    done = shell(f"set -e\n{quick}\nset +e\nprintf{damage}\necho status $?", tmp_path)

    assert "ok: 3 events, 1 packages, 1 files, 14 B" in done.stdout
    assert "the proof holds: night shift, 1 files" in done.stdout
    assert re.search(r"^CHANGED  [0-9a-f-]{36}  gate\.txt\nstatus 1$", done.stdout, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    script = """
    export ARTIFACT_REGISTRY=registry
    artifact-registry init > /dev/null
    P=$(artifact-registry create n --producer p --subject s)
    head -c 3000000 /dev/zero > zeros
    artifact-registry ingest $P zeros > /dev/null
    F=$(artifact-registry ls $P | cut -d' ' -f1)
    artifact-registry get $F | head -c 1 | wc -c
    echo ${PIPESTATUS[@]}
    artifact-registry show $P | true
    echo ${PIPESTATUS[@]}
    """

    done = shell(script, tmp_path)

    assert done.stdout.split() == ["1", "0", "0", "0", "0", "0"]
    assert done.stderr == ""
