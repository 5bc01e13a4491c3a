"""The Merkle tree of the log in tiles of 256 hashes, as C2SP ``tlog-tiles`` cuts it.

Tile ``(0, n)`` holds the hashes of the leaves from ``256 n`` on, tile ``(l, n)`` the roots of the
tiles ``(l - 1, 256 n)`` and those after it. Only full tiles of leaves are stored, in the
transaction of the event that fills them; the last leaves are hashed from their events.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from starfish_artifact_registry.db.schema import events, log_tiles
from starfish_artifact_registry.errors import LogDamagedError
from starfish_artifact_registry.model import _event_digest as digests
from starfish_artifact_registry.model._merkle import (
    EMPTY_ROOT,
    HASH_SIZE,
    leaf_hash,
    node_hash,
    root_of,
)
from starfish_artifact_registry.model._moment import to_ms

__all__ = ("TILE_WIDTH", "TreeReader", "extend_tiles", "read_leaves", "tile_is_right")

TILE_WIDTH: Final = 256
"""Hashes of a full tile."""
_ROW: Final = events.c
_LEAF: Final = (
    *(_ROW.sequence, _ROW.event_id, _ROW.package_id, _ROW.event_type),
    *(_ROW.payload_digest, _ROW.actor, _ROW.created_at),
)


async def extend_tiles(connection: AsyncConnection, before: int, after: int) -> None:
    """Store the tiles that became full between two lengths of the log."""
    for position in range(before // TILE_WIDTH, after // TILE_WIDTH):
        hashes = await _leaves(connection, position * TILE_WIDTH, (position + 1) * TILE_WIDTH)
        await connection.execute(
            log_tiles.insert(), {"level": 0, "position": position, "hashes": b"".join(hashes)}
        )
        await _add_above(connection, 1, position, root_of(hashes))


async def _add_above(connection: AsyncConnection, level: int, index: int, root: bytes) -> None:
    while True:
        position, place = divmod(index, TILE_WIDTH)
        where = (log_tiles.c.level == level) & (log_tiles.c.position == position)
        stored = (await connection.execute(select(log_tiles.c.hashes).where(where))).scalar()
        hashes = (stored or b"")[: place * HASH_SIZE] + root
        if stored is None:
            row = {"level": level, "position": position, "hashes": hashes}
            await connection.execute(log_tiles.insert(), row)
        else:
            await connection.execute(log_tiles.update().where(where).values(hashes=hashes))
        if place + 1 < TILE_WIDTH:
            return
        level, index, root = level + 1, position, root_of(_split(hashes))


async def tile_is_right(connection: AsyncConnection, level: int, position: int, size: int) -> bool:
    """Whether a stored tile has the hashes that the level below it comes to.

    Raises:
        LogDamagedError: an event below it is missing.
    """
    where = (log_tiles.c.level == level) & (log_tiles.c.position == position)
    stored = (await connection.execute(select(log_tiles.c.hashes).where(where))).scalar_one()
    tree = TreeReader(connection, size)
    width = min(TILE_WIDTH, size // TILE_WIDTH**level - position * TILE_WIDTH)
    start = position * TILE_WIDTH
    if level == 0:
        expected = await _leaves(connection, start, start + max(width, 0))
    else:
        below = [await tree.tile(level - 1, start + index) for index in range(max(width, 0))]
        expected = [root_of(hashes) for hashes in below]
    return bytes(stored) == b"".join(expected)


class TreeReader:
    """The tree of the first ``size`` events, read tile by tile."""

    def __init__(self, connection: AsyncConnection, size: int) -> None:
        self._connection = connection
        self.size = size
        """Leaves of the tree."""
        self._tiles: dict[tuple[int, int], list[bytes]] = {}

    async def load(self, start: int, end: int) -> None:
        """Read the tiles that the root of these leaves needs; then `subtree` gives it."""
        for level, position in _tiles_of(start, end):
            await self._tile(level, position)

    def subtree(self, start: int, end: int) -> bytes:
        """Root of the leaves from one index up to but without another, of which `load` read."""
        stack: list[tuple[int, bytes]] = []
        for level, index in _parts(start, end):
            size = TILE_WIDTH**level
            found = self._tiles[level, index // TILE_WIDTH][index % TILE_WIDTH]
            while stack and stack[-1][0] == size:
                found = node_hash(stack.pop()[1], found)
                size *= 2
            stack.append((size, found))
        if not stack:
            return EMPTY_ROOT
        root = stack.pop()[1]
        while stack:
            root = node_hash(stack.pop()[1], root)
        return root

    async def root(self) -> bytes:
        """Root of the whole tree."""
        await self.load(0, self.size)
        return self.subtree(0, self.size)

    async def tile(self, level: int, position: int) -> list[bytes]:
        """The hashes of a tile, as far as the tree fills it."""
        return (await self._tile(level, position))[: self._width(level, position)]

    def _width(self, level: int, position: int) -> int:
        filled: int = self.size // TILE_WIDTH**level
        return max(0, min(TILE_WIDTH, filled - position * TILE_WIDTH))

    async def _tile(self, level: int, position: int) -> list[bytes]:
        known = self._tiles.get((level, position))
        if known is not None:
            return known
        where = (log_tiles.c.level == level) & (log_tiles.c.position == position)
        stored = (await self._connection.execute(select(log_tiles.c.hashes).where(where))).scalar()
        hashes = _split(stored or b"")
        missing = self._width(level, position) - len(hashes)
        if missing > 0:
            hashes += await self._make(level, position, len(hashes), missing)
        self._tiles[level, position] = hashes
        return hashes

    async def _make(self, level: int, position: int, first: int, count: int) -> list[bytes]:
        start = position * TILE_WIDTH + first
        if level == 0:
            return await _leaves(self._connection, start, start + count)
        # A log that grew before it had tiles.
        return [
            root_of(await self._tile(level - 1, index)) for index in range(start, start + count)
        ]


async def _leaves(connection: AsyncConnection, start: int, end: int) -> list[bytes]:
    return [leaf_hash(leaf) for leaf in await read_leaves(connection, start, end)]


async def read_leaves(connection: AsyncConnection, start: int, end: int) -> list[bytes]:
    """The leaves from one index up to but without another: the records of the events.

    Raises:
        LogDamagedError: an event is missing.
    """
    wanted = (
        select(*_LEAF).where(_ROW.sequence > start, _ROW.sequence <= end).order_by(_ROW.sequence)
    )
    rows = (await connection.execute(wanted)).all()
    if len(rows) != end - start:
        raise LogDamagedError(start + len(rows) + 1, "it is missing")
    return [
        digests.record_bytes(
            sequence=row.sequence,
            event_id=row.event_id,
            package_id=row.package_id,
            event_type=row.event_type,
            payload_digest=row.payload_digest,
            actor=row.actor,
            created_at_ms=to_ms(row.created_at),
        )
        for row in rows
    ]


def _split(hashes: bytes) -> list[bytes]:
    return [hashes[at : at + HASH_SIZE] for at in range(0, len(hashes), HASH_SIZE)]


def _parts(start: int, end: int) -> list[tuple[int, int]]:
    """Level and index of the largest stored hashes that cover these leaves, from the left."""
    parts: list[tuple[int, int]] = []
    while start < end:
        level = 0
        while start % TILE_WIDTH ** (level + 1) == 0 and start + TILE_WIDTH ** (level + 1) <= end:
            level += 1
        parts.append((level, start // TILE_WIDTH**level))
        start += TILE_WIDTH**level
    return parts


def _tiles_of(start: int, end: int) -> set[tuple[int, int]]:
    return {(level, index // TILE_WIDTH) for level, index in _parts(start, end)}
