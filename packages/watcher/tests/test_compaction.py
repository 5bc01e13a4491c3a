"""What compaction leaves alone."""

from __future__ import annotations

import pytest

from starfish_watcher import EventStore
from starfish_watcher._compaction import compact
from starfish_watcher.log.memory import MemoryEventLog
from starfish_watcher.testing.samples import credit


def test_what_comes_while_it_looks_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    log = MemoryEventLog()
    with EventStore(log) as store:
        credit(store, "a")
        last = log.last_sequence

        def busy() -> int:
            before = last()
            credit(store, "a")
            return before

        monkeypatch.setattr(log, "last_sequence", busy)

        assert compact(log, lambda _: False) == (1, {"a"})
        assert [event.sequence for event in store.read()] == [2]
