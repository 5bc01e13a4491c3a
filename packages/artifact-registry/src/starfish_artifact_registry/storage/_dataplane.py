"""The bytes' side of the registry: in and out of a backend, in this process.

Rule: nothing here knows packages, files or the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from starfish_artifact_registry.errors import ContentNotFoundError
from starfish_artifact_registry.storage._base import ContentBackend, StoredContent
from starfish_protocol.address import ContentAddress, MultiHasher

__all__ = ("InProcessDataPlane",)


class InProcessDataPlane:
    """What `Registry` moves bytes with, over one backend.

    Args:
        backend: where content lives.

    Examples:
        >>> from starfish_artifact_registry.storage import LocalBackend
        >>> async def stream():
        ...     yield b"evidence"
        >>> async def example():
        ...     dataplane = InProcessDataPlane(LocalBackend("content"))
        ...     stored = await dataplane.put(stream())
        ...     return await dataplane.rehash(stored.address) == stored.address
        >>> asyncio.run(example())
        True
    """

    def __init__(self, backend: ContentBackend) -> None:
        self._backend = backend

    @property
    def backend(self) -> ContentBackend:
        """Where content lives."""
        return self._backend

    @property
    def backend_id(self) -> str:
        """Name that the log records beside each address."""
        return self._backend.backend_id

    async def put(self, stream: AsyncIterator[bytes]) -> StoredContent:
        """Store a stream, hashed while it passes; durable when this returns.

        Raises:
            StorageUnavailableError: the store is full, read-only or gone; nothing is stored.
            TypeError: the stream gave something else than bytes; nothing is stored.
        """
        return await self._backend.put(stream)

    def read(
        self, address: ContentAddress, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes]:
        """Bytes ``start`` up to but without ``end``, in chunks of at most 1 MiB; not verified.

        Raises:
            ContentNotFoundError: it is not there; raised by the first chunk.
            StorageUnavailableError: the store does not answer.
            ValueError: ``start`` is negative or behind ``end``; raised by the call.
        """
        return self._backend.read(address, start=start, end=end)

    async def size(self, address: ContentAddress) -> int | None:
        """Length in bytes, ``None`` when it is not there."""
        return await self._backend.size(address)

    async def rehash(self, address: ContentAddress) -> ContentAddress | None:
        """Read all of some content and give the address of the bytes; ``None`` when it is gone.

        It is intact exactly when the answer equals the question.

        Raises:
            StorageUnavailableError: the store does not answer, which says nothing about the content.
        """
        hasher = MultiHasher([address.algorithm])
        try:
            async for chunk in self._backend.read(address):
                # Not on the event loop: fixity checks run beside other work for hours.
                await asyncio.to_thread(hasher.update, chunk)
        except ContentNotFoundError:
            return None
        return hasher.addresses()[address.algorithm]
