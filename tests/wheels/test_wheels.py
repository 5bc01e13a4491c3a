"""Each wheel installs alone, from a wheelhouse, into an empty environment, and imports.

Inside the workspace uv takes siblings as they are, whatever bounds a package states; only this
test sees a bound that no longer holds.
"""

from __future__ import annotations

import email
import re
import subprocess
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(folder.name for folder in (ROOT / "packages").iterdir())
PUBLIC_NAMES = {"protocol", "server", "projection", "outbox"}
"""Distributions of these names exist on the public index, up to version 3."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def project(package: str) -> dict[str, object]:
    return tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text())["project"]


def siblings_of(package: str) -> set[str]:
    """Every workspace package that this one needs, itself included."""
    needed = {package}
    for requirement in project(package)["dependencies"]:
        sibling = re.match(r"starfish-([a-z-]+)", requirement)
        if sibling is not None:
            needed |= siblings_of(sibling[1])
    return needed


@pytest.mark.parametrize("package", PACKAGES)
def test_a_wheel_alone_in_an_empty_environment_imports(
    package: str, environment: Callable[[str], Path], tmp_path: Path
) -> None:
    python = environment(f"starfish-{package}") / "python"
    module = f"starfish_{package.replace('-', '_')}"
    script = (
        "import importlib, importlib.metadata as m, json;"
        f"module = importlib.import_module('{module}');"
        f"assert module.__version__ == m.version('starfish-{package}');"
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
def test_a_kit_without_its_extra_names_it(
    package: str, environment: Callable[[str], Path], tmp_path: Path
) -> None:
    module = f"starfish_{package.replace('-', '_')}.testing"
    script = f"""
try:
    import {module}
except ModuleNotFoundError as error:
    assert error.name == "{module}", error  # this package has no kit
except ImportError as error:
    assert "needs the extra testing" in str(error), error
"""
    python = environment(f"starfish-{package}") / "python"

    done = subprocess.run(
        [python, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False
    )

    assert done.returncode == 0, done.stderr


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


@pytest.mark.parametrize("package", PACKAGES)
def test_a_wheel_says_what_it_is_and_bounds_its_siblings(package: str, wheelhouse: Path) -> None:
    module = f"starfish_{package.replace('-', '_')}"
    (wheel,) = wheelhouse.glob(f"{module}-*.whl")
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]

    metadata = email.message_from_bytes(archive.read(name))

    classifiers = metadata.get_all("Classifier") or []
    siblings = [
        requirement
        for requirement in metadata.get_all("Requires-Dist") or []
        if requirement.startswith("starfish-")
        and not requirement.startswith(f"starfish-{package}[")
    ]
    assert metadata["Keywords"]
    assert metadata.get_all("Project-URL")
    assert any(entry.startswith("Operating System ::") for entry in classifiers)
    assert "Programming Language :: Python :: 3.11" in classifiers
    assert "testing" in (metadata.get_all("Provides-Extra") or [])
    assert all(re.search(r">=\d", entry) and re.search(r"<\d", entry) for entry in siblings)
    assert int(metadata["Version"].split(".")[0]) >= (4 if package in PUBLIC_NAMES else 0)
