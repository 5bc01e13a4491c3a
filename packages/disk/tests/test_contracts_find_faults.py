"""Each contract fails on a store that lacks the lesson it is about."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from starfish_disk.testing import (
    ForkContract,
    FullDiskContract,
    OpenStore,
    ReplacedFileContract,
    SqliteFileContract,
    StoreContract,
)


class Careless:
    """SQLite as most programs open it."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("CREATE TABLE IF NOT EXISTS item (name TEXT)")

    def write(self, name: str) -> None:
        self._connection.execute("INSERT INTO item VALUES (?)", (name,))

    def names(self) -> list[str]:
        return [name for (name,) in self._connection.execute("SELECT name FROM item")]

    def close(self) -> None:
        self._connection.close()


class CarelessFile:
    """A file that is written in place."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, name: str) -> None:
        self._path.write_text(name)

    def names(self) -> list[str]:
        return [self._path.read_text()]

    def close(self) -> None:
        pass


class Hanging(CarelessFile):
    """A store with a thread: in a child nobody answers."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._pid = os.getpid()

    def write(self, name: str) -> None:
        if self._pid != os.getpid():
            threading.Event().wait()
        super().write(name)


class BadError(Exception):
    pass


def fails(
    contract: type[StoreContract],
    test: str,
    open_store: Callable[[Path], Any],
    path: Path,
    **arguments: object,
) -> bool:
    class Under(contract):  # type: ignore[misc, valid-type]
        error = BadError
        keeps_all = False

        @pytest.fixture
        def open_store(self) -> OpenStore:
            return open_store

    try:
        getattr(Under(), test)(open_store=open_store, path=path, **arguments)
    except (Exception, pytest.fail.Exception):  # noqa: BLE001
        return True
    return False


@pytest.mark.parametrize(
    ("test", "arguments"),
    [
        ("test_only_its_owner_can_read_the_files", {}),
        ("test_the_file_says_what_it_is", {}),
        ("test_a_file_of_another_application_is_refused_and_left_as_it_was", {"kind": "tables"}),
        ("test_a_file_of_a_later_version_is_refused", {}),
        ("test_a_file_that_is_not_a_database_is_refused", {}),
        ("test_a_short_or_missing_file_beside_a_log_with_commits_is_refused", {"size": 0}),
        ("test_a_short_or_missing_file_beside_a_log_with_commits_is_refused", {"size": None}),
        ("test_a_write_to_a_file_that_is_gone_is_not_acknowledged", {"harm": "moved"}),
        ("test_a_write_to_a_file_that_is_gone_is_not_acknowledged", {"harm": "deleted"}),
        ("test_a_write_to_a_file_that_is_gone_is_not_acknowledged", {"harm": "replaced"}),
    ],
)
def test_a_careless_database_is_found_out(
    tmp_path: Path, test: str, arguments: dict[str, Any]
) -> None:
    assert fails(SqliteFileContract, test, Careless, tmp_path / "store.sqlite", **arguments)


def test_a_careless_file_is_found_out(tmp_path: Path) -> None:
    for number, (test, arguments) in enumerate(
        [
            ("test_only_its_owner_can_read_the_files", {}),
            ("test_an_acknowledged_write_survives_a_power_cut", {"seed": 1}),
        ]
    ):
        (tmp_path / f"{number}").mkdir()
        path = tmp_path / f"{number}" / "store"
        assert fails(ReplacedFileContract, test, CarelessFile, path, **arguments)


def test_an_untyped_error_of_a_full_disk_is_found_out(tmp_path: Path) -> None:
    test = "test_a_full_disk_is_a_typed_error_and_loses_nothing"

    assert fails(FullDiskContract, test, Careless, tmp_path / "store", room=4096)


def test_a_hang_in_a_child_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("starfish_disk.testing._store._CHILD_LIMIT_S", 1)
    test = "test_a_child_works_or_gets_a_typed_error_at_once"

    assert fails(ForkContract, test, Hanging, tmp_path / "store")
