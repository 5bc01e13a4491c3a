"""The contract of a store in a SQLite file: what it must refuse, and what must survive."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from starfish_disk.testing._store import OpenStore, StoreContract, fork_child

__all__ = ("SqliteFileContract",)

_ENDS: Final = ("", "-wal", "-shm")
_FOREIGN: Final = {
    "tables": "CREATE TABLE theirs (x)",
    "a view": "CREATE VIEW theirs AS SELECT 1",
    "an application id": "PRAGMA application_id = 1131",
    "a version": "PRAGMA user_version = 1131",
}
_KILLED: Final = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("CREATE TABLE theirs (x)")
os.kill(os.getpid(), 9)
"""


class SqliteFileContract(StoreContract):
    """Inherit it, and supply ``open_store``; override ``database`` when the path is a folder."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """Where the store is opened."""
        return tmp_path / "store.sqlite"

    def database(self, path: Path) -> Path:
        """The SQLite file of a store that is opened at a path."""
        return path

    # Surviving.

    def test_what_was_written_is_there_when_it_is_opened_again(
        self, open_store: OpenStore, path: Path
    ) -> None:
        for name in ("one", "two", "three"):
            with self.opened(open_store, path) as store:
                store.write(name)

        assert {"one", "two", "three"} <= self.names_at(open_store, path)

    def test_an_acknowledged_write_survives_sigkill(
        self, open_store: OpenStore, path: Path
    ) -> None:
        acknowledged = self._killed_after(open_store, path, 20)

        assert len(acknowledged) == 20
        assert set(acknowledged) <= self.names_at(open_store, path)

    def test_several_may_open_a_new_file_at_once(self, open_store: OpenStore, path: Path) -> None:
        errors: list[Exception] = []

        def write(number: int) -> None:
            try:
                with self.opened(open_store, path) as store:
                    store.write(f"name{number}")
            except Exception as error:  # noqa: BLE001  shown below
                errors.append(error)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert errors == []
        assert {f"name{number}" for number in range(6)} <= self.names_at(open_store, path)

    def test_a_lock_of_another_process_is_waited_for(
        self, open_store: OpenStore, path: Path
    ) -> None:
        with self.opened(open_store, path) as store:
            store.write("one")
            other = sqlite3.connect(
                self.database(path), isolation_level=None, check_same_thread=False
            )
            with closing(other):
                other.execute("BEGIN IMMEDIATE")
                timer = threading.Timer(0.3, other.execute, ["ROLLBACK"])
                timer.start()
                store.write("two")
                timer.join()

        assert {"one", "two"} <= self.names_at(open_store, path)

    # Privacy and marks.

    def test_only_its_owner_can_read_the_files(self, open_store: OpenStore, path: Path) -> None:
        with self.opened(open_store, path) as store:
            store.write("one")
            modes = {file.name: oct(file.stat().st_mode & 0o777) for file in self._family(path)}

        assert set(modes.values()) == {"0o600"}, modes

    def test_wider_permissions_of_an_older_file_are_narrowed(
        self, open_store: OpenStore, path: Path
    ) -> None:
        self._killed_after(open_store, path, 1)
        for file in self._family(path):
            file.chmod(0o644)

        self.test_only_its_owner_can_read_the_files(open_store, path)

    def test_the_file_says_what_it_is(self, open_store: OpenStore, path: Path) -> None:
        with self.opened(open_store, path) as store:
            store.write("one")
        with closing(sqlite3.connect(self.database(path))) as connection:
            (application_id,) = connection.execute("PRAGMA application_id").fetchone()
            (layout,) = connection.execute("PRAGMA user_version").fetchone()

        assert application_id != 0
        assert layout > 0

    # Refusing.

    @pytest.mark.parametrize("kind", _FOREIGN)
    def test_a_file_of_another_application_is_refused_and_left_as_it_was(
        self, open_store: OpenStore, path: Path, kind: str
    ) -> None:
        database = self.database(path)
        database.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(database)) as connection:
            connection.execute(_FOREIGN[kind])
        database.chmod(0o644)

        self._is_refused(open_store, path)

        assert database.stat().st_mode & 0o777 == 0o644

    def test_a_file_of_another_application_that_stands_in_its_log_is_refused(
        self, open_store: OpenStore, path: Path
    ) -> None:
        database = self.database(path)
        database.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-c", _KILLED, database], check=False)  # noqa: S603

        self._is_refused(open_store, path)

    def test_a_file_that_is_not_a_database_is_refused(
        self, open_store: OpenStore, path: Path
    ) -> None:
        self.database(path).parent.mkdir(parents=True, exist_ok=True)
        self.database(path).write_bytes(b"a letter to a friend. " * 1000)

        self._is_refused(open_store, path)

    def test_a_file_of_a_later_version_is_refused(self, open_store: OpenStore, path: Path) -> None:
        with self.opened(open_store, path) as store:
            store.write("one")
        with closing(sqlite3.connect(self.database(path))) as connection:
            connection.execute("PRAGMA user_version = 1000000")

        self._is_refused(open_store, path)

    @pytest.mark.parametrize("size", [0, 1, 99, None])
    def test_a_short_or_missing_file_beside_a_log_with_commits_is_refused(
        self, open_store: OpenStore, path: Path, size: int | None
    ) -> None:
        self._killed_after(open_store, path, 3)
        if not self._has_log(path):
            pytest.skip("its commits do not stand in a log")
        if size is None:
            self.database(path).unlink()
        else:
            os.truncate(self.database(path), size)

        self._is_refused(open_store, path)

    def test_a_file_that_was_cut_off_is_refused(self, open_store: OpenStore, path: Path) -> None:
        with self.opened(open_store, path) as store:
            store.write(*(f"name{number}" for number in range(50)))
        database = self.database(path)
        os.truncate(database, database.stat().st_size // 2 // 512 * 512)

        self._is_refused(open_store, path)

    # Staying in place.

    @pytest.mark.parametrize("harm", ["moved", "deleted", "replaced"])
    def test_a_write_to_a_file_that_is_gone_is_not_acknowledged(
        self, open_store: OpenStore, path: Path, harm: str
    ) -> None:
        database = self.database(path)
        with self.opened(open_store, path) as store:
            store.write("before")
        shutil.copy(database, database.with_name("backup"))
        acknowledged = False
        with self.opened(open_store, path) as store:
            store.write("one")
            _HARMS[harm](database)
            try:
                store.write("two")
                acknowledged = True
            except self.error:
                pass

        assert not acknowledged or "two" in self.names_at(open_store, path)

    # Pieces.

    def _is_refused(self, open_store: OpenStore, path: Path) -> None:
        """A typed error at the latest with the first write, nothing changed, nothing left open."""
        folder = self.database(path).parent
        before = _contents(folder)

        for _ in range(2):
            with pytest.raises(self.error), self.opened(open_store, path) as store:
                store.write("one")

        after = _contents(folder)
        assert {name: after.get(name) for name in before} == before
        still_open = _open_files(self.database(path))
        assert still_open == []

    def _killed_after(self, open_store: OpenStore, path: Path, count: int) -> list[str]:
        """The names that a process wrote which was then killed."""

        def work(report: Callable[[object], None]) -> None:
            with self.opened(open_store, path) as store:
                for number in range(count):
                    store.write(f"name{number}")
                    report(f"name{number}")
                os.kill(os.getpid(), signal.SIGKILL)

        return fork_child(work)

    def _family(self, path: Path) -> list[Path]:
        files = [Path(f"{self.database(path)}{end}") for end in _ENDS]
        return [file for file in files if file.exists()]

    def _has_log(self, path: Path) -> bool:
        log = Path(f"{self.database(path)}-wal")
        return log.exists() and log.stat().st_size > 0


def _moved(database: Path) -> None:
    for end in _ENDS:
        if (file := Path(f"{database}{end}")).exists():
            file.rename(f"{file}.away")


def _deleted(database: Path) -> None:
    for end in _ENDS:
        Path(f"{database}{end}").unlink(missing_ok=True)


def _replaced(database: Path) -> None:
    database.with_name("backup").replace(database)
    for end in _ENDS[1:]:
        Path(f"{database}{end}").unlink(missing_ok=True)


_HARMS: Final = {"moved": _moved, "deleted": _deleted, "replaced": _replaced}


def _contents(folder: Path) -> dict[str, bytes]:
    """Every file but the index of a log, which each process makes anew in shared memory."""
    return {
        file.name: file.read_bytes()
        for file in folder.iterdir()
        if file.is_file() and not file.name.endswith("-shm")
    }


def _open_files(database: Path) -> list[str]:
    found: list[str] = []
    for descriptor in Path("/dev/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue
        if target.startswith(str(database)):
            found.append(target)
    return found
