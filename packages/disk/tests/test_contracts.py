"""The contracts hold for the smallest stores that are built of this package's pieces."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable
from pathlib import Path

import pytest

from starfish_disk import make_folder, replace_file
from starfish_disk.batch_thread import BatchThread
from starfish_disk.sqlite_batches import GroupCommit, SnapshotReads
from starfish_disk.sqlite_file import SqliteFile
from starfish_disk.testing import (
    ForkContract,
    FullDiskContract,
    OpenStore,
    ReplacedFileContract,
    SqliteFileContract,
)

LAYOUTS = [["CREATE TABLE item (name TEXT PRIMARY KEY)"]]


class AsyncNotes:
    """A store on two threads."""

    def __init__(self, path: Path) -> None:
        file = SqliteFile(path, application_id=0x54455354, layouts=LAYOUTS)
        self._writes = BatchThread(f"{path} writes", GroupCommit(file))
        self._reads = BatchThread(f"{path} reads", SnapshotReads(file))

    def write(self, name: str) -> Awaitable[object]:
        return self._writes.submit(
            lambda connection: connection.execute("INSERT INTO item VALUES (?)", (name,)).close()
        )

    def names(self) -> Awaitable[list[str]]:
        return self._reads.submit(_names)

    async def close(self) -> None:
        await asyncio.gather(self._reads.stop())
        await self._writes.stop()


class Notes:
    """A store for one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path, application_id=0x54455354, layouts=LAYOUTS)
        self._connection = self._file.connect()

    def write(self, name: str) -> None:
        with self._file.transaction(self._connection) as connection:
            connection.execute("INSERT INTO item VALUES (?)", (name,))

    def names(self) -> list[str]:
        self._file.check_in_place()
        return _names(self._connection)

    def close(self) -> None:
        self._file.check_in_place()
        self._connection.close()


def _names(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM item")]


class Folder:
    """A store of one file a value."""

    def __init__(self, path: Path) -> None:
        self._path = path
        make_folder(path)

    def write(self, name: str) -> None:
        replace_file(self._path / name, name.encode())

    def names(self) -> list[str]:
        return [path.name for path in self._path.iterdir() if path.read_text() == path.name]

    def close(self) -> None:
        pass


class File(Folder):
    """A store of one value."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, name: str) -> None:
        replace_file(self._path, name.encode())

    def names(self) -> list[str]:
        return [self._path.read_text()]


class TestAsyncNotes(SqliteFileContract, ForkContract, FullDiskContract):
    is_async = True

    @pytest.fixture
    def open_store(self) -> OpenStore:
        return AsyncNotes


class TestNotes(SqliteFileContract, ForkContract, FullDiskContract):
    @pytest.fixture
    def open_store(self) -> OpenStore:
        return Notes


class TestFolder(ReplacedFileContract, ForkContract, FullDiskContract):
    @pytest.fixture
    def open_store(self) -> OpenStore:
        return Folder


class TestFile(ReplacedFileContract):
    keeps_all = False

    @pytest.fixture
    def open_store(self) -> OpenStore:
        return File
