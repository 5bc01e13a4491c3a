"""Stores of the first contract behind the second.

Two kinds come here: a store that implements `AbstractObjectStore` itself, and a subclass of a
store of this package that overrides calls of the first contract and expects them to be used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from typing_extensions import override

from starfish_server.errors import StoreError
from starfish_server.storage._carried_value import carried_value
from starfish_server.storage.base import AbstractObjectStore, StoreContext, has_compare_and_swap
from starfish_server.storage.changes import ChangeLog, ChangeRecord, DocumentVersion
from starfish_server.storage.errors import NotSupportedError, PreconditionFailedError
from starfish_server.storage.in_process_cas import with_compare_and_swap
from starfish_server.storage.keys import check_key
from starfish_server.storage.object_store import Entry, ObjectStore
from starfish_server.storage.values import (
    ABSENT,
    ANY,
    TEXT_CONTENT_TYPE,
    Match,
    Metadata,
    Precondition,
    Removed,
    Stored,
    StoreLimits,
    Value,
    Written,
    as_text,
)

__all__ = ("OldContractStore", "as_object_store")

_READS = ("get_string", "get_with_etag", "get_bytes")
_WRITES = ("put", "put_bytes", "put_if_match")
_DELETES = ("delete", "delete_many")
_LISTINGS = ("list_keys",)

_UNKNOWN = Metadata(
    etag="",
    size=0,
    content_type=TEXT_CONTENT_TYPE,
    hash=None,
    written_at=0,
    expires_at=None,
    write_id=0,
    generation=0,
)
"""What the first contract tells about a value in a listing."""


def as_object_store(store: AbstractObjectStore) -> ObjectStore:
    """Return a store of the second contract: the store itself where it is one.

    A store of the first contract, or one that overrides calls of the first contract, gets an
    `OldContractStore` around it.

    Examples:
        >>> from starfish_server.storage.memory import MemoryObjectStore
        >>> store = MemoryObjectStore()
        >>> as_object_store(store) is store
        True
    """
    if isinstance(store, ObjectStore) and not _overrides(
        store, (*_READS, *_WRITES, *_DELETES, *_LISTINGS)
    ):
        return store
    return OldContractStore(store)


class OldContractStore(ObjectStore):
    """A store of the first contract as one of the second.

    What the first contract lacks stays lacking: no write numbers, so a refusal is believed; no
    conditional writes of bytes and no conditional deletes (`NotSupportedError`); no metadata in
    listings, where ``etag`` is empty and ``written_at`` 0. Without a compare-and-swap writes are
    safe within this process only; a warning says so once.

    Args:
        store: implements `AbstractObjectStore`.
    """

    def __init__(self, store: AbstractObjectStore) -> None:
        self._store = with_compare_and_swap(store)
        self._new = store if isinstance(store, ObjectStore) else None
        self._is_shared = has_compare_and_swap(store) and (self._new is None or self._new.is_shared)

    @property
    @override
    def is_shared(self) -> bool:
        """Whether the store compares and swaps by itself, for all processes."""
        return self._is_shared

    @property
    def removes_versions(self) -> bool:
        """Whether a delete can be bound to a version; the first contract has no such call."""
        return self._new is not None and not _overrides(self._new, _DELETES)

    @property
    @override
    def changes(self) -> ChangeLog | None:
        return self._store.changes

    @property
    @override
    def limits(self) -> StoreLimits:
        return StoreLimits() if self._new is None else self._new.limits

    @override
    async def get(self, key: str, *, context: StoreContext | None = None) -> Stored | None:
        if self._new is not None and not _overrides(self._new, _READS):
            return await self._new.get(key, context=context)
        found = await self._get_text(check_key(key), context)
        if found is not None:
            return found
        found = await self._get_bytes(key, context)
        if found is None or not _is_text(found.body):
            return found
        # A text that came in between has an etag; a store may also keep bytes apart.
        return await self._get_text(key, context) or found

    async def _get_text(self, key: str, context: StoreContext | None) -> Stored | None:
        try:
            found = await self._store.get_with_etag(key, context=context)
        except (StoreError, UnicodeDecodeError) as error:
            if isinstance(error, StoreError) and type(error) is not StoreError:
                raise
            return None  # the bytes are not a text
        if found is None:
            return None
        body = found[0].encode("utf-8", "surrogatepass")
        known = None if self._new is None else await self._new.stat(key, context=context)
        if known is not None and known.etag == found[1]:
            return Stored(body, replace(known, size=len(body)))
        return Stored(body, replace(_UNKNOWN, etag=found[1], size=len(body)))

    async def _get_bytes(self, key: str, context: StoreContext | None) -> Stored | None:
        try:
            found = await self._store.get_bytes(key, context=context)
        except NotImplementedError:
            return None
        if found is None:
            return None
        body, content_type = found
        digest = hashlib.sha256(body).hexdigest()
        known = replace(_UNKNOWN, etag=digest, size=len(body), content_type=content_type)
        return Stored(body, replace(known, hash=digest))

    @override
    async def stat(self, key: str, *, context: StoreContext | None = None) -> Metadata | None:
        if self._new is not None and not _overrides(self._new, _READS):
            return await self._new.stat(key, context=context)
        return await super().stat(key, context=context)

    @override
    async def read_range(
        self, key: str, first: int, last: int | None, *, context: StoreContext | None = None
    ) -> Stored | None:
        if self._new is not None and not _overrides(self._new, _READS):
            return await self._new.read_range(key, first, last, context=context)
        return await super().read_range(key, first, last, context=context)

    @override
    async def scan(
        self,
        prefix: str,
        *,
        after: str | None = None,
        limit: int | None = None,
        context: StoreContext | None = None,
    ) -> Sequence[Entry]:
        if self._new is not None and not _overrides(self._new, _LISTINGS):
            return await self._new.scan(prefix, after=after, limit=limit, context=context)
        keys = await self._store.list_keys(prefix, start_after=after, limit=limit, context=context)
        return [Entry(key, _UNKNOWN) for key in keys]

    @override
    async def write(
        self,
        key: str,
        value: Value,
        *,
        when: Precondition = ANY,
        change: ChangeRecord | None = None,
        context: StoreContext | None = None,
    ) -> Written:
        check_key(key)
        if self._new is not None and not _overrides(self._new, _WRITES):
            return await self._new.write(key, value, when=when, change=change, context=context)
        token = carried_value.set(value)
        try:
            etag = await self._write(key, value, when, _context(change, context))
        finally:
            carried_value.reset(token)
        known = await self._known(key, context)
        if etag is None:
            # A store that repeats a request by itself is refused by its own first try.
            if known is None or known.write_id != value.write_id:
                raise PreconditionFailedError(key, known or await self.stat(key, context=context))
            etag = known.etag
        if known is None or known.write_id != value.write_id:
            return Written(etag, 0)
        return Written(etag, known.generation)

    async def _known(self, key: str, context: StoreContext | None) -> Metadata | None:
        return None if self._new is None else await self._new.stat(key, context=context)

    async def _write(
        self, key: str, value: Value, when: Precondition, context: StoreContext | None
    ) -> str | None:
        kind, store = value.content_type, self._store
        if when is ANY and kind != TEXT_CONTENT_TYPE:
            await store.put_bytes(key, value.body, content_type=kind, context=context)
            return hashlib.sha256(value.body).hexdigest()
        try:
            text = as_text(key, value.body)
        except StoreError:
            raise NotSupportedError(
                type(self._store).__name__, "conditional writes of bytes"
            ) from None
        if isinstance(when, Match) or when is ABSENT:
            expected = when.etag if isinstance(when, Match) else None
            return await store.put_if_match(key, text, expected, content_type=kind, context=context)
        await store.put(key, text, content_type=kind, context=context)
        found = await store.get_with_etag(key, context=context)
        # Another writer may have come in between; its etag is not that of this write.
        return "" if found is None or found[0] != text else found[1]

    @override
    async def remove(
        self,
        key: str,
        *,
        when: Precondition = ANY,
        change: ChangeRecord | None = None,
        context: StoreContext | None = None,
    ) -> Removed:
        check_key(key)
        if self._new is not None and not _overrides(self._new, _DELETES):
            return await self._new.remove(key, when=when, change=change, context=context)
        if when is not ANY:
            raise NotSupportedError(type(self._store).__name__, "conditional deletes")
        existed = await self.get(key, context=context) is not None
        await self._store.delete(key, context=context)
        return Removed(existed)

    @override
    async def ping(self) -> None:
        if self._new is not None:
            await self._new.ping()
        else:
            await self._store.list_keys("", limit=1)

    @override
    async def expire(self, now: int, *, limit: int = 1000) -> int:
        return 0 if self._new is None else await self._new.expire(now, limit=limit)

    @override
    async def close(self) -> None:
        await self._store.close()


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _overrides(store: ObjectStore, names: Sequence[str]) -> bool:
    cls = type(store)
    return any(getattr(cls, name) is not getattr(ObjectStore, name) for name in names)


def _context(change: ChangeRecord | None, context: StoreContext | None) -> StoreContext | None:
    if change is None:
        return context
    if context is None:
        context = StoreContext(
            change.collection, change.params, change.identity, (), "push", change.namespace
        )
    return context.writing(DocumentVersion(change.hash, change.timestamp))
