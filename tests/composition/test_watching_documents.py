"""A watcher follows the documents of a server, through the server's own log of changes."""

from __future__ import annotations

import asyncio
from pathlib import Path

from starfish_protocol.events import Event
from starfish_server import SqliteObjectStore, StoreContext, push
from starfish_server.storage.changes import ChangeSource
from starfish_watcher import Projection, watch_async

CONTEXT = StoreContext("notes", {}, "ada", (), "push")


class LatestHash(Projection[str]):
    name = "latest-hash"
    schema_version = 1

    def initial(self) -> str:
        return ""

    def apply(self, state: str, event: Event) -> str:
        return event.payload.hash


async def test_a_watcher_shows_each_pushed_version_and_no_old_one(tmp_path: Path) -> None:
    store = SqliteObjectStore(tmp_path / "documents.sqlite")
    other = SqliteObjectStore(tmp_path / "documents.sqlite")  # as another process would have
    watcher = await watch_async(ChangeSource(store.changes), LatestHash, "notes/1")
    base = None
    for number in range(5):
        writer = (store, other)[number % 2]
        await push(writer, "notes/2", {"not": "watched"}, None, context=CONTEXT)
        pushed = await push(writer, "notes/1", {"n": number}, base, context=CONTEXT)
        base = pushed.hash
        async with asyncio.timeout(10):
            change = await watcher.recv()

        assert change == (number + 1, pushed.hash)
    watcher.close()
    for each in (store, other):
        await each.close()
