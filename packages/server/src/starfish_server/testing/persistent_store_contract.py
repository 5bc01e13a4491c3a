# ruff: noqa: D102  the name of a test is its sentence
"""What a store must keep to besides, when its values outlive the process that wrote them.

The tests start processes that use the same storage, and kill some of them.
"""

from __future__ import annotations

import base64
import os
import pickle
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import IO, TypeAlias

import pytest

from starfish_server.storage.base import AbstractObjectStore
from starfish_server.testing import _store_process
from starfish_server.testing.store_contract import StoreContract

__all__ = ("OpenStore", "PersistentStoreContract")

OpenStore: TypeAlias = Callable[[], AbstractObjectStore]
"""Makes a handle of one storage; a module-level function or a `functools.partial` of one, so that
another process can call it too."""

_TIMES = 25
_KEYS = 4


@pytest.mark.asyncio
class PersistentStoreContract(StoreContract):
    """Tests of one store that persists; supply the fixtures ``store`` and ``open_store``."""

    kill_rounds = 50
    """Times that a writing process is killed."""

    @pytest.fixture
    def open_store(self) -> OpenStore:
        """Makes another handle of the storage that ``store`` uses."""
        raise NotImplementedError("a subclass supplies the fixture `open_store`")

    async def test_values_survive_reopening(
        self, store: AbstractObjectStore, open_store: OpenStore
    ) -> None:
        etag = await store.put_if_match("notes/a", "é" * 5000, None)
        await store.put_bytes("images/b", b"\x00\xff", content_type="image/png")
        await store.put("gone", "x")
        await store.delete("gone")
        await store.close()
        again = open_store()

        assert await again.list_keys("") == ["images/b", "notes/a"]
        assert await again.get_with_etag("notes/a") == ("é" * 5000, etag)
        assert await again.get_bytes("images/b") == (b"\x00\xff", "image/png")
        await again.close()

    async def test_etags_do_not_come_back_after_reopening(
        self, store: AbstractObjectStore, open_store: OpenStore
    ) -> None:
        etags = [await store.put_if_match("a", "A", None)]
        await store.delete("a")
        for _ in range(5):
            again = open_store()
            etags.append(await again.put_if_match("a", "A", None))
            await again.delete("a")
            await again.close()

        assert len(set(etags)) == 6
        assert None not in etags

    async def test_two_handles_see_each_others_writes(
        self, store: AbstractObjectStore, open_store: OpenStore
    ) -> None:
        other = open_store()
        for number in range(20):
            one, two = (store, other) if number % 2 else (other, store)
            found = await one.get_with_etag("a")
            etag = await one.put_if_match("a", str(number), found[1] if found else None)
            assert await two.get_with_etag("a") == (str(number), etag)
            assert await two.put_if_match("a", "late", found[1] if found else None) is None
            assert await two.list_keys("") == ["a"]
        await other.close()

    async def test_two_processes_lose_no_increment(
        self, store: AbstractObjectStore, open_store: OpenStore
    ) -> None:
        with _process(open_store) as one, _process(open_store) as other:
            one.order(f"increment {_TIMES}")
            other.order(f"increment {_TIMES}")
            assert one.rest() == [f"{_store_process.DONE} 0"]
            assert other.rest() == [f"{_store_process.DONE} 0"]

        assert await store.get_string("counter") == str(2 * 4 * _TIMES)

    async def test_a_killed_process_loses_nothing_it_acknowledged_and_leaves_nothing_half(
        self, store: AbstractObjectStore, open_store: OpenStore
    ) -> None:
        chance = random.Random(7)  # noqa: S311  repeatable
        acknowledged = {f"many/{n}": 0 for n in range(_KEYS)}
        with _process(open_store) as writer:
            for _ in range(self.kill_rounds):
                child = writer.order(f"count {_KEYS}")
                lines = [writer.line() for _ in range(chance.randrange(1, 40))]
                os.kill(child, signal.SIGKILL)
                lines += writer.rest()
                assert lines.pop() == f"{_store_process.DONE} {-signal.SIGKILL}"
                for key, text in (line.split() for line in lines):
                    acknowledged[key] = int(text)

                again = open_store()
                for key, number in acknowledged.items():
                    body = await again.get_string(key)
                    found = _store_process.number_in(body)
                    assert found in (number, number + 1), f"{key}: {number} was acknowledged"
                    acknowledged[key] = found
                assert set(await again.list_keys("")) <= set(acknowledged)
                await again.close()

        for key, number in acknowledged.items():  # and the handle that was open all the time
            assert _store_process.number_in(await store.get_string(key)) == number


class _Process:
    def __init__(self, orders: IO[str], output: IO[str]) -> None:
        self._orders = orders
        self._output = output

    def order(self, text: str) -> int:
        """Have a child do something; its process id."""
        self._orders.write(f"{text}\n")
        self._orders.flush()
        label, child = self.line().split()
        assert label == "child"
        return int(child)

    def line(self) -> str:
        """The next line that was written; waits for it."""
        line = self._output.readline()
        assert line, "the process has ended"
        return line.rstrip("\n")

    def rest(self) -> list[str]:
        """All lines up to the end of the child."""
        lines = [self.line()]
        while not lines[-1].startswith(_store_process.DONE):
            lines.append(self.line())
        return lines


@contextmanager
def _process(open_store: OpenStore) -> Generator[_Process]:
    name = _store_process.__name__
    pickled = base64.b64encode(pickle.dumps(open_store)).decode()
    with subprocess.Popen(  # noqa: S603  this interpreter, a module of this package
        [sys.executable, "-c", f"import {name}; {name}.main()", pickled],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield _Process(process.stdin, process.stdout)
        finally:
            process.stdin.close()
