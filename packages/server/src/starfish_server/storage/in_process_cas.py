"""Compare-and-swap for a store that has none, within one process.

Rule 1: an etag names the last write that this process made to the key, and the content, so
neither A to B to A nor delete and create brings it back. Rule 2: the memory is bounded;
forgetting makes an etag stale too early, never valid too long.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import uuid
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from typing_extensions import override

from starfish_server.storage.base import (
    AbstractObjectStore,
    StoreContext,
    has_compare_and_swap,
)
from starfish_server.storage.keys import check_key

__all__ = ("InProcessCompareAndSwap", "with_compare_and_swap")

T = TypeVar("T")

_logger = logging.getLogger(__name__)

_MAX_REMEMBERED = 65_536
"""Keys whose last write is known; some megabytes, and far more than are in conflict at a time."""

_ATTRIBUTE = "_starfish_in_process_compare_and_swap"


def with_compare_and_swap(store: AbstractObjectStore) -> AbstractObjectStore:
    """The store itself when it compares and swaps; else one around it that does, in this process.

    The same store gets the same one again, so that all its callers exclude each other. The first
    time a warning is logged: two processes on one such storage overwrite each other's writes.

    Examples:
        >>> from starfish_server.storage.memory import MemoryObjectStore
        >>> store = MemoryObjectStore()
        >>> with_compare_and_swap(store) is store
        True
    """
    if has_compare_and_swap(store):
        return store
    # Kept by the store itself: both go together, and no table of stores has to be swept.
    wrapper: InProcessCompareAndSwap | None = vars(store).get(_ATTRIBUTE)
    if wrapper is not None:
        return wrapper
    _logger.warning(
        "%s has no compare-and-swap: writes are safe within this process only, "
        "run one process on its storage",
        type(store).__name__,
    )
    wrapper = InProcessCompareAndSwap(store)
    vars(store)[_ATTRIBUTE] = wrapper
    return wrapper


class InProcessCompareAndSwap(AbstractObjectStore):
    """A store with plain calls, made safe for the tasks of one event loop.

    All writes must come through this object. A write that was begun is finished even when its
    caller is cancelled, before another write to the key begins.

    Args:
        store: implements the plain calls; the bytes pair is passed on when it has that.
        max_remembered: keys whose last write is known.
    """

    def __init__(
        self, store: AbstractObjectStore, *, max_remembered: int = _MAX_REMEMBERED
    ) -> None:
        self._store = store
        self._max_remembered = max_remembered
        self._instance = uuid.uuid4().hex  # the numbers below begin anew in each process
        self._revision = 0
        self._forgotten = 0
        self._revisions: dict[str, int] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def _etag(self, key: str, text: str) -> str:
        # A key that is not remembered was last written at or before the newest forgotten one.
        revision = self._revisions.get(key, self._forgotten)
        content = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
        return f"{self._instance}-{revision}-{content}"

    def _remember(self, key: str) -> None:
        self._revision += 1
        self._revisions.pop(key, None)
        self._revisions[key] = self._revision
        while len(self._revisions) > self._max_remembered:
            oldest = next(iter(self._revisions))  # the order of writes is the order of revisions
            self._forgotten = self._revisions.pop(oldest)

    async def _write(self, key: str, step: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a step with the key to itself, to its end."""

        async def locked() -> T:
            async with lock:
                return await step()

        lock = self._locks.setdefault(check_key(key), asyncio.Lock())
        return await asyncio.shield(asyncio.ensure_future(locked()))

    @override
    async def get_string(self, key: str, *, context: StoreContext | None = None) -> str | None:
        return await self._store.get_string(key, context=context)

    @override
    async def get_with_etag(
        self, key: str, *, context: StoreContext | None = None
    ) -> tuple[str, str] | None:
        async def step() -> tuple[str, str] | None:
            text = await self._store.get_string(key, context=context)
            return None if text is None else (text, self._etag(key, text))

        return await self._write(key, step)  # or the etag could be of a later write

    @override
    async def get_bytes(
        self, key: str, *, context: StoreContext | None = None
    ) -> tuple[bytes, str] | None:
        return await self._store.get_bytes(key, context=context)

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
        async def step() -> None:
            self._remember(key)  # first: a write that fails may have happened
            await self._store.put(
                key, body, content_type=content_type, cache_control=cache_control, context=context
            )

        await self._write(key, step)

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
        async def step() -> None:
            self._remember(key)
            await self._store.put_bytes(
                key, body, content_type=content_type, cache_control=cache_control, context=context
            )

        await self._write(key, step)

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
        async def step() -> str | None:
            text = await self._store.get_string(key, context=context)
            if (None if text is None else self._etag(key, text)) != expected_etag:
                return None
            self._remember(key)
            etag = self._etag(key, body)
            await self._store.put(
                key, body, content_type=content_type, cache_control=cache_control, context=context
            )
            return etag

        return await self._write(key, step)

    @override
    async def list_keys(
        self,
        prefix: str,
        *,
        start_after: str | None = None,
        limit: int | None = None,
        context: StoreContext | None = None,
    ) -> list[str]:
        return await self._store.list_keys(
            prefix, start_after=start_after, limit=limit, context=context
        )

    @override
    async def delete(self, key: str, *, context: StoreContext | None = None) -> None:
        async def step() -> None:
            self._remember(key)
            await self._store.delete(key, context=context)

        await self._write(key, step)

    @override
    async def delete_many(
        self, keys: Sequence[str], *, context: StoreContext | None = None
    ) -> None:
        for key in [check_key(key) for key in keys]:
            await self.delete(key, context=context)

    @override
    async def close(self) -> None:
        await self._store.close()
