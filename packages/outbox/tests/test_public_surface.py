"""Every public name is listed, and the examples in docstrings run."""

from __future__ import annotations

import doctest
import importlib
import importlib.metadata
import importlib.util
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import starfish_outbox

HAS_HTTP = importlib.util.find_spec("httpx") is not None
NAMES = [
    module.name
    for module in pkgutil.walk_packages(starfish_outbox.__path__, "starfish_outbox.")
    if HAS_HTTP or module.name != "starfish_outbox.http"
]
PUBLIC = ["starfish_outbox", *(n for n in NAMES if "._" not in n)]


@pytest.mark.parametrize("name", PUBLIC)
def test_nothing_public_is_missing_from_all(name: str) -> None:
    module = importlib.import_module(name)
    defined = {
        n
        for n, value in vars(module).items()
        if not n.startswith("_") and getattr(value, "__module__", "") == module.__name__
    }

    assert defined <= set(module.__all__)
    assert all(hasattr(module, n) for n in module.__all__)


@pytest.mark.parametrize("name", ["starfish_outbox", *NAMES])
def test_the_examples_in_docstrings_run(name: str) -> None:
    module: ModuleType = importlib.import_module(name)

    assert doctest.testmod(module).failed == 0


def test_the_version_is_the_distributions() -> None:
    assert starfish_outbox.__version__ == importlib.metadata.version("starfish-outbox")


def test_every_error_has_the_one_base() -> None:
    module = importlib.import_module("starfish_outbox.errors")

    assert all(
        issubclass(getattr(module, name), starfish_outbox.OutboxError) for name in module.__all__
    )


def test_the_core_imports_only_the_standard_library_and_starfish_disk() -> None:
    program = (
        "import sys, starfish_outbox, starfish_outbox.testing;"
        "names = {m.partition('.')[0] for m in sys.modules};"
        "print(sorted(names - set(sys.stdlib_module_names) - {'starfish_outbox', 'starfish_disk', '__main__'}))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {program}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )

    assert done.stdout == "[]\n"


@pytest.mark.skipif(HAS_HTTP, reason="the extra http is installed")
def test_without_the_extra_the_message_says_what_to_install() -> None:
    with pytest.raises(ImportError, match=r"starfish-outbox\[http\]"):
        importlib.import_module("starfish_outbox.http")
