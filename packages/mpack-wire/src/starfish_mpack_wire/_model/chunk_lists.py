"""How a large blob is kept: as the list of the chunks whose bytes, one after the other, are its own.

A chunk is a blob like every other, so two large blobs that have parts in common have chunks in common.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Final, NamedTuple

from starfish_mpack_wire._model.object_ids import digest_of, object_id_of
from starfish_mpack_wire.errors import MPackFormatError, MPackIntegrityError

__all__ = (
    "Chunk",
    "ChunkList",
    "checked_pieces",
    "chunk_ids",
    "decode_chunk_list",
    "encode_chunk_list",
    "length_of",
)


class Chunk(NamedTuple):
    """One chunk of a large blob."""

    object_id: str
    length: int
    """Bytes."""


ChunkList = tuple[Chunk, ...]
"""The chunks of a large blob, first to last."""

_ENTRY: Final = struct.Struct(">32sI")


def length_of(chunks: ChunkList) -> int:
    """Return the length of a large blob in bytes."""
    return sum(chunk.length for chunk in chunks)


def chunk_ids(lists: Mapping[str, ChunkList]) -> set[str]:
    """Return the ids of all chunks of several large blobs."""
    return {chunk.object_id for chunks in lists.values() for chunk in chunks}


def encode_chunk_list(chunks: ChunkList) -> bytes:
    """Return 36 bytes a chunk: its digest and its length."""
    return b"".join(_ENTRY.pack(digest_of(chunk.object_id), chunk.length) for chunk in chunks)


def decode_chunk_list(data: bytes) -> ChunkList:
    """Return the list that `encode_chunk_list` wrote.

    Raises:
        MPackFormatError: the bytes are not such a list.

    Examples:
        >>> chunks = (Chunk("sha256:" + "0" * 64, 5),)
        >>> decode_chunk_list(encode_chunk_list(chunks)) == chunks
        True
    """
    if not data or len(data) % _ENTRY.size:
        raise MPackFormatError(f"{len(data)} bytes are not a list of chunks")
    return tuple(Chunk(object_id_of(digest), length) for digest, length in _ENTRY.iter_unpack(data))


def checked_pieces(
    object_id: str, chunks: Iterable[Chunk], read: Callable[[str], bytes]
) -> Iterator[bytes]:
    """Return the chunks of a large blob one by one, so that it is never in memory as a whole.

    The id is checked with the last piece: write the pieces where they can still be thrown away.

    Args:
        object_id: the large blob.
        chunks: its list.
        read: gives the bytes of a chunk, checked against its id.

    Raises:
        MPackFormatError: a chunk has another length than the list says.
        MPackIntegrityError: the bytes are not those of the id; raised after the last piece.
    """
    found = sha256()
    for chunk in chunks:
        piece = read(chunk.object_id)
        if len(piece) != chunk.length:
            raise MPackFormatError(
                f"the chunk {chunk.object_id} of {object_id} has {len(piece)} bytes, "
                f"its list says {chunk.length}"
            )
        found.update(piece)
        yield piece
    actual = object_id_of(found.digest())
    if actual != object_id:
        raise MPackIntegrityError("blob", object_id, actual)
