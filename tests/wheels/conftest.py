"""A wheelhouse of every package, and environments that hold nothing but what a page asks for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UV = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".tools/bin/uv")


def run_uv(*arguments: str | Path) -> str:
    done = subprocess.run(
        [UV, "--quiet", *map(str, arguments)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheelhouse")
    run_uv("build", "--all-packages", "--wheel", "--out-dir", folder)
    return folder


@pytest.fixture
def environment(wheelhouse: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Make a new environment with one requirement, siblings from the wheelhouse; gives its bin folder."""

    def make(requirement: str) -> Path:
        home = tmp_path / "venv"
        run_uv("venv", "--python", sys.executable, home)
        run_uv(
            "pip",
            "install",
            "--python",
            home / "bin" / "python",
            "--find-links",
            wheelhouse,
            "--constraints",
            ROOT / "requirements.lock",
            requirement,
        )
        return home / "bin"

    return make
