"""A store that is gone with the process: for tests and demonstrations."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping, Sequence

from typing_extensions import override

from starfish_server.storage.base import AbstractObjectStore, StoreContext
from starfish_server.storage.keys import check_key, check_prefix, prefix_upper_bound
from starfish_server.storage.values import (
    TEXT_CONTENT_TYPE,
    as_bytes,
    as_text,
    check_limit,
    check_text,
)

__all__ = ("MemoryObjectStore",)


class MemoryObjectStore(AbstractObjectStore):
    """Keys and values in a dictionary; shared by the tasks of one event loop, lost at exit.

    Args:
        data: texts to begin with; copied, so that two stores made from one dictionary are apart.

    Examples:
        >>> import asyncio
        >>> store = MemoryObjectStore({"notes/ada": "{}"})
        >>> asyncio.run(store.list_keys("notes/"))
        ['notes/ada']
    """

    def __init__(self, data: Mapping[str, str] | None = None) -> None:
        self._revision = 0
        self._values: dict[str, tuple[str | bytes, str, str]] = {}
        self._sorted_keys: list[str] = []
        for key, body in (data or {}).items():
            self._set(check_key(key), check_text(key, body), None)

    def _set(self, key: str, value: str | bytes, content_type: str | None) -> str:
        self._revision += 1  # never reset, so that no etag comes back
        etag = str(self._revision)
        if key not in self._values:
            insort(self._sorted_keys, key)
        self._values[key] = (value, etag, content_type or TEXT_CONTENT_TYPE)
        return etag

    def _remove(self, key: str) -> None:
        if self._values.pop(key, None) is not None:
            del self._sorted_keys[bisect_left(self._sorted_keys, key)]

    @override
    async def get_string(self, key: str, *, context: StoreContext | None = None) -> str | None:
        found = self._values.get(check_key(key))
        return None if found is None else as_text(key, found[0])

    @override
    async def get_with_etag(
        self, key: str, *, context: StoreContext | None = None
    ) -> tuple[str, str] | None:
        found = self._values.get(check_key(key))
        return None if found is None else (as_text(key, found[0]), found[1])

    @override
    async def get_bytes(
        self, key: str, *, context: StoreContext | None = None
    ) -> tuple[bytes, str] | None:
        found = self._values.get(check_key(key))
        return None if found is None else (as_bytes(found[0]), found[2])

    @override
    async def put(
        self,
        key: str,
        body: str,
        *,
        content_type: str | None = None,
        cache_control: str | None = None,
        context: StoreContext | None = None,
    ) -> None:
        self._set(check_key(key), check_text(key, body), content_type)

    @override
    async def put_bytes(
        self,
        key: str,
        body: bytes,
        *,
        content_type: str,
        cache_control: str | None = None,
        context: StoreContext | None = None,
    ) -> None:
        self._set(check_key(key), bytes(body), content_type)

    @override
    async def put_if_match(
        self,
        key: str,
        body: str,
        expected_etag: str | None,
        *,
        content_type: str | None = None,
        cache_control: str | None = None,
        context: StoreContext | None = None,
    ) -> str | None:
        found = self._values.get(check_key(key))
        check_text(key, body)
        if (None if found is None else found[1]) != expected_etag:
            return None
        return self._set(key, body, content_type)

    @override
    async def list_keys(
        self,
        prefix: str,
        *,
        start_after: str | None = None,
        limit: int | None = None,
        context: StoreContext | None = None,
    ) -> list[str]:
        limit = check_limit(limit)
        keys = self._sorted_keys
        first = bisect_left(keys, check_prefix(prefix))
        if start_after is not None:
            first = max(first, bisect_right(keys, check_prefix(start_after)))
        bound = prefix_upper_bound(prefix)
        end = len(keys) if bound is None else bisect_left(keys, bound)
        return keys[first : end if limit is None else min(end, first + limit)]

    @override
    async def delete(self, key: str, *, context: StoreContext | None = None) -> None:
        self._remove(check_key(key))

    @override
    async def delete_many(
        self, keys: Sequence[str], *, context: StoreContext | None = None
    ) -> None:
        for key in [check_key(key) for key in keys]:
            self._remove(key)
