"""Write a document if it is still the version that the writer saw.

The guarantee is the store's compare-and-swap. `VersionMemory` only saves the read before it: what
it remembers may be stale, and then the swap fails and the store is read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from starfish_protocol.clock import Clock, SystemClock
from starfish_server.documents._change_records import change_record
from starfish_server.documents._document_text import (
    PreparedDocument,
    Snapshot,
    encode_document,
    prepare_document,
)
from starfish_server.documents._errors import ContentionError
from starfish_server.documents._types import AuthorProof, PushConflict, PushSuccess
from starfish_server.storage.adapter import as_object_store
from starfish_server.storage.base import AbstractObjectStore, StoreContext
from starfish_server.storage.errors import PreconditionFailedError
from starfish_server.storage.object_store import ObjectStore, write_once
from starfish_server.storage.values import ABSENT, Match, Value

__all__ = ("DocumentWriter", "VersionMemory", "push")

_MAX_ATTEMPTS = 16


async def push(
    store: AbstractObjectStore,
    key: str,
    data: dict[str, Any],
    base_hash: str | None,
    author: AuthorProof | None = None,
    *,
    context: StoreContext | None = None,
    ttl_ms: int | None = None,
    clock: Clock | None = None,
) -> PushSuccess | PushConflict:
    """Write a document; durable, if the store is, when this returns `PushSuccess`.

    Keys in `UNSAFE_KEYS` are dropped at every depth.

    Args:
        store: where to; one without compare-and-swap is safe among the tasks of this process.
        key: where the document is stored.
        data: the document.
        base_hash: hash of the version it was made from; ``None`` when there must be none.
        author: who vouches for it; stored, not checked.
        context: on whose behalf.
        ttl_ms: age at which a stored version counts as none.
        clock: tells the ``ts`` of the write.

    Raises:
        TypeError: ``data`` holds a value without a JSON form.
        ContentionError: other writers were faster again and again.
        DamagedDocumentError: the stored value is not a document.
        StoreUnavailableError: the store does not answer.

    Examples:
        >>> import asyncio
        >>> from starfish_server.storage.memory import MemoryObjectStore
        >>> store = MemoryObjectStore()
        >>> first = asyncio.run(push(store, "notes/1", {"title": "hi"}, None))
        >>> asyncio.run(push(store, "notes/1", {"title": "ho"}, None)) == PushConflict(first.hash)
        True
    """
    writer = DocumentWriter(as_object_store(store), clock or SystemClock())
    document = prepare_document(data)
    return await writer.write(key, document, base_hash, author, context=context, ttl_ms=ttl_ms)


@dataclass(slots=True)
class VersionMemory:
    """The last known versions of some keys: hash, time and etag; the oldest entries go first."""

    capacity: int = 16_384
    _versions: dict[str, tuple[str, int, str]] = field(
        default_factory=dict[str, tuple[str, int, str]]
    )

    def remember(self, key: str, hash_: str, ts: int, etag: str) -> None:
        """Note what a read or a write showed."""
        versions = self._versions
        versions.pop(key, None)
        versions[key] = (hash_, ts, etag)
        if len(versions) > self.capacity:
            del versions[next(iter(versions))]

    def forget(self, key: str) -> None:
        """Remember nothing of a key."""
        self._versions.pop(key, None)

    def etag_of(self, key: str, hash_: str, oldest_ts: int | None) -> str | None:
        """The etag of a version, if it is the last one known and not older than ``oldest_ts``."""
        found = self._versions.get(key)
        if found is None or found[0] != hash_:
            return None
        return None if oldest_ts is not None and found[1] <= oldest_ts else found[2]


@dataclass(frozen=True, slots=True)
class DocumentWriter:
    """Writes documents to one store, whose conditional writes it relies on."""

    store: ObjectStore
    clock: Clock
    memory: VersionMemory = field(default_factory=VersionMemory)

    async def write(
        self,
        key: str,
        document: PreparedDocument,
        base_hash: str | None,
        author: AuthorProof | None = None,
        *,
        context: StoreContext | None = None,
        ttl_ms: int | None = None,
        check: Callable[[str], None] | None = None,
    ) -> PushSuccess | PushConflict:
        """Write a document over the version with ``base_hash``; as `push` and `rewrite`."""
        ts = self.clock.now_ms()
        etag = None
        if base_hash:
            oldest_ts = None if ttl_ms is None else ts - ttl_ms
            etag = self.memory.etag_of(key, base_hash, oldest_ts)
        if check is None and (etag is not None or not base_hash):
            new_etag = await self._swap(
                key, document, ts, author, etag, context=context, ttl_ms=ttl_ms
            )
            if new_etag is not None:
                self.memory.remember(key, document.hash, ts, new_etag)
                return PushSuccess(document.hash, ts)

        async def compose(_current: Snapshot | None) -> PreparedDocument:
            return document

        written = await self.rewrite(
            key,
            compose,
            base_hash,
            author,
            context=context,
            ttl_ms=ttl_ms,
            check=check,
        )
        return written if isinstance(written, PushConflict) else written[0]

    async def rewrite(
        self,
        key: str,
        compose: Callable[[Snapshot | None], Awaitable[PreparedDocument]],
        base_hash: str | None,
        author: AuthorProof | None = None,
        *,
        context: StoreContext | None = None,
        ttl_ms: int | None = None,
        name_of: Callable[[Snapshot], str] = lambda snapshot: snapshot.hash,
        check: Callable[[str], None] | None = None,
    ) -> tuple[PushSuccess, PreparedDocument] | PushConflict:
        """Write what ``compose`` makes of the stored version, if that has ``base_hash``.

        ``compose`` is called for the very version that is replaced, once an attempt. ``name_of``
        tells how the writer calls a version, which ``base_hash`` is compared with. ``check`` may
        raise when it is given the name of the current version, the empty string for none.
        """
        for _attempt in range(_MAX_ATTEMPTS):
            now = self.clock.now_ms()
            found = await self.store.get(key, context=context)
            etag = None if found is None else found.metadata.etag
            snapshot = None if found is None else Snapshot.parse(key, found.body)
            if snapshot is not None and snapshot.is_expired(now, ttl_ms):
                snapshot = None
            current = "" if snapshot is None else name_of(snapshot)
            if check is not None:
                check(current)
            if current != (base_hash or ""):
                if snapshot is not None and etag is not None:
                    self.memory.remember(key, snapshot.hash, snapshot.ts, etag)
                return PushConflict(current)
            document = await compose(snapshot)
            new_etag = await self._swap(
                key, document, now, author, etag, context=context, ttl_ms=ttl_ms
            )
            if new_etag is not None:
                self.memory.remember(key, document.hash, now, new_etag)
                return PushSuccess(document.hash, now), document
        raise ContentionError(key, _MAX_ATTEMPTS)

    async def _swap(
        self,
        key: str,
        document: PreparedDocument,
        ts: int,
        author: AuthorProof | None,
        etag: str | None,
        *,
        context: StoreContext | None,
        ttl_ms: int | None,
    ) -> str | None:
        value = Value(
            encode_document(document, ts, author),
            hash=document.hash,
            written_at=ts,
            expires_at=None if ttl_ms is None else ts + ttl_ms,
        )
        try:
            written = await write_once(
                self.store,
                key,
                value,
                when=ABSENT if etag is None else Match(etag),
                change=change_record(context, document.hash, ts),
                context=context,
            )
        except PreconditionFailedError:
            return None
        return written.etag
