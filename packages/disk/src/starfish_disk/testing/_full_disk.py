"""The contract of a store on a full disk: a typed error, nothing lost, and later it goes on."""

from __future__ import annotations

import resource
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from starfish_disk.testing._store import OpenStore, StoreContract, fork_child

__all__ = ("FullDiskContract",)

_NO_LIMIT: Final = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
_WRITES: Final = 200


class FullDiskContract(StoreContract):
    """Inherit it, and supply ``open_store``.

    The disk is full for files that grow beyond a size (``RLIMIT_FSIZE``), which needs no rights.
    """

    @pytest.mark.parametrize("room", [0, 4096, 100_000])
    def test_a_full_disk_is_a_typed_error_and_loses_nothing(
        self, open_store: OpenStore, path: Path, room: int
    ) -> None:
        def work(report: Callable[[object], None]) -> None:
            with self.opened(open_store, path) as store:
                store.write("before")
                report("before")
                limit = _largest_below(path.parent) + room if room else 0
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
                for number in range(_WRITES):
                    with suppress(self.error):
                        store.write(f"name{number}")
                        report(f"name{number}")
                store.names()
                resource.setrlimit(resource.RLIMIT_FSIZE, _NO_LIMIT)
                store.write("after")
                report("after")
                report({"seen": sorted(store.names())})

        *acknowledged, last = fork_child(work)

        assert {"before", "after"} <= set(acknowledged) <= set(last["seen"])
        assert set(acknowledged) <= self.names_at(open_store, path)

    def test_a_store_that_cannot_be_made_is_a_typed_error(
        self, open_store: OpenStore, path: Path
    ) -> None:
        def work(report: Callable[[object], None]) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            try:
                with self.opened(open_store, path) as store:
                    store.write("one")
                report("one")
            except self.error:
                pass
            resource.setrlimit(resource.RLIMIT_FSIZE, _NO_LIMIT)
            with self.opened(open_store, path) as store:
                store.write("after")
                report("after")

        acknowledged = fork_child(work)

        assert "after" in acknowledged
        assert set(acknowledged) <= self.names_at(open_store, path)


def _largest_below(folder: Path) -> int:
    return max((file.stat().st_size for file in folder.rglob("*") if file.is_file()), default=0)
