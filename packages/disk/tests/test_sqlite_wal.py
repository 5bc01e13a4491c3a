"""A torn end of a log is a crash, a hole before a commit is damage."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_disk.errors import DamagedError
from starfish_disk.sqlite_file import SqliteFile
from starfish_disk.sqlite_wal import (
    WalBreak,
    check_wal,
    find_break,
    pages_in_wal,
    wal_path,
    wal_size,
)

FRAME = 24 + 4096
COMMITS = 12


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database whose commits stand in its log, as a killed process leaves it."""
    folder = tmp_path_factory.mktemp("logged")
    path = folder / "store.sqlite"
    file = SqliteFile(path, application_id=1, layouts=[["CREATE TABLE item (value BLOB)"]])
    with closing(file.connect()) as connection:
        for _ in range(COMMITS):
            with file.transaction(connection):
                connection.execute("INSERT INTO item VALUES (zeroblob(3000))")
        for each in (path, wal_path(path)):
            shutil.copy(each, str(each).replace("store", "copy"))
    return folder / "copy.sqlite"


def copy_of(logged: Path, folder: Path) -> Path:
    for each in (logged, wal_path(logged)):
        shutil.copy(each, folder / each.name)
    return folder / logged.name


def rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM item").fetchone()
        return int(count)


def test_a_whole_log_has_its_pages_and_no_break(logged: Path) -> None:
    with closing(sqlite3.connect(f"{logged.as_uri()}?mode=ro", uri=True)) as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()

    assert pages_in_wal(logged) == set(range(1, pages + 1))
    assert find_break(logged) is None
    assert wal_size(logged) > COMMITS * FRAME


def test_without_a_log_there_is_nothing_to_find(tmp_path: Path) -> None:
    assert pages_in_wal(tmp_path / "none") == set()
    assert find_break(tmp_path / "none") is None
    assert wal_size(tmp_path / "none") == 0
    check_wal(tmp_path / "none")


def test_a_header_that_is_damaged_hides_all_commits(logged: Path, tmp_path: Path) -> None:
    path = copy_of(logged, tmp_path)
    with wal_path(path).open("r+b") as file:
        file.write(b"\0" * 32)

    found = find_break(path)

    assert found is not None
    assert found.frame == 0
    assert found.commits_beyond >= COMMITS
    with pytest.raises(DamagedError):
        check_wal(path)


@given(data=st.data())
def test_a_log_that_was_cut_anywhere_opens_with_a_beginning_of_its_commits(
    logged: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = copy_of(logged, tmp_path_factory.mktemp("cut"))
    length = data.draw(st.integers(2 * FRAME + 4096 + 32, wal_size(path)))
    os.truncate(wal_path(path), length)

    assert find_break(path) is None
    file = SqliteFile(
        path, application_id=1, layouts=[["CREATE TABLE item (value BLOB)"]], check="wal"
    )
    with closing(file.connect()):
        assert 0 <= rows(path) <= COMMITS


@given(data=st.data())
def test_a_flipped_bit_is_a_break_when_a_commit_lies_beyond(
    logged: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = copy_of(logged, tmp_path_factory.mktemp("flip"))
    content = bytearray(wal_path(path).read_bytes())
    at = data.draw(st.integers(32, len(content) - FRAME - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    wal_path(path).write_bytes(content)

    found = find_break(path)

    assert isinstance(found, WalBreak)
    assert found.frame == (at - 32) // FRAME + 1
