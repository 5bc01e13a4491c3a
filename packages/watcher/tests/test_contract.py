"""Every log passes the one suite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from starfish_protocol.testing import ThreadSafeEventSourceContract
from starfish_watcher import EventStore
from starfish_watcher.testing import (
    AppendContract,
    DeliveryContract,
    WatchContract,
    WritingContract,
)
from starfish_watcher.testing.samples import credit

Opener = Callable[..., EventStore]


class OnMemory:
    @pytest.fixture
    def opener(self) -> Opener:
        return EventStore.memory

    @pytest.fixture
    def expression(self) -> str | None:
        return None


class OnSqlite:
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return lambda **options: EventStore.open(tmp_path / "events.db", **options)

    @pytest.fixture
    def expression(self, tmp_path: Path) -> str | None:
        return f"EventStore.open({str(tmp_path / 'events.db')!r})"


class TestAppendOnMemory(OnMemory, AppendContract): ...


class TestAppendOnSqlite(OnSqlite, AppendContract): ...


class TestWritingOnMemory(OnMemory, WritingContract): ...


class TestWritingOnSqlite(OnSqlite, WritingContract): ...


class TestDeliveryOnMemory(OnMemory, DeliveryContract): ...


class TestDeliveryOnSqlite(OnSqlite, DeliveryContract): ...


class TestWatchOnMemory(OnMemory, WatchContract): ...


class TestWatchOnSqlite(OnSqlite, WatchContract): ...


class SourceOfStore(ThreadSafeEventSourceContract):
    @pytest.fixture
    def source(self, opener: Opener):
        with opener() as store:
            yield store

    def append(self, source: EventStore, entity: str) -> None:
        credit(source, entity)


class TestSourceOnMemory(OnMemory, SourceOfStore): ...


class TestSourceOnSqlite(OnSqlite, SourceOfStore): ...
