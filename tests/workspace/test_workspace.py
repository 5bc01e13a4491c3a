"""What holds for the repository as a whole."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(folder for folder in (ROOT / "packages").iterdir())
MACHINE_PATH = re.compile(rb"/(?:work|farm|root)/[a-z]|/home/[a-z]+/")
INDEX_ADDRESS = re.compile(rb"https?://[^ \"'>)]*/(?:simple|packages)/")


def tracked_files() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    return [
        path
        for name in listing.stdout.decode().split("\0")
        if name and (path := ROOT / name).is_file()
    ]


def test_no_file_names_a_machine_or_a_package_index() -> None:
    files = [path for path in tracked_files() if path != Path(__file__)]

    offenders = [
        str(path.relative_to(ROOT))
        for path in files
        if MACHINE_PATH.search(content := path.read_bytes()) or INDEX_ADDRESS.search(content)
    ]

    assert files
    assert offenders == []


def test_the_lock_stays_out_of_git() -> None:
    assert ROOT / "uv.lock" not in tracked_files()


@pytest.mark.parametrize("package", PACKAGES, ids=lambda folder: folder.name)
def test_a_package_has_the_skeleton_that_all_share(package: Path) -> None:
    module = f"starfish_{package.name.replace('-', '_')}"

    for needed in (
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
        f"src/{module}/py.typed",
    ):
        assert (package / needed).is_file(), needed
    assert list((package / "tests/typing").glob("*.py"))


def test_the_type_checkers_look_at_every_package() -> None:
    # Neither pyright nor mypy complains of a pattern that matches nothing, or of a missing search path.
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]

    assert tools["pyright"]["include"] == ["packages"]
    sources = [f"packages/{folder.name}/src" for folder in PACKAGES]
    assert sorted(tools["mypy"]["mypy_path"]) == ["docs/demo", *sources]
    roots = {f"starfish_{folder.name.replace('-', '_')}" for folder in PACKAGES}
    assert set(tools["importlinter"]["root_packages"]) == roots


def test_make_without_a_target_explains_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))

    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert set(re.findall(r"make ([a-z-]+)", shown)) == targets


@pytest.mark.parametrize("package", PACKAGES, ids=lambda folder: folder.name)
def test_each_changelog_fragment_says_something_under_a_known_heading(package: Path) -> None:
    settings = tomllib.loads((package / "pyproject.toml").read_text())["tool"]["towncrier"]
    headings = {kind["directory"] for kind in settings["type"]}
    fragments = [
        path for path in (package / settings["directory"]).iterdir() if path.name != ".gitignore"
    ]

    assert (package / settings["filename"]).read_text().count(settings["start_string"]) == 1
    for fragment in fragments:
        assert re.fullmatch(rf"[+\w.-]+\.(?:{'|'.join(headings)})\.md", fragment.name), fragment
        assert fragment.read_text().strip(), fragment
