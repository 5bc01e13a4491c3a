"""Each wheel installs alone, from a wheelhouse, into an empty environment, and imports.

Inside the workspace uv takes siblings as they are, whatever bounds a package states; only this
test sees a bound that no longer holds.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(folder.name for folder in (ROOT / "packages").iterdir())
UV = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".tools/bin/uv")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def uv(*arguments: str | Path) -> str:
    done = subprocess.run(
        [UV, "--quiet", *map(str, arguments)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheelhouse")
    uv("build", "--all-packages", "--wheel", "--out-dir", folder)
    return folder


def siblings_of(package: str) -> set[str]:
    """Every workspace package that this one needs, itself included."""
    project = tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text())["project"]
    needed = {package}
    for requirement in project["dependencies"]:
        sibling = re.match(r"starfish-([a-z-]+)", requirement)
        if sibling is not None:
            needed |= siblings_of(sibling[1])
    return needed


@pytest.mark.parametrize("package", PACKAGES)
def test_a_wheel_alone_in_an_empty_environment_imports(
    package: str, wheelhouse: Path, tmp_path: Path
) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    uv("venv", "--python", sys.executable, tmp_path / "venv")
    uv(
        "pip",
        "install",
        "--python",
        python,
        "--find-links",
        wheelhouse,
        f"starfish-{package}",
    )

    script = (
        "import importlib, importlib.metadata as m, json;"
        f"importlib.import_module('starfish_{package.replace('-', '_')}');"
        "print(json.dumps(sorted(d.name for d in m.distributions() if d.name.startswith('starfish'))))"
    )
    done = subprocess.run(
        [python, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(
        sorted(f"starfish-{name}" for name in siblings_of(package))
    ).replace("'", '"')


@pytest.mark.parametrize("package", PACKAGES)
def test_a_wheel_carries_its_types_and_its_licence_and_nothing_else_of_the_tree(
    package: str, wheelhouse: Path
) -> None:
    module = f"starfish_{package.replace('-', '_')}"
    (wheel,) = wheelhouse.glob(f"{module}-*.whl")

    names = zipfile.ZipFile(wheel).namelist()

    assert f"{module}/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {module}
