"""A missing extra is named, and how it is installed."""

from __future__ import annotations

import subprocess
import sys

WITHOUT = "import sys; sys.modules[{missing!r}] = None; sys.argv[1:] = ['ls']; "


def run(missing: str, code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT.format(missing=missing) + code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_names_its_extra_in_one_line() -> None:
    done = run("typer", "from starfish_artifact_registry.cli import main; main()")

    assert done.returncode == 1
    assert done.stderr == (
        "artifact-registry needs the extra cli: "
        "pip install --find-links dist 'starfish-artifact-registry[cli]'\n"
    )


def test_the_http_layer_names_its_extra() -> None:
    done = run("fastapi", "import starfish_artifact_registry.http")

    assert done.returncode == 1
    assert "needs the extra http: pip install" in done.stderr.splitlines()[-1]
