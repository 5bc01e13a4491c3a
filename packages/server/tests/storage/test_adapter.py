"""Stores of the first contract behind the second, when others write in odd moments."""

from __future__ import annotations

from typing import Any

import pytest

from starfish_server.storage.adapter import as_object_store
from starfish_server.storage.base import AbstractObjectStore
from starfish_server.storage.errors import PreconditionFailedError
from starfish_server.storage.filesystem import FilesystemObjectStore
from starfish_server.storage.values import ANY, Match, Value


class Interrupted(FilesystemObjectStore):
    """Lets another writer in right after one of its calls."""

    after = ""
    other: FilesystemObjectStore

    async def get_with_etag(self, key: str, **more: Any) -> Any:
        found = await super().get_with_etag(key, **more)
        await self._interrupt("get_with_etag", key)
        return found

    async def put(self, key: str, body: str, **more: Any) -> None:
        await super().put(key, body, **more)
        await self._interrupt("put", key)

    async def _interrupt(self, call: str, key: str) -> None:
        if self.after == call:
            self.after = ""
            await self.other.put(key, "of another")


@pytest.fixture
async def store(tmp_path: Any) -> Any:
    store = Interrupted(tmp_path)
    store.other = FilesystemObjectStore(tmp_path)
    yield store
    await store.close()
    await store.other.close()


async def test_a_text_that_appears_while_it_is_read_has_its_etag(store: Any) -> None:
    adapted = as_object_store(store)
    store.after = "get_with_etag"
    found = await adapted.get("a")

    assert found is not None
    written = await adapted.write("a", Value(b"mine"), when=Match(found.metadata.etag))
    assert written.etag


async def test_a_write_never_gets_the_etag_of_the_write_that_followed_it(store: Any) -> None:
    adapted = as_object_store(store)
    store.after = "put"
    written = await adapted.write("a", Value(b"mine"), when=ANY)

    with pytest.raises(PreconditionFailedError):
        await adapted.write("a", Value(b"again"), when=Match(written.etag))
    found = await adapted.get("a")
    assert found is not None
    assert found.body == b"of another"


class BytesApart(AbstractObjectStore):
    """Keeps texts and bytes apart, as stores of others may."""

    async def get_string(self, key: str, **_more: Any) -> str | None:
        return None

    async def get_with_etag(self, key: str, **_more: Any) -> Any:
        return None

    async def get_bytes(self, key: str, **_more: Any) -> Any:
        return b"bytes that are a text", "a/b"

    async def put_if_match(self, key: str, *_a: Any, **_more: Any) -> str | None:
        return None

    async def put(self, key: str, body: str, **_more: Any) -> None: ...

    async def list_keys(self, prefix: str, **_more: Any) -> list[str]:
        return []

    async def delete(self, key: str, **_more: Any) -> None: ...

    async def delete_many(self, keys: Any, **_more: Any) -> None: ...


async def test_bytes_that_are_kept_apart_are_found() -> None:
    found = await as_object_store(BytesApart()).get("a")
    assert found is not None
    assert found.body == b"bytes that are a text"
