"""Documents in an object storage: S3, GCS, Azure; needs the extra ``objects``.

An object holds one value with a header. A write is a conditional request of the storage, so it
costs a read of the header and that request.
Rule 1: the header holds the number of the write, which makes every version's bytes its own. Rule 2:
a delete leaves an object that says so, as storages cannot delete on a condition.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from typing_extensions import override

from starfish_protocol.clock import Clock, SystemClock
from starfish_server.errors import StoreUnavailableError
from starfish_server.storage._checks import check_range, check_size
from starfish_server.storage._conditions import check_condition
from starfish_server.storage._objects._bucket import (
    BaseError,
    Bucket,
    ConflictError,
    from_url,
)
from starfish_server.storage._objects._envelope import Envelope, Head, packed, unpacked
from starfish_server.storage._objects._names import MAX_NAME, bound_of, name_of
from starfish_server.storage.base import StoreContext
from starfish_server.storage.changes import ChangeRecord
from starfish_server.storage.errors import (
    OutcomeUnknownError,
    PreconditionFailedError,
    ValueTooLargeError,
)
from starfish_server.storage.keys import check_key, check_prefix, prefix_upper_bound
from starfish_server.storage.object_store import Entry, ObjectStore
from starfish_server.storage.values import (
    ANY,
    Metadata,
    Precondition,
    Removed,
    Stored,
    Value,
    Written,
    check_limit,
    new_write_id,
)

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Storage

__all__ = ("ObjectStoreAdapter",)

T = TypeVar("T")

_VALUES, _BLOBS, _EXPIRY = "values", "blobs", "expiry"
_BLOB_BYTES = 2**20
"""A longer body is an object of its own, which is uploaded and read in parts."""
_HEAD_BYTES = 4096
"""Bytes that are read for the header; a header is longer only with a very long key."""
_AT_ONCE = 16
"""Requests of one listing or one call for several values that are under way together."""
_TRIES = 200
_SWEEP_EVERY_S = 3600.0
"""How often bodies that no value names are looked for, which lists all bodies."""
_ABANDONED = timedelta(days=1)
"""After this time a body that no value names is taken for one whose writer has ended."""


class ObjectStoreAdapter(ObjectStore):
    """Documents in a bucket, or in a part of one; safe between tasks, processes and machines.

    A write that returned is as durable as the storage says. There is no change log: `/events`,
    projections and others that follow changes need another store. Nothing is asked before the first
    call, which makes sure that the storage does refuse a write whose condition does not hold.

    Args:
        storage: an ``obstore.store.S3Store``, ``GCSStore``, ``AzureStore`` or ``MemoryStore``; give
            it a ``prefix`` that nothing else uses. A ``LocalStore`` has no conditional writes.
        location: names the storage in errors; its class by default.
        clock: tells the time of a write, and whether a value has expired.

    Examples:
        >>> from obstore.store import MemoryStore
        >>> store = ObjectStoreAdapter(MemoryStore())
        >>> async def main() -> list[str]:
        ...     await store.put("notes/ada", "{}")
        ...     return await store.list_keys("notes/")
        >>> asyncio.run(main())
        ['notes/ada']
    """

    def __init__(
        self, storage: Storage, *, location: str | None = None, clock: Clock | None = None
    ) -> None:
        self._bucket = Bucket(storage, location or type(storage).__name__)
        self._clock = clock or SystemClock()
        self._is_checked = False
        self._swept_at: float | None = None
        self._under_way: set[asyncio.Future[str]] = set()

    @classmethod
    def from_url(cls, url: str, *, clock: Clock | None = None) -> ObjectStoreAdapter:
        """Make a store from an address; credentials come from the environment.

        Args:
            url: ``s3://bucket/prefix``, ``gs://…``, ``az://…`` or ``memory:///``. Variables such as
                ``AWS_ACCESS_KEY_ID``, ``AWS_REGION`` and ``AWS_ENDPOINT`` say the rest.
            clock: as in the constructor.

        Raises:
            StoreUnavailableError: the address or the environment does not make a storage.
        """
        location = url.partition("?")[0]
        try:
            storage = from_url(url)
        except (BaseError, ValueError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise StoreUnavailableError(location, reason) from error
        return cls(storage, location=location, clock=clock)

    # Reading.

    @override
    async def get(self, key: str, *, context: StoreContext | None = None) -> Stored | None:
        missing = ""
        while True:
            found = await self._open(key, None)
            if found is None:
                return None
            head, data = found
            if head.envelope.blob is None:
                return Stored(data[head.offset :], head.metadata())
            blob = await self._bucket.read(f"{_BLOBS}/{head.envelope.blob}")
            if blob is not None:
                return Stored(blob[0], head.metadata())
            missing = self._check_replaced(head, missing)

    @override
    async def get_many(
        self, keys: Sequence[str], *, context: StoreContext | None = None
    ) -> dict[str, Stored]:
        asked = list(dict.fromkeys(check_key(key) for key in keys))
        found = await self._each(asked, self.get)
        return {key: value for key, value in zip(asked, found, strict=True) if value is not None}

    @override
    async def stat(self, key: str, *, context: StoreContext | None = None) -> Metadata | None:
        found = await self._open(key, _HEAD_BYTES)
        return None if found is None else found[0].metadata()

    @override
    async def read_range(
        self, key: str, first: int, last: int | None, *, context: StoreContext | None = None
    ) -> Stored | None:
        check_range(first, last)
        missing = ""
        while True:
            found = await self._open(key, _HEAD_BYTES)
            if found is None:
                return None
            head, data = found
            envelope, metadata = head.envelope, head.metadata()
            end = envelope.size if last is None else min(last + 1, envelope.size)
            if end <= first:
                return Stored(b"", metadata)
            if envelope.blob is not None:
                part = await self._bucket.read(f"{_BLOBS}/{envelope.blob}", first=first, end=end)
                if part is not None:
                    return Stored(part[0], metadata)
                missing = self._check_replaced(head, missing)
                continue
            first_byte, end_byte = head.offset + first, head.offset + end
            if end_byte <= len(data):
                return Stored(data[first_byte:end_byte], metadata)
            with contextlib.suppress(ConflictError):  # another version by now
                part = await self._bucket.read(
                    _of(key), first=first_byte, end=end_byte, tag=head.tag
                )
                if part is not None:
                    return Stored(part[0], metadata)

    @override
    async def scan(
        self,
        prefix: str,
        *,
        after: str | None = None,
        limit: int | None = None,
        context: StoreContext | None = None,
    ) -> Sequence[Entry]:
        await self._check_storage()
        size = check_limit(limit)
        lower = check_prefix(prefix)
        if after is not None:
            lower = max(lower, check_prefix(after))
        upper = prefix_upper_bound(prefix)
        end = None if upper is None else name_of(upper)
        now = self._clock.now_ms()
        entries: list[Entry] = []
        waiting: list[str] = []

        async def take() -> None:
            heads = await self._each(waiting, self._head_of)
            waiting.clear()
            entries.extend(
                Entry(head.envelope.key, head.metadata())
                for head in heads
                if head is not None
                and head.is_live(now)
                and head.envelope.key.startswith(prefix)
                and (after is None or head.envelope.key > after)
            )

        cut = ""
        async with contextlib.aclosing(self._bucket.names(_VALUES, bound_of(lower))) as names:
            async for name, _ in names:
                # Cut names of one beginning are in the order of their digests, so all are read.
                if size is not None and len(entries) >= size and name[:MAX_NAME] != cut:
                    break
                if end is not None and name[:MAX_NAME] > end[:MAX_NAME]:
                    break
                waiting.append(name)
                cut = name[:MAX_NAME]
                wanted = _AT_ONCE if size is None else min(_AT_ONCE, max(size - len(entries), 1))
                if len(waiting) >= wanted:
                    await take()
        await take()
        entries.sort(key=lambda entry: entry.key)
        return entries[:size]

    async def _open(self, key: str, length: int | None) -> tuple[Head, bytes] | None:
        """The live value of a key, as far as it was asked for."""
        check_key(key)
        await self._check_storage()
        found = await self._read(_of(key), length)
        return found if found is not None and found[0].is_live(self._clock.now_ms()) else None

    def _check_replaced(self, head: Head, missing: str) -> str:
        """A body goes when its value is replaced: then there is another version to read.

        Raises:
            StoreUnavailableError: it is the version whose body was missing before.
        """
        if head.tag == missing:
            raise StoreUnavailableError(
                self._bucket.location, f"the body of key {head.envelope.key[:200]!r} is missing"
            )
        return head.tag

    async def _read(self, name: str, length: int | None) -> tuple[Head, bytes] | None:
        while True:
            found = await self._bucket.read(name, end=length)
            if found is None:
                return None
            data, tag = found
            if length is not None and len(data) == length:
                needed = int.from_bytes(data[4:8], "big") + 8
                if needed > length:
                    length = needed
                    continue
            return unpacked(data, tag, self._bucket.location), data

    async def _head(self, key: str) -> Head | None:
        found = await self._read(_of(key), _HEAD_BYTES)
        return None if found is None else found[0]

    async def _head_of(self, name: str) -> Head | None:
        found = await self._read(f"{_VALUES}/{name}", _HEAD_BYTES)
        return None if found is None else found[0]

    async def _each(self, items: Sequence[str], call: Callable[[str], Awaitable[T]]) -> list[T]:
        bound = asyncio.Semaphore(_AT_ONCE)

        async def bounded(item: str) -> T:
            async with bound:
                return await call(item)

        return await asyncio.gather(*(bounded(item) for item in items))

    # Writing.

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
        check_size(check_key(key), len(value.body), self.limits)
        body = bytes(value.body)  # a caller may change it meanwhile
        if len(body) > _BLOB_BYTES:
            blob, size, _ = await self._upload(key, _pieces(body))
            written, _ = await self._write(self._envelope(key, value, size, blob), b"", when)
        else:
            written, _ = await self._write(self._envelope(key, value, len(body)), body, when)
        return written

    @override
    async def write_stream(
        self,
        key: str,
        chunks: AsyncIterator[bytes],
        value: Value,
        *,
        when: Precondition = ANY,
        change: Callable[[str, int], ChangeRecord] | None = None,
        context: StoreContext | None = None,
    ) -> tuple[Written, Metadata]:
        check_key(key)
        begun = bytearray()
        async for chunk in chunks:
            begun += chunk
            if len(begun) > _BLOB_BYTES:
                blob, size, digest = await self._upload(key, _joined(bytes(begun), chunks))
                value = replace(value, hash=value.hash or digest)
                return await self._write(self._envelope(key, value, size, blob), b"", when)
        body = bytes(begun)
        value = replace(value, hash=value.hash or hashlib.sha256(body).hexdigest())
        return await self._write(self._envelope(key, value, len(body)), body, when)

    async def _upload(self, key: str, chunks: AsyncIterator[bytes]) -> tuple[str, int, str]:
        """Store a body by itself; its name, size and SHA-256."""
        await self._check_storage()
        digest = hashlib.sha256()
        size = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal size
            async for chunk in chunks:
                size += len(chunk)
                if size > self.limits.value_bytes:
                    raise ValueTooLargeError(key, size, self.limits.value_bytes)
                digest.update(chunk)
                yield chunk

        blob = f"{name_of(key)}/{new_write_id():016x}"
        await self._bucket.upload(f"{_BLOBS}/{blob}", counted())
        return blob, size, digest.hexdigest()

    def _envelope(self, key: str, value: Value, size: int, blob: str | None = None) -> Envelope:
        return Envelope(
            key=key,
            write_id=value.write_id,
            generation=0,
            written_at=self._clock.now_ms() if value.written_at is None else value.written_at,
            size=size,
            content_type=value.content_type,
            hash=value.hash,
            expires_at=value.expires_at,
            blob=blob,
        )

    async def _write(
        self, envelope: Envelope, body: bytes, when: Precondition
    ) -> tuple[Written, Metadata]:
        if envelope.expires_at is not None:
            # Before the value, so that no value is without it; one too many is passed over.
            name = f"{_EXPIRY}/{max(envelope.expires_at, 0):020d}.{envelope.write_id:016x}"
            with contextlib.suppress(ConflictError):
                request = self._bucket.create(name, envelope.key.encode())
                await self._sent(envelope.key, envelope.write_id, request)
        try:
            head = await self._put(envelope, body, when)
        except PreconditionFailedError:
            if envelope.blob is not None:
                await self._forget_blob(envelope.blob)
            raise
        return Written(head.metadata().etag, head.envelope.generation), head.metadata()

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
        await self._check_storage()
        now = self._clock.now_ms()
        current = await self._head(key)
        if current is None or not current.is_live(now):
            check_condition(key, when, None)
            return Removed(existed=False)
        tombstone = Envelope(key, new_write_id(), 0, now, 0, "", is_deleted=True)
        try:
            await self._put(tombstone, b"", when if when is not ANY else _IF_THERE)
        except PreconditionFailedError:
            if when is not ANY:
                raise
            return Removed(existed=False)
        return Removed(existed=True)

    async def _put(self, envelope: Envelope, body: bytes, when: Precondition | None) -> Head:
        """Put an object in the place of the one that the condition names.

        Raises:
            PreconditionFailedError: the condition does not hold.
            OutcomeUnknownError: the answer was lost.
        """
        key = envelope.key
        await self._check_storage()
        for attempt in range(_TRIES):
            current = await self._head(key)
            live = current is not None and current.is_live(self._clock.now_ms())
            known = current.metadata() if current is not None and live else None
            if when is not None:
                check_condition(key, when, known)
            elif known is None:
                raise PreconditionFailedError(key, None)
            tried = 0 if current is None else current.envelope.generation
            replaced = () if current is None else current.envelope.following()
            made = replace(envelope, generation=tried + 1, replaced=replaced)
            data = packed(made, body)
            request = (
                self._bucket.create(_of(key), data)
                if current is None
                else self._bucket.replace(_of(key), data, current.tag)
            )
            try:
                tag = await self._sent(key, made.write_id, request)
            except ConflictError as conflict:
                landed = None if conflict.was_sent_once else await self._landed(made)
                if landed is not None:
                    return landed
                await asyncio.sleep(random.random() * min(0.002 * 2**attempt, 0.2))  # noqa: S311
                continue
            if current is not None and current.envelope.blob:
                await self._forget_blob(current.envelope.blob)
            return Head(made, tag, 0)
        raise StoreUnavailableError(self._bucket.location, f"too many writers of key {key[:200]!r}")

    async def _landed(self, made: Envelope) -> Head | None:
        """Whether a request that was refused had landed: repeated below us, it refuses itself.

        Raises:
            OutcomeUnknownError: there were more writes since than are remembered.
        """
        current = await self._head(made.key)
        if current is None:
            return None
        envelope = current.envelope
        if envelope.write_id == made.write_id:
            return current
        if made.write_id in envelope.replaced:
            return Head(made, "", 0)
        if envelope.generation - len(envelope.replaced) > made.generation:
            raise OutcomeUnknownError(made.key, made.write_id, "too many writes followed it")
        return None

    async def _sent(self, key: str, write_id: int, request: Awaitable[str]) -> str:
        """Send a request that changes something; it goes on when the caller is cancelled."""
        task = asyncio.ensure_future(request)
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        try:
            return await asyncio.shield(task)
        except BaseError as error:
            raise self._bucket.unknown(key, write_id, error) from error

    def _ended(self, task: asyncio.Future[str]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # the caller may be gone

    async def _forget_blob(self, blob: str) -> None:
        with contextlib.suppress(StoreUnavailableError):  # `expire` finds it
            await self._bucket.delete(f"{_BLOBS}/{blob}")

    # Life.

    @override
    async def ping(self) -> None:
        await self._check_storage()
        await self._bucket.read(f"{_VALUES}/ping", end=1)

    async def _check_storage(self) -> None:
        """See that the storage refuses a write whose condition does not hold; some do not."""
        if self._is_checked:
            return
        name = f"probe/{new_write_id():016x}"
        try:
            tag = await self._bucket.create(name, b"probe")
            for wrong in (None, f'"{"0" * 32}"'):
                with contextlib.suppress(ConflictError):
                    if wrong is None:
                        await self._bucket.create(name, b"other")
                    else:
                        await self._bucket.replace(name, b"other", wrong)
                    raise StoreUnavailableError(
                        self._bucket.location, "it ignores the conditions of conditional writes"
                    )
            await self._bucket.replace(name, b"other", tag)
            await self._bucket.delete(name)
        except BaseError as error:
            raise self._bucket.unavailable(error) from error
        self._is_checked = True

    @override
    async def expire(self, now: int, *, limit: int = 1000) -> int:
        await self._check_storage()
        count = 0
        due = f"{max(now, 0):020d}.~"
        async with contextlib.aclosing(self._bucket.names(_EXPIRY)) as names:
            async for name, _ in names:
                if count >= limit or name > due:
                    break
                found = await self._bucket.read(f"{_EXPIRY}/{name}")
                if found is not None:
                    count += await self._expire(found[0].decode(), now)
                await self._bucket.delete(f"{_EXPIRY}/{name}")
        moment = asyncio.get_running_loop().time()
        if self._swept_at is None or moment > self._swept_at + _SWEEP_EVERY_S:
            self._swept_at = moment
            await self._drop_abandoned(limit)
        return count

    async def _expire(self, key: str, now: int) -> bool:
        head = await self._head(key)
        if head is None or head.envelope.is_deleted:
            return False
        expires_at = head.envelope.expires_at
        if expires_at is None or expires_at > now:
            return False
        tombstone = Envelope(
            key,
            new_write_id(),
            head.envelope.generation + 1,
            now,
            0,
            "",
            is_deleted=True,
            replaced=head.envelope.following(),
        )
        try:
            await self._sent(
                key,
                tombstone.write_id,
                self._bucket.replace(_of(key), packed(tombstone, b""), head.tag),
            )
        except ConflictError:
            return False  # it was renewed in between
        if head.envelope.blob:
            await self._forget_blob(head.envelope.blob)
        return True

    async def _drop_abandoned(self, limit: int) -> None:
        """Delete bodies that no value names, some at a time."""
        before = datetime.now(UTC) - _ABANDONED  # noqa: TID251  the storage's times are the world's
        async with contextlib.aclosing(self._bucket.names(_BLOBS)) as blobs:
            async for blob, modified in blobs:
                if modified > before:
                    continue
                head = await self._head_of(blob.rpartition("/")[0])
                if head is None or head.envelope.blob != blob:
                    await self._bucket.delete(f"{_BLOBS}/{blob}")
                    limit -= 1
                    if limit <= 0:
                        return

    @override
    async def close(self) -> None:
        while self._under_way:
            await asyncio.wait(self._under_way)


_IF_THERE: None = None
"""The condition of a delete: whichever version, but there must be one."""


def _of(key: str) -> str:
    return f"{_VALUES}/{name_of(key)}"


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _BLOB_BYTES):
        yield body[start : start + _BLOB_BYTES]


async def _joined(begun: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield begun
    async for chunk in rest:
        yield chunk
