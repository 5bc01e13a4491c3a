"""The contract of a store in a file that is replaced as a whole, or in a folder of such files."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from starfish_disk.testing._faulty_disk import FaultyDisk
from starfish_disk.testing._store import OpenStore, StoreContract, fork_child

__all__ = ("ReplacedFileContract",)


class ReplacedFileContract(StoreContract):
    """Inherit it, and supply ``open_store``; a write may replace the one before in ``names``.

    The store must write through this package: its calls are what the power cut is played on.
    Set ``keeps_all`` to ``False`` for a store that holds only the newest value.
    """

    keeps_all: bool = True
    """Whether earlier values stay beside a new one."""

    def expected(self, written: list[str]) -> set[str]:
        """The names that must be there after these writes."""
        return set(written) if self.keeps_all else set(written[-1:])

    def test_what_was_written_is_there_when_it_is_opened_again(
        self, open_store: OpenStore, path: Path
    ) -> None:
        written = ["one", "two", "three"]
        for name in written:
            with self.opened(open_store, path) as store:
                store.write(name)

        assert self.expected(written) <= self.names_at(open_store, path)

    def test_only_its_owner_can_read_the_files(self, open_store: OpenStore, path: Path) -> None:
        with self.opened(open_store, path) as store:
            store.write("one")
            store.write("two")
        files = [file for file in path.parent.rglob("*") if file.is_file()]
        modes = {file.name: oct(file.stat().st_mode & 0o777) for file in files}

        assert files
        assert set(modes.values()) == {"0o600"}, modes

    def test_nothing_unfinished_is_left_by_writes_and_refusals(
        self, open_store: OpenStore, path: Path
    ) -> None:
        with self.opened(open_store, path) as store:
            store.write("one")
            before = {file.name for file in path.parent.rglob("*")}
            for _ in range(5):
                store.write("one")

        assert {file.name for file in path.parent.rglob("*")} <= before

    @pytest.mark.parametrize("seed", range(5))
    def test_an_acknowledged_write_survives_a_power_cut(
        self, open_store: OpenStore, path: Path, seed: int
    ) -> None:
        written = ["one", "two", "three"]
        disk = FaultyDisk(path.parent, seed)
        with disk.installed(), self.opened(open_store, path) as store:
            for name in written:
                store.write(name)
        disk.cut_power()

        assert self.expected(written) <= self.names_at(open_store, path)

    @pytest.mark.parametrize("seed", range(5))
    def test_a_kill_at_any_moment_leaves_the_old_or_the_new(
        self, open_store: OpenStore, path: Path, seed: int
    ) -> None:
        delay_s = random.Random(seed).uniform(0.001, 0.05)  # noqa: S311  not a secret

        def work(report: Callable[[object], None]) -> None:
            with self.opened(open_store, path) as store:
                store.write("name0")
                report("name0")
                killer = os.fork()
                if killer == 0:
                    time.sleep(delay_s)
                    os.kill(os.getppid(), signal.SIGKILL)
                    os._exit(0)
                for number in range(1, 100_000):
                    store.write(f"name{number % 50}")
                    report(f"name{number % 50}")

        acknowledged = fork_child(work)
        names = self.names_at(open_store, path)

        newest = f"name{(len(acknowledged)) % 50}"  # perhaps on disk, and not acknowledged yet
        assert self.expected(acknowledged) <= names or newest in names
        with self.opened(open_store, path) as store:
            store.write("after")
        assert "after" in self.names_at(open_store, path)
