"""What the site has beyond the pages of docs/: a reference made of docstrings, and links into the source."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).parents[1]
_OUT_OF_DOCS = re.compile(r"\]\((?P<path>(?:\.\./)+[^)#\s]*|demo)(?P<anchor>#[^)\s]*)?\)")


def _public_modules(package: str) -> list[str]:
    root = importlib.import_module(package)
    found = pkgutil.walk_packages(root.__path__, f"{package}.")
    names = [
        info.name
        for info in found
        if not any(part.startswith("_") for part in info.name.split("."))
    ]
    return [package, *(name for name in names if ".migrations" not in name)]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each package, with its public modules."""
    for folder in sorted((_ROOT / "packages").iterdir()):
        package = f"starfish_{folder.name.replace('-', '_')}"
        parts = [f"# {package}\n", *(f"::: {name}\n" for name in _public_modules(package))]
        files.append(
            File.generated(config, f"reference/{folder.name}.md", content="\n".join(parts))
        )
    return files


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Name the pages of the reference in the menu."""
    names = sorted(folder.name for folder in (_ROOT / "packages").iterdir())
    nav: list[Any] = config.nav or []
    config.nav = [
        {"Reference": [f"reference/{name}.md" for name in names]} if "Reference" in entry else entry
        for entry in nav
    ]
    return config


def on_page_markdown(markdown: str, *, config: MkDocsConfig, **_: Any) -> str:
    """Let links out of docs/ lead to the source."""

    def elsewhere(link: re.Match[str]) -> str:
        inside = re.sub(r"^(?:\.\./)+", "", link["path"])
        path = inside if link["path"].startswith("..") else f"docs/{inside}"
        return f"]({config.repo_url}/{path}{link['anchor'] or ''})"

    return _OUT_OF_DOCS.sub(elsewhere, markdown)
