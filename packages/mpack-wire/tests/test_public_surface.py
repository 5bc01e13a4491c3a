"""Public names stand in ``__all__``, documented errors are the errors there are."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

import pytest

import starfish_mpack_wire

NAMES = [
    "starfish_mpack_wire",
    *(
        info.name
        for info in pkgutil.walk_packages(starfish_mpack_wire.__path__, "starfish_mpack_wire.")
    ),
]
PUBLIC = [name for name in NAMES if not any(part[0] == "_" for part in name.split("."))]


def imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if "needs the extra" in str(error):
            pytest.skip(str(error))
        raise


@pytest.mark.parametrize("name", PUBLIC)
def test_nothing_public_is_missing_from_all(name: str) -> None:
    module = imported(name)

    defined = {
        name
        for name, value in vars(module).items()
        if name[0] != "_" and callable(value) and value.__module__ == module.__name__
    }

    assert defined <= set(getattr(module, "__all__", ()))
    for each in getattr(module, "__all__", ()):
        try:
            assert hasattr(module, each)
        except ImportError as error:
            assert "needs the extra" in str(error)  # noqa: PT017 - the one allowed


@pytest.mark.parametrize("name", NAMES)
def test_examples_in_docstrings_run(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)

    result = doctest.testmod(imported(name))

    assert result.failed == 0


def test_the_names_that_the_page_shows_are_there() -> None:
    names = (
        "blob_id snapshot_id commit_id build_mpack write_mpack parse_wire_mpack MPackReader "
        "SnapshotTree apply_mpack LocalStore Limits "
        "MPackError MPackFormatError MPackIntegrityError MPackLimitError"
    )

    assert set(names.split()) <= set(starfish_mpack_wire.__all__)


def test_every_error_has_the_one_base_and_stands_in_the_tree() -> None:
    errors = importlib.import_module("starfish_mpack_wire.errors")

    for name in errors.__all__:
        assert issubclass(getattr(errors, name), errors.MPackError)
        assert name in (errors.__doc__ or "")
