"""What every backend is given: a stream, a range, an address; checked before anything is done."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import TypeAlias

from starfish_protocol.address import ContentAddress

__all__ = ("Block", "blocks", "chain", "check_address", "check_range", "own_bytes")

Block: TypeAlias = Sequence[bytes | bytearray]
"""The parts of one block, in order; nobody changes them any more."""

_SMALL = 32 * 1024
"""Below this many bytes a copy costs less than a part more in every call."""


async def blocks(stream: AsyncIterator[bytes], size: int) -> AsyncGenerator[Block]:
    """Blocks of ``size`` bytes or somewhat more; the last one, which may be empty, of fewer.

    Raises:
        TypeError: a chunk is not bytes.
    """
    parts: list[bytes | bytearray] = []
    gathered = 0
    async for chunk in stream:
        part = own_bytes(chunk)
        if len(part) >= _SMALL:
            parts.append(part)
        elif parts and isinstance(parts[-1], bytearray) and len(parts[-1]) < size:
            parts[-1] += part
        else:
            parts.append(bytearray(part))
        gathered += len(part)
        if gathered >= size:
            yield parts
            parts, gathered = [], 0
    yield parts


async def chain(first: Block, second: Block, rest: AsyncIterator[Block]) -> AsyncGenerator[Block]:
    """Blocks that were looked at already, and those that follow."""
    yield first
    yield second
    async for block in rest:
        yield block


def own_bytes(chunk: object) -> bytes:
    """A chunk of a stream, as bytes that nobody else can change.

    Raises:
        TypeError: it is something else than bytes.
    """
    if type(chunk) is bytes:
        return chunk
    if isinstance(chunk, bytes | bytearray):
        return bytes(chunk)  # its owner may fill it again before it is hashed and written
    raise TypeError(f"a stream of content gives bytes, not {type(chunk).__name__}")


def check_range(start: int, end: int | None) -> None:
    """Refuse a range that means nothing.

    Raises:
        ValueError: ``start`` is negative or behind ``end``.
    """
    if start < 0 or (end is not None and end < start):
        raise ValueError(f"{start}..{end} is not a range of bytes; it must be 0 <= start <= end")


def check_address(address: object) -> None:
    """Refuse a value that is not an address; it becomes a part of a path.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(address, ContentAddress):
        raise TypeError(f"content is found by a ContentAddress, not by {address!r:.80}")
