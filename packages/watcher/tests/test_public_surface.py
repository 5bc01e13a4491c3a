from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

import pytest

import starfish_watcher

NAMES = [
    "starfish_watcher",
    *(info.name for info in pkgutil.walk_packages(starfish_watcher.__path__, "starfish_watcher.")),
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
        if name[0] != "_" and getattr(value, "__module__", "") == module.__name__
    }
    if not hasattr(module, "__all__"):
        assert defined == set()
        return
    assert all(hasattr(module, name) for name in module.__all__)
    assert {name for name in defined if callable(getattr(module, name))} <= set(module.__all__)


def test_the_names_that_the_page_shows_are_there() -> None:
    names = (
        "Coordinate EventKind Event Region EventStore Receipt NEW Projection Change CONSISTENT "
        "MaybeStale SnapshotCache Subscription Cursor ProjectionWatcher CursorWatcher "
        "WatcherError StoreClosed SubscriptionPruned ProjectionFailed SequenceConflictError "
        "IdempotencyConflictError"
    )

    assert set(names.split()) <= set(starfish_watcher.__all__)


def test_every_error_has_the_one_base() -> None:
    errors = importlib.import_module("starfish_watcher.errors")

    for name in errors.__all__:
        assert issubclass(getattr(errors, name), errors.WatcherError)
        assert name in (errors.__doc__ or "")
