"""Lists of chunks as msgpack: an array of the numbers of the chunks and their lengths, four bytes each."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from starfish_mpack_wire._model.chunk_lists import ChunkList
from starfish_mpack_wire._pack.layout import MAX_STORED_BYTES
from starfish_mpack_wire._pack.record_codec import array_of, pack_each, unpack_group
from starfish_mpack_wire.errors import MPackFormatError, MPackLimitError
from starfish_mpack_wire.limits import Limits

__all__ = ("DecodedChunks", "check_lengths", "decode_chunk_lists", "encode_chunks")

_MEMBERS = 2


class DecodedChunks(NamedTuple):
    """A list with the numbers of its chunks."""

    numbers: tuple[int, ...]
    lengths: tuple[int, ...]


def encode_chunks(chunks: ChunkList, number_of: Callable[[str], int]) -> bytes:
    """Return the bytes of a list.

    Raises:
        MPackFormatError: it is not a list that a large blob may have.
        MPackLimitError: the blob is too large for any pack.
    """
    lengths = [chunk.length for chunk in chunks]
    check_lengths(lengths, Limits(max_blob_bytes=1 << 63))
    width = f">{len(chunks)}I"
    numbers = [number_of(chunk.object_id) for chunk in chunks]
    return pack_each([[struct.pack(width, *numbers), struct.pack(width, *lengths)]])


def check_lengths(lengths: list[int] | tuple[int, ...], limits: Limits) -> None:
    """Return if a large blob may have chunks of these lengths.

    Raises:
        MPackFormatError: a chunk is empty or too large, or the blob is small enough to be stored as its bytes.
        MPackLimitError: the blob is larger than the limits allow.
    """
    if lengths and not 0 < min(lengths) <= max(lengths) <= MAX_STORED_BYTES:
        raise MPackFormatError(
            f"chunks of {min(lengths)} to {max(lengths)} bytes; each must have 1 to {MAX_STORED_BYTES}"
        )
    total = sum(lengths)
    if total <= MAX_STORED_BYTES:
        raise MPackFormatError(
            f"a list of chunks for a blob of {total} bytes; one of at most {MAX_STORED_BYTES} must be stored "
            "as it is"
        )
    if total > limits.max_blob_bytes:
        raise MPackLimitError("max_blob_bytes", total, limits.max_blob_bytes)


def decode_chunk_lists(data: bytes, count: int, limits: Limits) -> Iterator[DecodedChunks]:
    """Return the lists of a group.

    Raises:
        MPackFormatError: the bytes are not those that `encode_chunks` makes of such lists.
        MPackLimitError: a blob is larger than the limits allow.
    """
    records = unpack_group(data, count, _MEMBERS)
    for record in records:
        numbers, lengths = array_of(_MEMBERS, record, "list of chunks")
        if type(numbers) is not bytes or type(lengths) is not bytes:
            raise MPackFormatError("a list of chunks has members of other types")
        if len(numbers) != len(lengths) or len(numbers) % 4:
            raise MPackFormatError(
                f"a list of chunks has {len(numbers)} bytes of numbers and {len(lengths)} of lengths"
            )
        width = f">{len(numbers) // 4}I"
        decoded = DecodedChunks(struct.unpack(width, numbers), struct.unpack(width, lengths))
        check_lengths(decoded.lengths, limits)
        yield decoded
    if pack_each(records) != data:
        raise MPackFormatError("lists of chunks are not in their one encoding")
