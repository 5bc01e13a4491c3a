"""What a place for content does; the data plane knows nothing else of it.

Rule 1: content is named by the BLAKE3 hash of its bytes and stored once. Rule 2: what `put`
returned is durable. Rule 3: a backend never opens a database, the registry never opens a file.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from starfish_protocol.address import ContentAddress

__all__ = ("ContentBackend", "ContentInfo", "StoredContent")


@dataclass(frozen=True, slots=True)
class StoredContent:
    """What a backend knows of content that it has just made durable."""

    address: ContentAddress
    """BLAKE3 of the bytes; where they are found again."""
    sha256: ContentAddress
    """SHA-256 of the same bytes, for the world outside."""
    size: int
    """Length in bytes."""
    was_present: bool
    """Whether the same content was there already; nothing was written then."""
    healed: bool = False
    """Whether a damaged copy was there, and these bytes took its place."""


@dataclass(frozen=True, slots=True)
class ContentInfo:
    """One entry of a backend's listing."""

    address: ContentAddress
    """BLAKE3 of the bytes."""
    size: int
    """Length in bytes."""
    modified_at: datetime
    """When it was put, aware UTC; what garbage collection counts its grace time from."""


class ContentBackend(Protocol):
    """A durable store of immutable content."""

    @property
    def backend_id(self) -> str:
        """Name that the log records beside each address; stays the same for the store's life."""
        ...

    async def put(self, stream: AsyncIterator[bytes]) -> StoredContent:
        """Store a stream, hashed while it passes; durable when this returns.

        The stream is never whole in memory. When it fails or the call is cancelled, nothing is
        stored and the stream's own error comes out; a cancel that comes after the end of the
        stream may find the content stored. Present content is not written again: its grace
        time starts anew.

        Raises:
            StorageUnavailableError: the store is full, read-only or gone; nothing is stored.
            TypeError: the stream gave something else than bytes; nothing is stored.
        """
        ...

    def read(
        self, address: ContentAddress, *, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes]:
        """Bytes ``start`` up to but without ``end``, in chunks of at most 1 MiB; not verified.

        What lies beyond the last byte is left out, as in a slice. Content that is deleted or
        replaced meanwhile may end the stream with an error, never with other bytes. The resources held
        for it is released at the end, or by closing it (``contextlib.aclosing``).

        Raises:
            ContentNotFoundError: it is not there; raised by the first chunk.
            StorageUnavailableError: the store does not answer.
            ValueError: ``start`` is negative or behind ``end``; raised by the call.
        """
        ...

    async def size(self, address: ContentAddress) -> int | None:
        """Length in bytes, ``None`` when it is not there."""
        ...

    async def touch(self, address: ContentAddress) -> bool:
        """Start its grace time anew; ``False`` when it is not there."""
        ...

    async def delete(
        self, address: ContentAddress, *, unmodified_since: datetime | None = None
    ) -> bool:
        """Remove it; ``False`` when it was not there, or is younger than asked for.

        Args:
            address: what to remove.
            unmodified_since: only if its grace time began at this moment or before it. A `put`
                or `touch` that returned before is seen: garbage collection needs this, because
                somebody may put the same content between the listing and the removal.
        """
        ...

    def list(self) -> AsyncIterator[ContentInfo]:
        """Everything that is stored, in no particular order."""
        ...

    async def sweep(self) -> int:
        """Remove what writes that never ended have left behind; how many.

        Writes in progress, of this process and of others, are not disturbed.
        """
        ...
