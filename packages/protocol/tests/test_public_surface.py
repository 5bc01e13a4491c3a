import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import starfish_protocol

EXTRAS = {"starfish_protocol.testing": "pytest"}
NAMES = [
    "starfish_protocol",
    *(
        info.name
        for info in pkgutil.walk_packages(starfish_protocol.__path__, "starfish_protocol.")
        if "._" not in info.name
    ),
]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_public_is_missing_from_all(name):
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name], reason="needs the extra")
    module = importlib.import_module(name)

    defined = {
        attribute
        for attribute, value in vars(module).items()
        if attribute[0] != "_" and getattr(value, "__module__", "") == name
    }

    assert isinstance(module.__all__, tuple)
    assert defined <= set(module.__all__)
    assert all(hasattr(module, attribute) for attribute in module.__all__)


def test_importing_everything_touches_no_network_database_or_process():
    program = (
        "import sys, importlib\n"
        f"for name in {[name for name in NAMES if name not in EXTRAS]!r}: importlib.import_module(name)\n"
        "print([name for name in ('asyncio', 'socket', 'sqlite3', 'subprocess') if name in sys.modules])"
    )

    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout

    assert printed == "[]\n"


def test_the_package_is_typed():
    assert (Path(starfish_protocol.__file__).parent / "py.typed").is_file()
