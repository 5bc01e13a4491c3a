"""A name is public when a page documents it: modules, their `__all__` and the pages say the same.

A path without an underscore is a promise. Each public module stands by its path in the code of a
page, each name of its `__all__` by its name, and nothing without an underscore is left out of
`__all__`.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(folder.name for folder in (ROOT / "packages").iterdir())
CODE = re.compile(r"^(?:```|~~~).*?^(?:```|~~~)|`+[^`]+`+", re.MULTILINE | re.DOTALL)


@cache
def code_of_the_pages(package: str) -> str:
    """The inline code and the code blocks of the package's README and of docs/."""
    pages = [ROOT / "packages" / package / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return "\n".join(span for page in pages for span in CODE.findall(page.read_text()))


def public_modules(package: str) -> list[ModuleType]:
    root = importlib.import_module(f"starfish_{package.replace('-', '_')}")
    names = [
        info.name
        for info in pkgutil.walk_packages(root.__path__, f"{root.__name__}.")
        if not any(part.startswith("_") for part in info.name.split("."))
        and ".migrations." not in info.name
    ]
    return [root, *map(importlib.import_module, names)]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_public_module_has_an_all_that_leaves_nothing_out(package: str) -> None:
    missing = []
    for module in public_modules(package):
        listed = set(getattr(module, "__all__", ()))
        defined = {
            name
            for name, value in vars(module).items()
            if not name.startswith("_")
            and not isinstance(value, TypeVar)
            and getattr(value, "__module__", None) == module.__name__
        }
        missing += [f"{module.__name__}.{name}" for name in sorted(defined - listed)]
        missing += [f"{module.__name__}.__all__"] * (not hasattr(module, "__all__"))

    assert missing == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_public_module_stands_on_a_page(package: str) -> None:
    code = code_of_the_pages(package)

    unnamed = [
        module.__name__
        for module in public_modules(package)
        if getattr(module, "__all__", ())
        and not re.search(rf"\b{re.escape(module.__name__)}\b", code)
    ]

    assert unnamed == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_public_name_stands_on_a_page(package: str) -> None:
    words = set(re.findall(r"\w+", code_of_the_pages(package)))

    undocumented = [
        f"{module.__name__}.{name}"
        for module in public_modules(package)
        for name in getattr(module, "__all__", ())
        if name not in words and name != "__version__"
    ]

    assert undocumented == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_of_an_all_is_there(package: str) -> None:
    absent = [
        f"{module.__name__}.{name}"
        for module in public_modules(package)
        for name in getattr(module, "__all__", ())
        if not hasattr(module, name)
    ]

    assert absent == []
