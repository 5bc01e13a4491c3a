"""One zstd frame (RFC 8878): what blocks of blobs and groups of records are stored as.

Compression is a pure function of the bytes and the release of zstd. Decompression never makes more
bytes than were declared, nor reserves more than `MAX_WINDOW_LOG` says for them.
"""

from __future__ import annotations

import sys
from typing import Final

from starfish_mpack_wire.errors import MPackFormatError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ("Bytes", "compress", "decompress")

Bytes = bytes | bytearray | memoryview

LEVEL: Final = 3
MAX_WINDOW_LOG: Final = 23
"""Frames that want more than 8 MiB of memory are refused; RFC 8878 promises readers for as many."""

_COMPRESSION: Final[dict[int, int]] = {
    zstd.CompressionParameter.compression_level: LEVEL,
    zstd.CompressionParameter.content_size_flag: 1,
    zstd.CompressionParameter.checksum_flag: 0,
    zstd.CompressionParameter.dict_id_flag: 0,
}
_DECOMPRESSION: Final[dict[int, int]] = {zstd.DecompressionParameter.window_log_max: MAX_WINDOW_LOG}


def compress(content: Bytes) -> bytes:
    """Give the frame of some bytes."""
    return zstd.compress(content, options=_COMPRESSION)


def decompress(frame: Bytes, length: int) -> bytes:
    """Give the bytes of one frame that must make exactly as many as were declared.

    Raises:
        MPackFormatError: it is not a single frame, or makes more or fewer bytes.
    """
    try:
        decompressor = zstd.ZstdDecompressor(options=_DECOMPRESSION)
        # One byte more than is wanted, so that a frame that goes on shows itself.
        content = decompressor.decompress(frame, length + 1)
    except zstd.ZstdError as error:
        raise MPackFormatError(f"a zstd frame is damaged: {error}") from error
    if len(content) != length or not decompressor.eof or decompressor.unused_data:
        raise MPackFormatError(f"a zstd frame is not one of exactly {length} bytes")
    return content
