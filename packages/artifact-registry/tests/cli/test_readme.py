"""The commands of the README do what it says, and a reader that goes away does no harm."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("typer", reason="needs the extra cli")

from typer.testing import CliRunner

from starfish_artifact_registry.cli._main import build_app

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
    story = "\n".join(
        line.removeprefix("$ ")
        for block in BLOCK.findall(README.read_text())
        for line in block.splitlines()
        if line.startswith("$ ")
    )
    quick, _, damage = story.partition("python -c")

    done = shell(f"set -e\n{quick}\nset +e\npython -c{damage}\necho status $?", tmp_path)

    assert "ok: 3 events, 1 packages, 1 files, 15 B" in done.stdout
    assert "the proof holds: night shift, 1 files" in done.stdout
    assert re.search(r"^CHANGED  [0-9a-f-]{36}  gate\.txt\nstatus 1$", done.stdout, re.MULTILINE)


@pytest.fixture
def nothing_of_ours_blocks_the_event_loop() -> None:
    """A command is alone in its process; nobody waits for its loop."""


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    app, runner = build_app(), CliRunner(env={"ARTIFACT_REGISTRY": str(tmp_path / "registry")})

    def run(*arguments: str) -> str:
        result = runner.invoke(app, arguments)
        assert result.exit_code == 0, result.output
        return result.stdout.strip()

    run("init")
    package = run("create", "n", "--producer", "p", "--subject", "s")
    (tmp_path / "zeros").write_bytes(bytes(3_000_000))
    run("ingest", package, str(tmp_path / "zeros"))
    file = run("ls", package).split()[0]
    script = f"""
    export ARTIFACT_REGISTRY=registry
    artifact-registry get {file} | head -c 1 | wc -c
    echo ${{PIPESTATUS[@]}}
    artifact-registry show {package} | true
    echo ${{PIPESTATUS[@]}}
    """

    done = shell(script, tmp_path)

    assert done.stdout.split() == ["1", "0", "0", "0", "0", "0"]
    assert done.stderr == ""
