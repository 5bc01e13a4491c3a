"""Positions across restarts, restored files and new folders."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from starfish_server.storage.changes import ChangeRecord
from starfish_server.storage.errors import PositionLostError
from starfish_server.storage.sqlite import SqliteObjectStore
from starfish_server.storage.values import Position, Value


async def write(path: Path, first: int, count: int) -> Position:
    """Write with a store that is opened for it, as a process that starts and ends."""
    store = SqliteObjectStore(path)
    for number in range(first, first + count):
        record = ChangeRecord("notes", {}, f"h{number}", number)
        await store.write(f"k/{number}", Value(b"x"), change=record)
    end = await store.changes.end()
    await store.close()
    return end


async def keys_after(path: Path, position: Position | None) -> list[str]:
    store = SqliteObjectStore(path)
    try:
        return [each.key for each in (await store.changes.read(position, 1000)).changes]
    finally:
        await store.close()


async def test_a_restart_leaves_positions_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "documents.sqlite"
    positions = [await write(path, number, 3) for number in (0, 3, 6)]

    assert [len(await keys_after(path, position)) for position in positions] == [6, 3, 0]
    assert len(await keys_after(path, None)) == 9


@pytest.mark.parametrize("written_after", [0, 3, 60])
async def test_a_file_that_was_copied_back_ends_the_positions_that_it_does_not_know(
    tmp_path: Path, written_after: int
) -> None:
    path, saved = tmp_path / "documents.sqlite", tmp_path / "saved.sqlite"
    early = await write(path, 0, 10)
    shutil.copy(path, saved)
    late = await write(path, 10, 10)
    shutil.copy(saved, path)
    await write(path, 100, written_after)

    assert len(await keys_after(path, early)) == written_after
    with pytest.raises(PositionLostError):
        await keys_after(path, late)


async def test_a_copy_of_a_running_file_is_told_apart_as_well(tmp_path: Path) -> None:
    path, saved = tmp_path / "documents.sqlite", tmp_path / "saved.sqlite"
    store = SqliteObjectStore(path)
    for number in range(20):
        if number == 10:
            with sqlite3.connect(path) as source, sqlite3.connect(saved) as target:
                source.backup(target)
            source.close()
            target.close()
        record = ChangeRecord("notes", {}, "h", number)
        written = await store.write(f"k/{number}", Value(b"x"), change=record)
    await store.close()
    shutil.copy(saved, path)
    await write(path, 100, 60)

    with pytest.raises(PositionLostError):
        await keys_after(path, written.position)


async def test_another_folder_knows_no_position_of_the_first(tmp_path: Path) -> None:
    position = await write(tmp_path / "one.sqlite", 0, 5)
    await write(tmp_path / "other.sqlite", 0, 50)

    with pytest.raises(PositionLostError):
        await keys_after(tmp_path / "other.sqlite", position)


async def test_the_writes_of_two_processes_have_one_line_of_positions(tmp_path: Path) -> None:
    path = tmp_path / "documents.sqlite"
    stores = [SqliteObjectStore(path), SqliteObjectStore(path)]
    positions: list[Position | None] = []
    for number in range(20):
        record = ChangeRecord("notes", {}, "h", number)
        written = await stores[number % 2].write(f"k/{number}", Value(b"x"), change=record)
        positions.append(written.position)

    page = await stores[0].changes.read(None, 100)
    assert [change.position for change in page.changes] == positions
    for number, position in enumerate(positions):
        rest = await stores[number % 2].changes.read(position, 100)
        assert len(rest.changes) == 19 - number
    for store in stores:
        await store.close()
