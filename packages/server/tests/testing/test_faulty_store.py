from __future__ import annotations

import asyncio
from typing import cast

import pytest

from starfish_server.errors import StoreUnavailableError
from starfish_server.storage.base import AbstractObjectStore
from starfish_server.storage.memory import MemoryObjectStore
from starfish_server.testing import FaultyStore, StoreCall, StoreContract


class TestFaultyStoreThatIsAskedForNothing(StoreContract):
    @pytest.fixture
    def store(self) -> AbstractObjectStore:
        return FaultyStore(MemoryObjectStore())


async def test_a_conflict_writes_nothing_and_the_next_write_succeeds() -> None:
    store = FaultyStore(MemoryObjectStore())
    store.conflict(times=2)

    assert await store.put_if_match("a", "1", None) is None
    assert await store.put_if_match("a", "1", None) is None
    assert await store.get_string("a") is None
    assert await store.put_if_match("a", "1", None) is not None
    assert store.calls == {"put_if_match": 3, "get_string": 1}


async def test_a_failure_before_the_write_leaves_nothing() -> None:
    store = FaultyStore(MemoryObjectStore())
    store.fail("put")

    with pytest.raises(StoreUnavailableError):
        await store.put("a", "1")
    assert await store.get_string("a") is None
    await store.put("a", "1")


async def test_a_failure_after_the_write_loses_the_answer_only() -> None:
    store = FaultyStore(MemoryObjectStore())
    store.fail("put_if_match", times=1, error=OSError("gone"), after=True)

    with pytest.raises(OSError, match="gone"):
        await store.put_if_match("a", "1", None)
    assert await store.get_string("a") == "1"


async def test_a_stalled_call_does_nothing_until_it_is_let_go() -> None:
    inner = MemoryObjectStore()
    store = FaultyStore(inner)
    async with store.stalled("put") as arrived:
        writing = asyncio.create_task(store.put("a", "1"))
        await arrived.wait()
        assert await inner.get_string("a") is None
        assert not writing.done()
    await writing

    assert await inner.get_string("a") == "1"


def test_a_call_that_no_store_has_is_refused() -> None:
    with pytest.raises(ValueError, match="'puts' is not a call of a store"):
        FaultyStore(MemoryObjectStore()).fail(cast("StoreCall", "puts"))
