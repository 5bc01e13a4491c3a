"""Content in a folder: one file each, named by its hash.

Rule: content gets its name only when its bytes are on disk. A power cut or a kill at any moment
leaves whole content or none under a name, and at most a draft, which `LocalBackend.sweep` removes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

from starfish_artifact_registry.errors import ContentNotFoundError
from starfish_artifact_registry.storage._base import ContentInfo, StoredContent
from starfish_artifact_registry.storage._content_folder import (
    PARTS,
    ContentFolder,
    Draft,
    same_as_block,
    same_as_file,
)
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
from starfish_protocol.address import ContentAddress
from starfish_protocol.clock import Clock, SystemClock

__all__ = ("LocalBackend",)

T = TypeVar("T")

_BLOCK = 4 * 1024 * 1024
"""Bytes that are hashed and written together; two blocks of one put are in memory at most."""
_CHUNK = 1024 * 1024
"""Bytes that a reader is given at once."""
_THREADS = 16
"""Blocking calls at once. Most of their time is fsync, and the kernel merges those that meet."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class LocalBackend:
    """Content in a folder of a local file system; several processes may share it.

    Args:
        root: created with the folders above it by the first write. It may be a symbolic link;
            none below it is followed. Not a network file system: its locks are not to be relied on.
        backend_id: recorded in the log beside each address.
        clock: where grace times begin.

    Examples:
        >>> import asyncio
        >>> async def stream():
        ...     yield b"hello "
        ...     yield b"world"
        >>> async def example():
        ...     backend = LocalBackend("content")
        ...     stored = await backend.put(stream())
        ...     return stored.size, [chunk async for chunk in backend.read(stored.address, start=6)]
        >>> asyncio.run(example())
        (11, [b'world'])
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        backend_id: str = "local",
        *,
        clock: Clock | None = None,
    ) -> None:
        self._root = Path(root)
        self._backend_id = backend_id
        self._clock = clock or SystemClock()
        self._folder = ContentFolder(self._root)
        self._threads = Threads(_THREADS, f"content of {backend_id}")

    @property
    def backend_id(self) -> str:
        """Name that the log records beside each address."""
        return self._backend_id

    @property
    def root(self) -> Path:
        """The folder."""
        return self._root

    async def put(self, stream: AsyncIterator[bytes]) -> StoredContent:
        """Store a stream; see `ContentBackend.put`."""
        async with contextlib.aclosing(blocks(stream, _BLOCK)) as gathered:
            first = await anext(gathered)
            if (second := await anext(gathered, None)) is None:
                return await self._run(partial(self._put_short, first))
            return await self._put_long(chain(first, second, gathered))

    def read(
        self, address: ContentAddress, *, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes]:
        """Bytes of some content; see `ContentBackend.read`. Closing it early closes the file."""
        check_address(address)
        check_range(start, end)
        return self._read(address, start, end)

    async def size(self, address: ContentAddress) -> int | None:
        """Length in bytes, ``None`` when it is not there."""
        check_address(address)
        return await self._run(partial(self._folder.size, address))

    async def touch(self, address: ContentAddress) -> bool:
        """Start its grace time anew; ``False`` when it is not there."""
        check_address(address)
        return await self._run(partial(self._folder.renew, address, self._now_ns()))

    async def delete(
        self, address: ContentAddress, *, unmodified_since: datetime | None = None
    ) -> bool:
        """Remove it; see `ContentBackend.delete`. A reader of this moment reads on."""
        check_address(address)
        since = None if unmodified_since is None else (unmodified_since - _EPOCH) // _MICROSECOND
        return await self._run(partial(self._folder.remove, address, since))

    async def list(self) -> AsyncGenerator[ContentInfo]:
        """Everything that is stored, one of 256 folders after the other; ours or not."""
        for part in PARTS:
            for digits, size, modified_us in await self._run(partial(self._folder.list, part)):
                yield ContentInfo(
                    ContentAddress("blake3", bytes.fromhex(digits)),
                    size,
                    _EPOCH + modified_us * _MICROSECOND,
                )

    async def sweep(self) -> int:
        """Remove what writes that never ended have left behind; how many files."""
        return await self._run(self._folder.sweep)

    async def _put_long(self, gathered: AsyncIterator[Block]) -> StoredContent:
        draft = Draft()
        try:
            await self._run(partial(self._folder.create_draft, draft))
            hashed = await hash_and_write(gathered, partial(self._write, draft), self._threads)
            return await self._run(partial(self._keep_unless_present, draft, hashed))
        finally:
            await self._run(draft.discard)

    def _put_short(self, block: Block) -> StoredContent:
        # One visit to a thread, and the hashes first: known content is not written at all.
        hashed = hash_block(block)
        content = same_as_block(block)
        if self._is_present(hashed.address, content):
            return hashed.stored(was_present=True)
        draft = Draft()
        try:
            self._folder.create_draft(draft)
            draft.write(block)
            return self._keep(draft, hashed, content)
        finally:
            draft.discard()

    def _write(self, draft: Draft, block: Block) -> None:
        with self._translated():  # here already: an OSError of the stream is not the storage's
            draft.write(block)

    def _keep_unless_present(self, draft: Draft, hashed: Hashed) -> StoredContent:
        return self._keep(draft, hashed, same_as_file(draft.descriptor))

    def _is_present(self, address: ContentAddress, content: Callable[[int], bool]) -> bool:
        there = self._folder.compare(address, content)
        return (
            there is not None
            and there.is_whole
            and self._folder.renew(address, self._now_ns(), there)
        )

    def _keep(self, draft: Draft, hashed: Hashed, content: Callable[[int], bool]) -> StoredContent:
        there = self._folder.keep(draft, hashed.address, self._now_ns(), content)
        was_present = there is not None and there.is_whole
        return hashed.stored(
            was_present=was_present, healed=there is not None and not there.is_whole
        )

    async def _read(
        self, address: ContentAddress, start: int, end: int | None
    ) -> AsyncGenerator[bytes]:
        opened: list[int | None] = []  # known here also when the waiting is cancelled
        try:
            await self._run(lambda: opened.append(self._folder.open(address)))
            if (descriptor := opened[0]) is None:
                raise ContentNotFoundError(address, self._backend_id)
            while end is None or start < end:
                length = _CHUNK if end is None else min(_CHUNK, end - start)
                chunk = await self._run(partial(os.pread, descriptor, length, start))
                if not chunk:
                    return
                start += len(chunk)
                yield chunk
        finally:
            for descriptor in opened:
                if descriptor is not None:
                    os.close(descriptor)

    async def _run(self, call: Callable[[], T]) -> T:
        with self._translated():
            return await self._threads.run(call)

    @contextlib.contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise refusal(self._backend_id, error) from error

    def _now_ns(self) -> int:
        return self._clock.now_ms() * 1_000_000
