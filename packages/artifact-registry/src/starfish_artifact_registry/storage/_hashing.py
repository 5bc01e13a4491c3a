"""BLAKE3 and SHA-256 of a stream while it is written, in threads, side by side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass
from functools import partial

from starfish_artifact_registry.storage._base import StoredContent
from starfish_artifact_registry.storage._stream import Block
from starfish_artifact_registry.storage._threads import Threads, ended, results
from starfish_protocol.address import ContentAddress, MultiHasher

__all__ = ("Hashed", "hash_and_write", "hash_block")


@dataclass(frozen=True, slots=True)
class Hashed:
    """The digests and the size of a stream that has ended."""

    address: ContentAddress
    """BLAKE3 of its bytes."""
    sha256: ContentAddress
    """SHA-256 of its bytes."""
    size: int
    """How many they were."""

    def stored(self, *, was_present: bool, healed: bool = False) -> StoredContent:
        """What a backend answers when the bytes are durable."""
        return StoredContent(self.address, self.sha256, self.size, was_present, healed)


def hash_block(block: Block) -> Hashed:
    """All of a short stream at once; blocking."""
    hasher = MultiHasher()
    _update(hasher, block)
    addresses = hasher.addresses()
    return Hashed(addresses["blake3"], addresses["sha256"], sum(map(len, block)))


async def hash_and_write(
    blocks: AsyncIterable[Block], write: Callable[[Block], None], threads: Threads
) -> Hashed:
    """Pass each block to both hash functions and to ``write``, while the next one is gathered.

    Two blocks are in memory at most. When this returns or raises, nothing of it runs any more.
    """
    blake3, sha256, size = MultiHasher(["blake3"]), MultiHasher(["sha256"]), 0
    working: list[asyncio.Future[None]] = []
    try:
        async for block in blocks:
            await results(working)
            working = threads.start(
                partial(_update, sha256, block),  # the slowest first
                partial(write, block),
                partial(_update, blake3, block),
            )
            size += sum(map(len, block))
        await results(working)
    finally:
        await ended(working)
    return Hashed(blake3.addresses()["blake3"], sha256.addresses()["sha256"], size)


def _update(hasher: MultiHasher, block: Block) -> None:
    for part in block:
        hasher.update(part)
