"""The SQLite file of a server has the lessons of every file of ours: identity, place, forks, full disks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra server")

from starfish_disk.testing import (
    ForkContract,
    FullDiskContract,
    SqliteFileContract,
)
from starfish_mpack_wire import MPackError
from starfish_mpack_wire.server import Repos, WireRows


class Repositories:
    """Repositories as the one thing that is written."""

    def __init__(self, rows: WireRows) -> None:
        self.rows = rows
        self.repos = Repos(rows)

    async def write(self, name: str) -> None:
        # Any name; a slug may not have every character.
        await self.repos.create("ada", f"n{name.encode().hex()}")

    async def names(self) -> list[str]:
        from sqlalchemy import select

        from starfish_mpack_wire.server._rows import REPOS

        async with self.rows.reading() as connection:
            slugs = (await connection.execute(select(REPOS.c.slug))).scalars()
            return [bytes.fromhex(slug[1:]).decode() for slug in slugs]

    async def close(self) -> None:
        await self.rows.close()


class TestRows(SqliteFileContract, FullDiskContract):
    error = MPackError
    is_async = True

    @pytest.fixture
    def open_store(self) -> Callable[[Path], Awaitable[Any]]:
        async def open_it(path: Path) -> Repositories:
            rows = await asyncio.to_thread(WireRows, f"sqlite+aiosqlite:///{path}")
            try:
                await rows.open()
            except BaseException:
                await rows.close()
                raise
            return Repositories(rows)

        return open_it


class TestForkedRows(ForkContract):
    error = MPackError
    is_async = True
    open_store = TestRows.open_store
