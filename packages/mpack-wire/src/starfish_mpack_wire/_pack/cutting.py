"""Where a large blob is cut: where its content says so, so that an edit changes the chunks around it only.

FastCDC (Xia and others, 2020) with the gear table of the paper, normalized chunking of level 1. The numbers are part of
the format (docs/mpack-format.md): another program that cuts the same way finds the same chunks. Readers accept any
chunks, so the promise is about what travels and not about what can be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pyfastcdc import FastCDC

from starfish_mpack_wire._model.chunk_lists import Chunk, ChunkList
from starfish_mpack_wire._model.object_ids import blob_id
from starfish_mpack_wire._pack.frame import Bytes
from starfish_mpack_wire._pack.layout import MAX_STORED_BYTES

__all__ = ("CHUNK_SIZES", "cut", "cut_stream", "is_large")

CHUNK_SIZES: Final = (16 * 1024, 64 * 1024, 256 * 1024)
"""Smallest (but for the last of a blob), wanted and largest chunk, in bytes."""


def _cutter() -> FastCDC:
    # One for each blob: it is not safe to share between threads.
    smallest, wanted, largest = CHUNK_SIZES
    return FastCDC(wanted, min_size=smallest, max_size=largest, normalized_chunking=1, seed=0)


def is_large(length: int) -> bool:
    """Return whether a blob of so many bytes is kept as chunks."""
    return length > MAX_STORED_BYTES


def cut(content: Bytes) -> tuple[ChunkList, dict[str, memoryview]]:
    """Return the chunks of a large blob, and the bytes of each.

    Examples:
        >>> chunks, contents = cut(bytes(2 * 1024 * 1024))
        >>> {chunk.length for chunk in chunks}, len(chunks), len(contents)
        ({262144}, 8, 1)
    """
    contents: dict[str, memoryview] = {}
    chunks: list[Chunk] = []
    for piece in _cutter().cut_buf(content):
        data = memoryview(piece.data)
        object_id = blob_id(data)
        contents.setdefault(object_id, data)
        chunks.append(Chunk(object_id, len(data)))
    return tuple(chunks), contents


def cut_stream(stream: Any) -> Iterator[memoryview]:
    """Return the chunks of a file opened for reading; each is valid until the next is asked for."""
    return (piece.data for piece in _cutter().cut_stream(stream))
