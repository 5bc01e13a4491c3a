"""Engines for SQLite: what a connection promises, and one that cannot be made."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from starfish_artifact_registry.db.engine import create_engine
from starfish_disk.errors import DiskError

TIMEOUT_S = 20


class _SlowThreads(logging.Handler):
    """Keeps threads of aiosqlite from ending before the event loop that they report to is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.loop_is_gone = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("executing") and "stop" in record.getMessage():
            self.loop_is_gone.wait(1)


@pytest.fixture
def slow_threads() -> Iterator[_SlowThreads]:
    handler, logger = _SlowThreads(), logging.getLogger("aiosqlite")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.setLevel(level)
    logger.removeHandler(handler)


@pytest.mark.parametrize("place", ["a folder", "garbage/registry.sqlite", "garbage"])
def test_what_cannot_be_opened_leaves_no_thread_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow_threads: _SlowThreads, place: str
) -> None:
    (tmp_path / "a folder").mkdir()
    (tmp_path / "garbage").write_bytes(b"no database " * 1000)
    crashes: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", crashes.append)
    before = set(threading.enumerate())

    async def connect() -> None:
        engine = create_engine(f"sqlite:///{tmp_path / place}")
        try:
            async with engine.connect():
                pass
        finally:
            await engine.dispose()

    with pytest.raises((DatabaseError, DiskError)):
        asyncio.run(connect())
    slow_threads.loop_is_gone.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(TIMEOUT_S)

    assert crashes == []


async def test_commits_are_on_disk_and_writers_wait(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'registry.sqlite'}")

    async with engine.connect() as connection:
        found = [
            (await connection.execute(text(f"PRAGMA {name}"))).scalar()
            for name in ("synchronous", "journal_mode", "busy_timeout", "foreign_keys")
        ]
    await engine.dispose()

    assert found == [2, "wal", 30_000, 1]
