"""Store, watchers, cursors and subscriptions against a list of events, without a server."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings

from starfish_watcher import EventStore
from starfish_watcher.testing.store_machine import StoreMachine


class MemoryMachine(StoreMachine):
    shared = False

    def open_handle(self) -> EventStore:
        return EventStore.memory()


class SqliteMachine(StoreMachine):
    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        super().__init__()

    def open_handle(self) -> EventStore:
        return EventStore.open(self.folder / "events.db", durability="none")

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.folder)


TestStoreInMemory = MemoryMachine.TestCase
TestStoreInMemory.settings = settings(stateful_step_count=40)
TestStoreInSqlite = SqliteMachine.TestCase
TestStoreInSqlite.settings = settings(stateful_step_count=30)
