"""Small content, which is stored in the database in the transaction of its event.

So it costs no file, no sync of its own, and leaves no orphan: bytes and event are there together or
not at all. Rule: stored bytes are compared with the new ones, never trusted by their digest or length.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import LargeBinary, bindparam, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from starfish_artifact_registry.db._database import Database
from starfish_artifact_registry.db.schema import packed_content
from starfish_artifact_registry.storage._base import StoredContent
from starfish_artifact_registry.storage._dataplane import InProcessDataPlane
from starfish_artifact_registry.storage._stream import check_address, check_range, own_bytes
from starfish_protocol.address import ContentAddress, MultiHasher

__all__ = ("PackedContent", "PackingDataPlane", "known_bytes", "remove_packed", "store_packed")

_DIGEST: Final = packed_content.c.digest
_DATA: Final = packed_content.c.data
_KNOWN: Final = select(_DIGEST, _DATA).where(_DIGEST.in_(bindparam("digests", expanding=True)))
_INSERT: Final = packed_content.insert()
_REPLACE: Final = (
    packed_content.update()
    .where(bindparam("of", type_=LargeBinary) == _DIGEST)
    .values(data=bindparam("bytes"))
)
_PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class PackedContent(StoredContent):
    """Content that the transaction of its event is going to store."""

    data: bytes = b""
    """All of it."""


class PackingDataPlane(InProcessDataPlane):
    """Another data plane, beside which small content lives in the database.

    Args:
        below: for content that is longer than ``pack_bytes``.
        database: where small content is.
        pack_bytes: length up to which content is small; 0 for none.
    """

    def __init__(self, below: InProcessDataPlane, database: Database, pack_bytes: int) -> None:
        super().__init__(below.backend)
        self.below: Final = below
        """Where content goes that is not small, and where all of it went before."""
        self._database = database
        self._pack_bytes = pack_bytes

    async def put_or_pack(self, stream: AsyncIterator[bytes]) -> StoredContent:
        """Store a stream, or give its bytes for the transaction if they are few; errors as `put`."""
        gathered = bytearray()
        async for chunk in stream:
            gathered += own_bytes(chunk)
            if len(gathered) > self._pack_bytes:
                return await self.below.put(_rest(bytes(gathered), stream))
        data = bytes(gathered)
        if self._pack_bytes == 0:
            return await self.below.put(_rest(data, stream))
        hasher = MultiHasher()
        hasher.update(data)
        found = hasher.addresses()
        return PackedContent(
            found["blake3"], found["sha256"], len(data), was_present=False, data=data
        )

    async def put(self, stream: AsyncIterator[bytes]) -> StoredContent:
        return await self.below.put(stream)

    def read(
        self, address: ContentAddress, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes]:
        check_address(address)
        check_range(start, end)
        return self._read(address, start, end)

    async def _read(
        self, address: ContentAddress, start: int, end: int | None
    ) -> AsyncGenerator[bytes]:
        packed = await self._packed(address)
        if packed is not None:
            if piece := packed[start:end]:
                yield piece
            return
        async with aclosing(self.below.read(address, start, end)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def size(self, address: ContentAddress) -> int | None:
        packed = await self._packed(address)
        return await self.below.size(address) if packed is None else len(packed)

    async def rehash(self, address: ContentAddress) -> ContentAddress | None:
        packed = await self._packed(address)
        if packed is None:
            return await self.below.rehash(address)
        return ContentAddress.of(packed, address.algorithm)

    async def _packed(self, address: ContentAddress) -> bytes | None:
        async def look(connection: AsyncConnection) -> bytes | None:
            return (await known_bytes(connection, [address])).get(address)

        return await self._database.look(look)


async def known_bytes(
    connection: AsyncConnection, addresses: Collection[ContentAddress]
) -> dict[ContentAddress, bytes]:
    """The bytes that the database has under these addresses; not verified."""
    by_digest = {address.digest: address for address in addresses}
    rows = await connection.execute(_KNOWN, {"digests": list(by_digest)})
    return {by_digest[digest]: _as_bytes(data) for digest, data in rows}


def _as_bytes(data: object) -> bytes:
    """A damaged cell of SQLite may hold a value of another type: it is content that was changed."""
    return data if isinstance(data, bytes) else str(data).encode()


async def store_packed(
    connection: AsyncConnection,
    new: Sequence[PackedContent],
    damaged: Sequence[PackedContent],
) -> None:
    """Store content, and put good bytes in the place of damaged ones."""
    if new:
        rows = [{"digest": each.address.digest, "data": each.data} for each in new]
        await connection.execute(_INSERT, rows)
    if damaged:
        rows = [{"of": each.address.digest, "bytes": each.data} for each in damaged]
        await connection.execute(_REPLACE, rows)


async def packed_page(
    connection: AsyncConnection, after: bytes | None
) -> list[tuple[ContentAddress, int]]:
    """Addresses and lengths of stored content, in the order of the digests, a page at a time."""
    page = select(_DIGEST, func.length(_DATA)).order_by(_DIGEST).limit(_PAGE)
    if after is not None:
        page = page.where(after < _DIGEST)
    rows = await connection.execute(page)
    return [(ContentAddress("blake3", digest), size) for digest, size in rows]


async def remove_packed(connection: AsyncConnection, addresses: Sequence[ContentAddress]) -> None:
    """Remove content; nothing may refer to it, and the log is locked."""
    digests = [address.digest for address in addresses]
    await connection.execute(delete(packed_content).where(_DIGEST.in_(digests)))


def healed(content: PackedContent) -> PackedContent:
    """The same content, in the place of a damaged copy."""
    return replace(content, healed=True)


async def _rest(first: bytes, stream: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    yield first
    async for chunk in stream:
        yield chunk
