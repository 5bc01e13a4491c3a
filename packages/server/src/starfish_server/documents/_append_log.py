"""Documents that only grow, in segments.

The head document, compare-and-swapped, holds the newest elements. When it has a chunk's worth of
them, the next append first stores them as an immutable chunk, create-only, and then swaps in a
head that begins anew. A crash between the two steps leaves a chunk that no head counts; the next
append stores the same chunk again and finds it there. So the cost of an append is bounded by the
size of a chunk, however many elements there are.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from starfish_protocol.clock import Clock
from starfish_server.documents._append_text import Chunk, Head, chunk_key, encode_chunk
from starfish_server.documents._beside_the_loop import beside_the_loop
from starfish_server.documents._change_records import change_record
from starfish_server.documents._document_text import (
    PreparedDocument,
    author_fields,
    prepare_document,
)
from starfish_server.documents._errors import (
    AppendLimitExceededError,
    ContentionError,
    DamagedDocumentError,
    NonMonotonicTimestampError,
    TimestampTooFarAheadError,
)
from starfish_server.documents._types import AuthorProof, PushSuccess
from starfish_server.storage.adapter import as_object_store
from starfish_server.storage.base import AbstractObjectStore, StoreContext
from starfish_server.storage.errors import PreconditionFailedError
from starfish_server.storage.keys import check_key
from starfish_server.storage.object_store import ObjectStore, write_once
from starfish_server.storage.values import ABSENT, Match, Stored, Value

__all__ = (
    "DEFAULT_CHUNK_SIZE",
    "MAX_AHEAD_MS",
    "AppendLog",
    "AppendPage",
    "PullBounds",
    "element_hash",
)

DEFAULT_CHUNK_SIZE = 64
"""Elements of a chunk, unless the collection says otherwise; see benchmarks/bench_append.py."""
MAX_AHEAD_MS = 5 * 60 * 1000
"""How far in the future a client's own ``ts`` may be."""

_MAX_TAIL_CHARACTERS = 262_144  # large elements fill a chunk sooner
_MAX_ATTEMPTS = 100


@dataclass(frozen=True, slots=True)
class PullBounds:
    """Which elements a pull wants; with neither bound, all of them."""

    checkpoint: int | None = None
    """Only elements with a larger ``ts``."""
    last: int | None = None
    """Of those, only so many of the newest."""
    at_most: int | None = None
    """Of those, only so many of the oldest."""


@dataclass(frozen=True, slots=True)
class AppendPage:
    """What a pull found."""

    elements: list[dict[str, Any]]
    """Each with ``ts``, ``data`` and perhaps an author, in order of ``ts``."""
    hash: str
    """Of the whole document; empty when nothing was ever appended."""
    size: int = 0
    """Characters of the stored texts that were read for it."""


class AppendLog:
    """Append-only documents in a store with compare-and-swap."""

    def __init__(self, store: AbstractObjectStore, clock: Clock) -> None:
        self._store = as_object_store(store)
        self._clock = clock
        self._turns = _Turns()

    async def append(
        self,
        key: str,
        data: Any,
        ts: int | None = None,
        author: AuthorProof | None = None,
        *,
        chunk_size: int | None = None,
        max_items: int | None = None,
        ttl_ms: int | None = None,
        context: StoreContext | None = None,
    ) -> PushSuccess:
        """Add an element at the end; durable, if the store is, when this returns.

        Args:
            key: where the document is stored.
            data: what to append.
            ts: the element's own time; without it the server's clock, or one millisecond after
                the latest element where the clock is not past that.
            author: who vouches for it; stored, not checked.
            chunk_size: elements of a chunk that is sealed from now on.
            max_items: most elements of the document.
            ttl_ms: age of the latest element at which the document counts as empty.
            context: on whose behalf.

        Raises:
            AppendRefusedError: ``ts`` is not after the latest, or too far ahead; no more room.
            ContentionError: other processes were faster again and again.
            DamagedDocumentError: the stored value is not an append-only document.
            InvalidKeyError: the key is too long for the keys of its chunks.
            StoreUnavailableError: the store does not answer.
        """
        return await self.append_prepared(
            key,
            prepare_document(data),
            ts,
            author,
            chunk_size=chunk_size,
            max_items=max_items,
            ttl_ms=ttl_ms,
            context=context,
        )

    async def append_prepared(
        self,
        key: str,
        element: PreparedDocument,
        ts: int | None,
        author: AuthorProof | None,
        *,
        chunk_size: int | None,
        max_items: int | None,
        ttl_ms: int | None,
        context: StoreContext | None,
        check: Callable[[str], None] | None = None,
    ) -> PushSuccess:
        """`append` of data that is encoded already; nothing here takes time for a large one."""
        # One at a time within this process: they would only fail each other's swaps.
        async with self._turns.turn(key):
            for _attempt in range(_MAX_ATTEMPTS):
                found = await self._store.get(key, context=context)
                stored = None if found is None else Head.parse(key, found.body)
                now = self._clock.now_ms()
                current = None if stored is None or _is_expired(stored, now, ttl_ms) else stored
                if check is not None:
                    check("" if current is None else current.hash)
                if current is None:
                    check_key(chunk_key(key, "0" * 16, 0))
                count = 1 if current is None else current.count + 1
                if max_items is not None and count > max_items:
                    raise AppendLimitExceededError(max_items)
                new = _Element(_element_ts(current, ts, now), element, author)
                if current is not None and _is_full(current, chunk_size or DEFAULT_CHUNK_SIZE):
                    head = new.after(await self._sealed(key, current, context))
                else:
                    head = new.after(current)
                if not await self._swap(key, head, found, context):
                    continue
                if stored is not None and current is None and stored.chunks:
                    await self._forget_chunks(key, stored, context)
                return PushSuccess(head.hash, head.ts)
        raise ContentionError(key, _MAX_ATTEMPTS)

    async def _swap(
        self,
        key: str,
        head: Head,
        found: Stored | None,
        context: StoreContext | None,
    ) -> bool:
        # It does not expire in the store, which would not know of the chunks.
        value = Value(head.encode(), hash=head.hash, written_at=head.ts)
        try:
            await write_once(
                self._store,
                key,
                value,
                when=ABSENT if found is None else Match(found.metadata.etag),
                change=change_record(context, head.hash, head.ts),
                context=context,
            )
        except PreconditionFailedError:
            return False
        return True

    async def read(
        self,
        key: str,
        bounds: PullBounds,
        *,
        ttl_ms: int | None = None,
        context: StoreContext | None = None,
    ) -> AppendPage:
        """Read elements; only the chunks that hold them are fetched, and few to find the first.

        Raises:
            DamagedDocumentError: the stored value is not an append-only document.
            StoreUnavailableError: the store does not answer.
        """
        previous = None
        while True:
            found = await self._store.get(key, context=context)
            head = None if found is None else Head.parse(key, found.body)
            if head is None or _is_expired(head, self._clock.now_ms(), ttl_ms):
                return AppendPage([], "")
            reader = _Reader(self._store, key, head, context)
            try:
                elements = await reader.select(bounds)
                return AppendPage(elements, head.hash, reader.size)
            except DamagedDocumentError:
                # A document that expired and began again took its chunks along.
                if previous is not None and previous.log == head.log:
                    raise
                previous = head

    async def _sealed(self, key: str, head: Head, context: StoreContext | None) -> Head:
        """Store the tail as a chunk, and say what the head is when it counts it."""
        chunk = chunk_key(key, head.log, head.chunks)
        text = encode_chunk(head)
        try:
            await write_once(self._store, chunk, Value(text), when=ABSENT, context=context)
        except PreconditionFailedError:
            there = await self._store.get(chunk, context=context)
            # Left by a crash between the two steps, perhaps when chunks were to be smaller.
            if there is None or not (text[:-1] + b",").startswith(there.body[:-1] + b","):
                raise DamagedDocumentError(
                    chunk, "it belongs to another state of the document"
                ) from None
            return head.sealed_by(chunk, there.body)
        return head.sealed_by(chunk, text)

    async def _forget_chunks(self, key: str, head: Head, context: StoreContext | None) -> None:
        keys = [chunk_key(key, head.log, index) for index in range(head.chunks)]
        await self._store.delete_many(keys, context=context)


class _Reader:
    """Elements of one version of a document."""

    def __init__(
        self, store: ObjectStore, key: str, head: Head, context: StoreContext | None
    ) -> None:
        self._store = store
        self._key = key
        self._head = head
        self._context = context
        self._chunks: dict[int, Chunk] = {}
        self.size = 0

    async def select(self, bounds: PullBounds) -> list[dict[str, Any]]:
        after = -1 if bounds.checkpoint is None else bounds.checkpoint
        if after >= self._head.ts or bounds.last == 0:
            return []
        if bounds.last is not None:
            elements = await self._newest(after, bounds.last)
        else:
            elements = await self._from(await self._first_chunk(after), after, bounds.at_most)
        return elements if bounds.at_most is None else elements[: bounds.at_most]

    async def _newest(self, after: int, count: int) -> list[dict[str, Any]]:
        elements = await self._tail()
        index = self._head.chunks
        while index > 0 and len(elements) < count and elements[0]["ts"] > after + 1:
            index -= 1
            elements = [*(await self._chunk(index)).elements, *elements]
        return [each for each in elements[-count:] if each["ts"] > after]

    async def _from(self, index: int, after: int, at_most: int | None) -> list[dict[str, Any]]:
        elements: list[dict[str, Any]] = []
        for each in range(index, self._head.chunks):
            elements += [e for e in (await self._chunk(each)).elements if e["ts"] > after]
            self._chunks.clear()
            if at_most is not None and len(elements) >= at_most:
                return elements
        elements += [e for e in await self._tail() if e["ts"] > after]
        return elements

    async def _first_chunk(self, after: int) -> int:
        """The chunk with the first element after a time; the number of chunks for the tail."""
        if after >= self._head.sealed_ts:
            return self._head.chunks
        if after < 0:
            return 0
        # Clients that follow a document ask for recent elements, so look from the end in growing
        # steps, then halve. Invariant: the chunk at `low` begins at or before `after`, or is 0.
        high, step = self._head.chunks, 1
        low = max(high - step, 0)
        while low > 0 and (await self._chunk(low)).first_ts > after:
            high, step = low, step * 2
            low = max(low - step, 0)
        while high - low > 1:
            middle = (low + high) // 2
            if (await self._chunk(middle)).first_ts > after:
                high = middle
            else:
                low = middle
        return low

    async def _tail(self) -> list[dict[str, Any]]:
        self.size += len(self._head.tail)
        return await beside_the_loop(len(self._head.tail), self._head.elements, self._key)

    async def _chunk(self, index: int) -> Chunk:
        if index not in self._chunks:
            key = chunk_key(self._key, self._head.log, index)
            found = await self._store.get(key, context=self._context)
            if found is None:
                raise DamagedDocumentError(key, "a chunk is missing")
            size = len(found.body)
            self.size += size
            self._chunks[index] = await beside_the_loop(size, Chunk.parse, key, found.body)
        return self._chunks[index]


class _Turns:
    """Locks by key, kept only while somebody holds or wants them."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncGenerator[None]:
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            users = self._locks[key][1] - 1
            if users:
                self._locks[key] = (lock, users)
            else:
                del self._locks[key]


def element_hash(element: PreparedDocument, count: int) -> str:
    """The hash of a document with so many elements of which this is the last.

    It is ``compute_hash({"n": count, "last": data})``.
    """
    digest = hashlib.sha256(b'{"last":')
    digest.update(element.canonical)
    digest.update(b',"n":%d}' % count)
    return digest.hexdigest()


def _is_expired(head: Head, now: int, ttl_ms: int | None) -> bool:
    return ttl_ms is not None and head.ts + ttl_ms <= now


def _is_full(head: Head, chunk_size: int) -> bool:
    return head.tail_count >= chunk_size or len(head.tail) >= _MAX_TAIL_CHARACTERS


def _element_ts(head: Head | None, ts: int | None, now: int) -> int:
    if ts is None:
        return now if head is None else max(now, head.ts + 1)
    if ts > now + MAX_AHEAD_MS:
        raise TimestampTooFarAheadError(ts, now + MAX_AHEAD_MS)
    if head is not None and ts <= head.ts:
        raise NonMonotonicTimestampError(ts, head.ts)
    return ts


@dataclass(frozen=True, slots=True)
class _Element:
    ts: int
    data: PreparedDocument
    author: AuthorProof | None

    def after(self, head: Head | None) -> Head:
        """The head with this element at its end."""
        text = b'{"ts":%d,"data":%b%b}' % (
            self.ts,
            self.data.json,
            author_fields(self.author),
        )
        count = 1 if head is None else head.count + 1
        digest = element_hash(self.data, count)
        if head is None:
            return Head(secrets.token_hex(8), 1, self.ts, digest, 0, 0, 0, text)
        tail = b"%b,%b" % (head.tail, text) if head.tail else text
        return replace(head, count=count, ts=self.ts, hash=digest, tail=tail)
