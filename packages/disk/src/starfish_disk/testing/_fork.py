"""The contract of a store that is taken along in a fork: never a hang, never a lost write."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from starfish_disk.testing._store import OpenedStore, OpenStore, StoreContract, fork_child

__all__ = ("ForkContract",)


class ForkContract(StoreContract):
    """Inherit it, and supply ``open_store``."""

    def test_a_child_works_or_gets_a_typed_error_at_once(
        self, open_store: OpenStore, path: Path
    ) -> None:
        with self.opened(open_store, path) as store:
            store.write("before")

            acknowledged = fork_child(lambda report: self._use_in_child(store, report))
            store.write("after")
            seen = store.names()

        assert {"before", "after", *acknowledged} <= seen
        assert {"before", "after", *acknowledged} <= self.names_at(open_store, path)

    def test_a_child_may_close_first(self, open_store: OpenStore, path: Path) -> None:
        with self.opened(open_store, path) as store:
            store.write("before")

            fork_child(lambda report: self._close_in_child(store, report))
            store.write("after")

        assert {"before", "after"} <= self.names_at(open_store, path)

    def test_a_store_of_its_own_works_in_a_child(self, open_store: OpenStore, path: Path) -> None:
        def work(report: Callable[[object], None]) -> None:
            with self.opened(open_store, path) as store:
                store.write("in the child")
                report("in the child")

        assert fork_child(work) == ["in the child"]
        assert "in the child" in self.names_at(open_store, path)

    def _use_in_child(self, store: OpenedStore, report: Callable[[object], None]) -> None:
        store.in_child()
        with suppress(self.error):
            store.write("in the child")
            report("in the child")
        with suppress(self.error):
            store.names()
        self._close_in_child(store, report)

    def _close_in_child(self, store: OpenedStore, _report: Callable[[object], None]) -> None:
        store.in_child()
        with suppress(self.error):
            store.close()
