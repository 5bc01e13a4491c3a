"""What has no underscore is a promise, and is listed."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import starfish_projection

_PUBLIC = ["starfish_projection"] + [
    f"starfish_projection.{found.name}"
    for found in pkgutil.iter_modules(starfish_projection.__path__)
    if not found.name.startswith("_")
]


@pytest.mark.parametrize("module", [importlib.import_module(name) for name in _PUBLIC], ids=_PUBLIC)
def test_nothing_public_is_missing_from_all(module: ModuleType) -> None:
    defined = {
        name
        for name, value in vars(module).items()
        if name[0] != "_" and getattr(value, "__module__", "") == module.__name__
    }

    assert defined <= set(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)


def test_importing_the_package_does_not_import_the_server() -> None:
    code = "import sys, starfish_projection; print('starfish_server' in sys.modules)"

    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout

    assert answer == "False\n"
