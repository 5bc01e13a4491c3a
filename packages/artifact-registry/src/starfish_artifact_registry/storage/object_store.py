"""Content in an S3-compatible object store; needs the extra ``s3``.

``blake3/<first 2 digits>/<64 digits>`` holds content. Beside it, ``touched/…`` says by its time
that content was asked for again, and ``removing/…`` that somebody removes it at this moment.
Rule 1: an object is written under its final key and whole; the hash is known before the upload.
Rule 2: who renews content writes ``touched`` and then looks for ``removing``; who removes it
writes ``removing`` and then looks at ``touched``. The store is consistent, so one sees the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from starfish_artifact_registry.errors import ContentNotFoundError, StorageUnavailableError
from starfish_artifact_registry.storage._base import ContentInfo, StoredContent
from starfish_artifact_registry.storage._hashing import Hashed, hash_and_write, hash_block
from starfish_artifact_registry.storage._os_errors import refusal
from starfish_artifact_registry.storage._stream import (
    Block,
    blocks,
    chain,
    check_address,
    check_range,
)
from starfish_artifact_registry.storage._threads import Threads
from starfish_protocol.address import ContentAddress, MultiHasher
from starfish_protocol.clock import Clock, SystemClock

try:
    import obstore
    from obstore.exceptions import AlreadyExistsError, BaseError
    from obstore.store import ObjectStore
except ImportError as error:
    raise ImportError(
        f'{__name__} needs the extra s3: pip install --find-links dist "starfish-artifact-registry[s3]"'
    ) from error

if TYPE_CHECKING:
    from obstore import ListStream, ObjectMeta

__all__ = ("ObjectStoreBackend",)

_BLOCK = 5 * 1024 * 1024
"""Content below this size stays in memory, larger is uploaded in parts of it: the least S3 takes."""
_MAX_PARTS = 10_000
"""Of one multipart upload, a limit of S3; above 48 GiB the parts grow instead."""
_UPLOADS = 2
"""Parts of one upload that are under way at once; each more costs 10 MiB of memory."""
_RANGE = 2 * 1024 * 1024
"""Bytes a reader asks for at once: a short request, so that a slow reader does not time out."""
_CHUNK = 1024 * 1024
"""Bytes that a reader is given at once."""
_THREADS = 8
_REMOVAL_S = 30.0
"""How long a put waits for a removal of the same content; one takes a few requests."""
_POLL_S = 0.05
_PAGE = 1000
"""Entries of a listing that come together, as many as S3 gives."""
_DEAD_AFTER = timedelta(minutes=15)
"""A removal that has lasted so long was broken off; longer than any request is repeated."""
_CONTENT_KEY = re.compile(r"blake3/([0-9a-f]{2})/(\1[0-9a-f]{62})")


class ObjectStoreBackend:
    """Content in a bucket, or in a part of one: give the store a prefix.

    Args:
        store: an `obstore.store.S3Store` or another store of obstore.
        backend_id: recorded in the log beside each address.
        spool_folder: where content above 5 MiB waits, unnamed, for its hash and for the upload;
            by default the system's folder for temporary files.
        clock: only to tell which removals were broken off; grace times are of the store's clock.
    """

    def __init__(
        self,
        store: ObjectStore,
        backend_id: str,
        *,
        spool_folder: Path | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._store = store
        self._backend_id = backend_id
        self._spool_folder = spool_folder
        self._clock = clock or SystemClock()
        self._threads = Threads(_THREADS, f"content of {backend_id}")

    @property
    def backend_id(self) -> str:
        """Name that the log records beside each address."""
        return self._backend_id

    async def put(self, stream: AsyncIterator[bytes]) -> StoredContent:
        """Store a stream; see `ContentBackend.put`. Known content is not uploaded again."""
        async with contextlib.aclosing(blocks(stream, _BLOCK)) as gathered:
            first = await anext(gathered)
            if (second := await anext(gathered, None)) is None:
                return await self._put_short(first)
            with _Spool(self._spool_folder) as spool:
                with self._translated():
                    await self._threads.run(spool.open)
                hashed = await hash_and_write(
                    chain(first, second, gathered), partial(self._write, spool), self._threads
                )
                return await self._put_long(spool, hashed)

    def read(
        self, address: ContentAddress, *, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes]:
        """Bytes of some content; see `ContentBackend.read`."""
        check_address(address)
        check_range(start, end)
        return self._read(address, start, end)

    async def size(self, address: ContentAddress) -> int | None:
        """Length in bytes, ``None`` when it is not there."""
        check_address(address)
        found = await self._head(_key(address))
        return None if found is None else found["size"]

    async def touch(self, address: ContentAddress) -> bool:
        """Start its grace time anew; ``False`` when it is not there."""
        return await self.size(address) is not None and await self._renew(address, None)

    async def delete(
        self, address: ContentAddress, *, unmodified_since: datetime | None = None
    ) -> bool:
        """Remove it; see `ContentBackend.delete`."""
        if await self.size(address) is None:
            return False
        removing = _key(address, "removing")
        if not await self._create(removing, b""):
            return False  # somebody else removes it
        try:
            found = await self._head(_key(address))
            if found is None:
                return False
            if unmodified_since is not None:
                touched = await self._head(_key(address, "touched"))
                if _latest(found, touched) > unmodified_since:
                    return False
            await self._remove(_key(address))
            await self._remove(_key(address, "touched"))
            return True
        finally:
            await asyncio.shield(self._remove(removing))

    async def list(self) -> AsyncGenerator[ContentInfo]:
        """Everything that is stored."""
        part = ""
        touched: dict[str, ObjectMeta] = {}
        async for found in self._list("blake3"):
            key = _CONTENT_KEY.fullmatch(found["path"])
            if key is None:
                continue
            if key[1] != part:  # the times of one part of 256 are in memory at once
                part = key[1]
                touched = {one["path"]: one async for one in self._list(f"touched/{part}")}
            yield ContentInfo(
                ContentAddress("blake3", bytes.fromhex(key[2])),
                found["size"],
                _latest(found, touched.get(f"touched/{part}/{key[2]}")),
            )

    async def sweep(self) -> int:
        """Let go of what removals that never ended still hold; how many.

        Uploads that never ended have no key. They are removed by a rule of the bucket, because
        only its owner knows how long an upload may take.
        """
        before = self._clock.now() - _DEAD_AFTER
        dead = [
            one["path"] async for one in self._list("removing") if one["last_modified"] < before
        ]
        for path in dead:
            await self._remove(path)
        return len(dead)

    async def _put_short(self, block: Block) -> StoredContent:
        hashed = await self._threads.run(partial(hash_block, block))
        body = b"".join(block)
        while not await self._create(_key(hashed.address), body):
            whole = await self._is_whole(hashed)
            if whole and await self._renew(hashed.address, hashed.size):
                return hashed.stored(was_present=True)
            if whole is False:
                await self._renew(hashed.address, None)
                await self._upload(hashed, body)
                return hashed.stored(was_present=False, healed=True)
        return hashed.stored(was_present=False)

    async def _put_long(self, spool: _Spool, hashed: Hashed) -> StoredContent:
        whole = await self._is_whole(hashed)
        if whole and await self._renew(hashed.address, hashed.size):
            return hashed.stored(was_present=True)
        with self._translated():
            await self._threads.run(spool.rewind)
        await self._upload(hashed, spool.file)
        return hashed.stored(was_present=False, healed=whole is False)

    async def _is_whole(self, hashed: Hashed) -> bool | None:
        """Whether the stored copy has the bytes of its name; ``None`` when there is none."""
        size = await self.size(hashed.address)
        if size is None or size != hashed.size:
            return None if size is None else False
        hasher = MultiHasher(["blake3"])
        try:
            async for chunk in self.read(hashed.address):
                await self._threads.run(partial(hasher.update, chunk))
        except ContentNotFoundError:
            return None
        return hasher.addresses()["blake3"] == hashed.address

    async def _renew(self, address: ContentAddress, size: int | None) -> bool:
        """Make sure that nobody removes it; ``False`` when it is not there, or not of that size."""
        async with self._removal_time_out(address):
            while True:
                await self._overwrite(_key(address, "touched"), b"")
                if await self._head(_key(address, "removing")) is None:
                    break
                await asyncio.sleep(_POLL_S)
        found = await self.size(address)
        return found is not None and size in (None, found)

    @contextlib.asynccontextmanager
    async def _removal_time_out(self, address: ContentAddress) -> AsyncGenerator[None]:
        try:
            async with asyncio.timeout(_REMOVAL_S):
                yield
        except TimeoutError as error:
            reason = (
                f"{address} has been under removal for {_REMOVAL_S:g} s; if that was broken off, "
                f"a sweep lets go of it after {_DEAD_AFTER}"
            )
            raise StorageUnavailableError(self._backend_id, reason) from error

    async def _read(
        self, address: ContentAddress, start: int, end: int | None
    ) -> AsyncGenerator[bytes]:
        size = await self.size(address)
        if size is None:
            raise ContentNotFoundError(address, self._backend_id)
        end = size if end is None else min(end, size)
        ahead: asyncio.Task[bytes] | None = None
        try:
            while start < end:
                stop = min(start + _RANGE, end)
                block = await (ahead or self._range(address, start, stop))
                start, following = stop, min(stop + _RANGE, end)
                ahead = (
                    asyncio.create_task(self._range(address, start, following))
                    if start < end
                    else None
                )
                for position in range(0, len(block), _CHUNK):
                    yield block[position : position + _CHUNK]
        finally:
            if ahead is not None:
                ahead.cancel()
                await asyncio.wait([ahead])

    async def _range(self, address: ContentAddress, start: int, end: int) -> bytes:
        with self._translated():
            try:
                found = await obstore.get_range_async(
                    self._store, _key(address), start=start, end=end
                )
            except FileNotFoundError as error:
                raise ContentNotFoundError(address, self._backend_id) from error
            return bytes(found)

    async def _head(self, key: str) -> ObjectMeta | None:
        with self._translated():
            try:
                return await obstore.head_async(self._store, key)
            except FileNotFoundError:
                return None

    async def _list(self, prefix: str) -> AsyncGenerator[ObjectMeta]:
        with self._translated():
            pages: ListStream[Sequence[ObjectMeta]] = obstore.list(  # pyright: ignore[reportUnknownMemberType]  arrow's types
                self._store, prefix, chunk_size=_PAGE
            )
            async for page in pages:
                for found in page:
                    yield found

    async def _create(self, key: str, body: bytes) -> bool:
        with self._translated():
            try:
                await obstore.put_async(self._store, key, body, mode="create")
            except AlreadyExistsError:
                return False
            return True

    async def _overwrite(self, key: str, body: bytes) -> None:
        with self._translated():
            await obstore.put_async(self._store, key, body, use_multipart=False)

    async def _upload(self, hashed: Hashed, body: bytes | IO[bytes]) -> None:
        with self._translated():
            await obstore.put_async(
                self._store,
                _key(hashed.address),
                body,
                use_multipart=not isinstance(body, bytes),
                chunk_size=max(_BLOCK, -(-hashed.size // _MAX_PARTS)),
                max_concurrency=_UPLOADS,
            )

    async def _remove(self, key: str) -> None:
        with self._translated(), contextlib.suppress(FileNotFoundError):
            await obstore.delete_async(self._store, key)

    def _write(self, spool: _Spool, block: Block) -> None:
        with self._translated():  # here already: an OSError of the stream is not the storage's
            spool.write(block)

    @contextlib.contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except BaseError as error:
            raise StorageUnavailableError(self._backend_id, _first_line(error)) from error
        except OSError as error:
            if error.errno is not None:  # of the spool
                raise refusal(self._backend_id, error) from error
            # obstore's word for a missing object, where that can only be the bucket.
            raise StorageUnavailableError(self._backend_id, _first_line(error)) from error


class _Spool:
    """A file without a name: it goes with the process, whatever happens."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def file(self) -> IO[bytes]:
        """The open file."""
        assert self._file is not None  # noqa: S101  for the type checker
        return self._file

    def open(self) -> None:
        """Make the file."""
        # Unbuffered: a block is large, and a full disk must show where it is written.
        self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115  see __exit__

    def write(self, block: Block) -> None:
        """Add bytes at the end."""
        for part in block:
            view = memoryview(part)
            while view:
                view = view[self.file.write(view) :]

    def rewind(self) -> None:
        """Go back to its first byte."""
        self.file.seek(0)


def _key(address: ContentAddress, folder: str | None = None) -> str:
    digits = address.digest.hex()
    return f"{folder or address.algorithm}/{digits[:2]}/{digits}"


def _latest(found: ObjectMeta, touched: ObjectMeta | None) -> datetime:
    times = [one["last_modified"] for one in (found, touched) if one is not None]
    return max(times).astimezone(UTC)


def _first_line(error: Exception) -> str:
    """Without obstore's dump of its inner state, which may hold more than a log should."""
    return str(error).partition("\n")[0] or type(error).__name__
