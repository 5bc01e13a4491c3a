"""What every log promises of where a watch begins.

Each test carries the name of the promise that it is about.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from starfish_watcher._delivery.hub import Hub
from starfish_watcher._projection.definition import Change
from starfish_watcher._store import EventStore
from starfish_watcher.testing.samples import Balance, credit

__all__ = ("BeginningContract",)

Opener = Callable[..., EventStore]


class BeginningContract:
    """The part of `WatchContract` that is about the first ``recv``."""

    def test_start_up_race_equal(self, store: EventStore) -> None:
        """Nothing came in between: the first ``recv`` waits."""
        credit(store, "a")
        watcher = store.watch_projection(Balance, "a")

        with pytest.raises(TimeoutError, match="newer than generation 1"):
            watcher.recv(0)

    def test_start_up_race_greater(
        self, store: EventStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What comes after subscribing is seen by both, and returned once."""
        attach = Hub.attach

        def early(hub: Hub, namespace: str | None, listener: Any) -> int:
            monkeypatch.setattr(Hub, "attach", attach)
            sequence = attach(hub, namespace, listener)
            credit(store, "a", 5)
            return sequence

        monkeypatch.setattr(Hub, "attach", early)
        watcher = store.watch_projection(Balance, "a")

        assert watcher.recv(0) == Change(1, 5)
        with pytest.raises(TimeoutError):
            watcher.recv(0)

    def test_start_up_race_less(self, store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """A reader that is behind says an older generation: nothing new, and nothing is lost."""
        credit(store, "a")
        with monkeypatch.context() as patched:
            patched.setattr(store, "generation", Mock(side_effect=[1, 0]))
            watcher = store.watch_projection(Balance, "a")

        with pytest.raises(TimeoutError):
            watcher.recv(0)
        credit(store, "a")
        assert watcher.recv(5) == Change(2, 2)

    def test_append_between_baseline_and_subscribe_is_delivered_alone(
        self, store: EventStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without another event, and without waiting; afterwards nothing is left."""
        attach = Hub.attach

        def late(hub: Hub, namespace: str | None, listener: Any) -> int:
            monkeypatch.setattr(Hub, "attach", attach)
            credit(store, "a", 5)
            return attach(hub, namespace, listener)

        monkeypatch.setattr(Hub, "attach", late)
        watcher = store.watch_projection(Balance, "a")

        assert watcher.recv(0) == Change(1, 5)
        with pytest.raises(TimeoutError):
            watcher.recv(0)

    def test_include_initial_and_since_generation(self, store: EventStore) -> None:
        """The state as it is, or only when it is newer than a token."""
        assert store.watch_projection(Balance, "a", include_initial=True).recv(0) == Change(0, None)
        credit(store, "a")
        credit(store, "a")

        initial = store.watch_projection(Balance, "a", include_initial=True)
        older = store.watch_projection(Balance, "a", since_generation=1)
        same = store.watch_projection(Balance, "a", since_generation=2)

        assert initial.recv(0) == older.recv(0) == Change(2, 2)
        assert initial.try_recv() is older.try_recv() is same.try_recv() is None

    def test_cursor_watcher_delivers_what_was_there_first(
        self, store: EventStore, tmp_path: Path
    ) -> None:
        """Then later states; after an ``ack`` only newer ones."""
        credit(store, "a")
        path = tmp_path / "watcher.checkpoint"
        watcher = store.watch_projection_cursor(Balance, "a", checkpoint=path)
        assert watcher.recv(0) == Change(1, 1)
        assert store.watch_projection_cursor(Balance, "a", checkpoint=path).recv(0) == Change(1, 1)
        watcher.ack()

        again = store.watch_projection_cursor(Balance, "a", checkpoint=path)
        assert again.try_recv() is None
        for _ in range(20):
            credit(store, "a")

        assert again.recv(5) == watcher.recv(5) == Change(21, 21)
        assert (again.acked, watcher.acked) == (1, 1)

    def test_prefix_watch_begins_with_what_is_there_when_asked(self, store: EventStore) -> None:
        """Of each entity once, and generations increase for each."""
        for entity in ("a:1", "a:2", "b"):
            credit(store, entity)

        with store.watch_prefix(Balance, "a", include_initial=True) as watcher:
            found = sorted((watcher.recv(0), watcher.recv(0)))
            credit(store, "a:2")
            credit(store, "a:2")

            assert found == [("a:1", Change(1, 1)), ("a:2", Change(1, 1))]
            assert watcher.recv(5) == ("a:2", Change(3, 3))
            assert watcher.try_recv() is None

    def test_tokens_comparable_after_reopening(
        self, opener: Opener, expression: str | None
    ) -> None:
        """A generation from before is older than one from after."""
        if expression is None:
            pytest.skip("this storage ends with its handle")
        with opener() as store:
            token = credit(store, "a")
            credit(store, "a")
            store.compact(lambda _: False)
        with opener() as store:
            assert store.generation("a") == 2
            assert store.project_if_changed(Balance, "a", token) == Change(2, None)
            watcher = store.watch_projection(Balance, "a", since_generation=2)
            assert watcher.try_recv() is None
            credit(store, "a")
            assert watcher.recv(5) == Change(3, 1)
