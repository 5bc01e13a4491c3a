from __future__ import annotations

import pytest

from starfish_server.errors import InvalidKeyError
from starfish_server.storage.memory import MemoryObjectStore
from starfish_server.testing import StoreContract


class TestMemoryObjectStore(StoreContract):
    @pytest.fixture
    def store(self) -> MemoryObjectStore:
        return MemoryObjectStore()


async def test_two_stores_from_one_dictionary_are_apart() -> None:
    data = {"a": "1"}
    one, other = MemoryObjectStore(data=data), MemoryObjectStore(data=data)
    await one.put("a", "2")
    await one.put("b", "3")

    assert data == {"a": "1"}
    assert await other.list_keys("") == ["a"]
    assert await other.get_string("a") == "1"


async def test_what_a_store_begins_with_has_etags() -> None:
    store = MemoryObjectStore({"a": "1"})
    found = await store.get_with_etag("a")

    assert found is not None
    assert await store.put_if_match("a", "2", None) is None
    assert await store.put_if_match("a", "2", found[1]) is not None


def test_a_store_begins_with_legal_keys_only() -> None:
    with pytest.raises(InvalidKeyError):
        MemoryObjectStore({"a//b": "1"})
