"""A reader in the middle of a read when the store ends learns why, whatever the read ran into."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from starfish_watcher import EventStore, StoreClosed, StoreUnavailableError
from starfish_watcher.log.memory import MemoryEventLog
from starfish_watcher.testing.samples import Balance, credit, in_threads

READERS: dict[str, Callable[[EventStore], Callable[[], object]]] = {
    "read": lambda store: store.read,
    "generation": lambda store: lambda: store.generation("a"),
    "project": lambda store: lambda: store.project(Balance, "a"),
    "cursor": lambda store: store.cursor().poll,
    "watcher": lambda store: store.watch_projection_cursor(Balance, "a").recv,
    "prefix": lambda store: store.watch_prefix(Balance, None, include_initial=True).recv,
}


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_in_the_middle_of_a_read_is_told_why_the_store_ended(
    reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = MemoryEventLog()
    store = EventStore(log)
    credit(store, "a")
    read = READERS[reader](store)
    reading, ended = threading.Event(), threading.Event()

    def lost(*_: Any, **__: Any) -> Any:
        reading.set()
        assert ended.wait(20)
        raise StoreUnavailableError(log.location, "the connection was closed")

    for name in ("read", "head", "history"):
        monkeypatch.setattr(log, name, lost)

    def die() -> None:
        assert reading.wait(20)
        store._end(MemoryError("the writer died"))
        ended.set()

    def receive() -> None:
        with pytest.raises(StoreClosed, match="the writer died") as caught:
            read()
        assert isinstance(caught.value.__cause__, MemoryError)

    in_threads(receive, die)
