import doctest
import importlib
import pkgutil

import pytest

import starfish_protocol


@pytest.mark.parametrize(
    "name",
    [i.name for i in pkgutil.walk_packages(starfish_protocol.__path__, "starfish_protocol.")],
)
def test_the_examples_of_a_module_run(name):
    if name.endswith(".append_author"):
        pytest.importorskip("cryptography", reason="needs the extra signing")

    assert doctest.testmod(importlib.import_module(name)).failed == 0
