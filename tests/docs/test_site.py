"""The pages as a site: built without a warning, nothing loaded from elsewhere, each package in the reference."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
LOADED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"(https?:)?//[^\"]*\""
    r"|<link\b[^>]*\brel=\"(?:stylesheet|preconnect|icon)\"[^>]*\bhref=\"(https?:)?//[^\"]*\""
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [
            Path(sys.executable).with_name("mkdocs"),
            "build",
            "--quiet",
            "--config-file",
            ROOT / ".ci/site.yml",
            "--site-dir",
            folder,
        ],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    # The configuration is strict: one warning, such as a link that leads nowhere, fails it.
    assert (built.returncode, built.stderr) == (0, "")
    return folder


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    loads = {
        page.name: found.group()
        for page in site.rglob("*.html")
        if (found := LOADED.search(page.read_text())) is not None
    }

    assert loads == {}


@pytest.mark.parametrize("package", sorted(each.name for each in (ROOT / "packages").iterdir()))
def test_the_reference_has_the_public_names_of_a_package(site: Path, package: str) -> None:
    text = (site / "reference" / f"{package}.html").read_text()

    module = importlib.import_module(f"starfish_{package.replace('-', '_')}")
    documented = set(re.findall(rf"id=\"{module.__name__}\.(\w+)\"", text))
    public = {
        name
        for name in module.__all__
        if name != "__version__" and not isinstance(getattr(module, name), ModuleType)
    }
    assert public - documented == set()
