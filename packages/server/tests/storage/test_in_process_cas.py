from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Sequence

import pytest

from starfish_server.storage.base import AbstractObjectStore, StoreContext, has_compare_and_swap
from starfish_server.storage.in_process_cas import InProcessCompareAndSwap, with_compare_and_swap
from starfish_server.storage.memory import MemoryObjectStore
from starfish_server.testing import StoreContract


class PlainStore(AbstractObjectStore):
    """A foreign store: plain calls and bytes, each of which gives other tasks a turn."""

    def __init__(self) -> None:
        self._inner = MemoryObjectStore()
        self.puts = 0
        self.closed = False

    async def get_string(self, key: str, *, context: StoreContext | None = None) -> str | None:
        await asyncio.sleep(0)
        return await self._inner.get_string(key)

    async def put(
        self,
        key: str,
        body: str,
        *,
        content_type: str | None = None,
        cache_control: str | None = None,
        context: StoreContext | None = None,
    ) -> None:
        await asyncio.sleep(0)
        self.puts += 1
        await self._inner.put(key, body, content_type=content_type)

    async def list_keys(
        self,
        prefix: str,
        *,
        start_after: str | None = None,
        limit: int | None = None,
        context: StoreContext | None = None,
    ) -> list[str]:
        return await self._inner.list_keys(prefix, start_after=start_after, limit=limit)

    async def delete(self, key: str, *, context: StoreContext | None = None) -> None:
        await asyncio.sleep(0)
        await self._inner.delete(key)

    async def delete_many(
        self, keys: Sequence[str], *, context: StoreContext | None = None
    ) -> None:
        await self._inner.delete_many(keys)

    async def get_bytes(
        self, key: str, *, context: StoreContext | None = None
    ) -> tuple[bytes, str] | None:
        return await self._inner.get_bytes(key)

    async def put_bytes(
        self,
        key: str,
        body: bytes,
        *,
        content_type: str,
        cache_control: str | None = None,
        context: StoreContext | None = None,
    ) -> None:
        await self._inner.put_bytes(key, body, content_type=content_type)

    async def close(self) -> None:
        self.closed = True


class TestInProcessCompareAndSwap(StoreContract):
    @pytest.fixture
    def store(self) -> AbstractObjectStore:
        return with_compare_and_swap(PlainStore())


class TestInProcessCompareAndSwapThatForgets(StoreContract):
    @pytest.fixture
    def store(self) -> AbstractObjectStore:
        return InProcessCompareAndSwap(PlainStore(), max_remembered=1)


def test_a_store_with_compare_and_swap_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryObjectStore()

    assert with_compare_and_swap(store) is store
    assert not caplog.records


def test_a_foreign_store_is_wrapped_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    plain = PlainStore()
    store = with_compare_and_swap(plain)

    assert has_compare_and_swap(store)
    assert with_compare_and_swap(store) is store
    assert with_compare_and_swap(plain) is store
    (record,) = caplog.records
    assert "PlainStore has no compare-and-swap" in record.getMessage()


async def test_what_is_forgotten_makes_etags_stale_and_never_valid_again() -> None:
    store = InProcessCompareAndSwap(PlainStore(), max_remembered=2)
    seen = {await store.put_if_match("a", "A", None)}
    await store.put("a", "B")
    await store.put("a", "A")
    for number in range(5):  # so that "a" is forgotten
        await store.put(f"k{number}", "x")
        found = await store.get_with_etag("a")
        assert found is not None
        assert found[1] not in seen
        await store.put_if_match("a", "B", found[1])
        await store.put("a", "A")
        seen.add(found[1])

    for etag in seen:
        assert await store.put_if_match("a", "late", etag) is None


async def test_memory_is_bounded_whatever_is_written() -> None:
    store = InProcessCompareAndSwap(PlainStore(), max_remembered=10)
    for number in range(200):
        await store.put(f"k{number}", "x")
    await asyncio.sleep(0)

    assert len(store._revisions) == 10
    assert len(store._locks) <= 1


async def test_a_cancelled_caller_leaves_the_key_locked_until_the_write_is_done() -> None:
    plain = PlainStore()
    store = with_compare_and_swap(plain)
    writing = asyncio.create_task(store.put("a", "first"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    writing.cancel()
    second = await store.put_if_match("a", "second", None)

    assert plain.puts == 1
    assert second is None
    assert await store.get_string("a") == "first"


def test_a_store_and_what_is_around_it_are_collected_together() -> None:
    plain = PlainStore()
    with_compare_and_swap(plain)
    gone = weakref.ref(plain)
    del plain
    gc.collect()

    assert gone() is None


async def test_another_process_that_changed_the_value_is_noticed() -> None:
    plain = PlainStore()
    store = with_compare_and_swap(plain)
    etag = await store.put_if_match("a", "1", None)
    await plain.put("a", "2")

    assert await store.put_if_match("a", "3", etag) is None


async def test_closing_closes_the_store_within() -> None:
    plain = PlainStore()
    await with_compare_and_swap(plain).close()

    assert plain.closed
