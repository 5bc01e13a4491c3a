"""How the bytes of a blob are stored: as they are, or as one zstd frame, perhaps upon a base.

Compression is a pure function of the bytes, those of the base, and the release of zstd.
Decompression never makes more bytes than were declared, nor reserves more than `MAX_WINDOW` for them.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final, Literal

from starfish_mpack_wire.errors import MPackFormatError
from starfish_mpack_wire.pack.layout import MIN_COMPRESSED_BYTES

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ("BlobCompressor", "Bytes", "Codec", "StoredBlob", "compress_chunk", "decompress")

Bytes = bytes | bytearray | memoryview
Codec = Literal["raw", "zstd"]

LEVEL: Final = 3
WINDOW_LOG: Final = 21
MAX_WINDOW_LOG: Final = 23
"""Frames that want more than 8 MiB of memory are refused; RFC 8878 promises readers for as many."""

_COMPRESSION: Final[dict[int, int]] = {
    zstd.CompressionParameter.compression_level: LEVEL,
    zstd.CompressionParameter.content_size_flag: 1,
    zstd.CompressionParameter.checksum_flag: 0,
    zstd.CompressionParameter.dict_id_flag: 0,
}
_DECOMPRESSION: Final[dict[int, int]] = {zstd.DecompressionParameter.window_log_max: MAX_WINDOW_LOG}


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob as it stands in a pack, to be copied into another without decompressing it."""

    object_id: str
    """Its id; whoever made the pack promised that it fits."""
    codec: Codec
    """How ``data`` is to be read."""
    raw_length: int
    """Bytes of the blob itself."""
    data: bytes
    """The stored bytes."""
    base_id: str | None = None
    """The blob whose bytes the frame has as its prefix."""


class BlobCompressor:
    """Makes frames of blobs; for one thread at a time.

    Frames without a base share the memory of one compressor, which makes small ones three times as
    fast; that the bytes stay those of a new one is tested.
    """

    def __init__(self) -> None:
        self._plain = zstd.ZstdCompressor(options=_COMPRESSION)

    def compress(self, content: Bytes, base: Bytes | None) -> bytes | None:
        """Give the frame of a blob, or ``None`` when it is stored as it is."""
        if len(content) < MIN_COMPRESSED_BYTES:
            return None
        compressor = self._plain
        if base:
            prefix = zstd.ZstdDict(bytes(base), is_raw=True).as_prefix
            compressor = zstd.ZstdCompressor(options=_COMPRESSION, zstd_dict=prefix)
        frame = compressor.compress(content, zstd.ZstdCompressor.FLUSH_FRAME)
        return frame if len(frame) < len(content) else None


def compress_chunk(records: bytes) -> bytes:
    """Give the frame of a chunk of records."""
    return zstd.compress(records, options=_COMPRESSION)


def decompress(frame: Bytes, raw_length: int, base: Bytes | None = None) -> bytes:
    """Give the bytes of one frame that must make exactly as many as were declared.

    Raises:
        MPackFormatError: it is no single frame, or makes more or fewer bytes.
    """
    try:
        prefix = zstd.ZstdDict(bytes(base), is_raw=True).as_prefix if base else None
        decompressor = zstd.ZstdDecompressor(prefix, _DECOMPRESSION)
        # One byte more than is wanted, so that a frame that goes on shows itself.
        content = decompressor.decompress(frame, raw_length + 1)
    except (zstd.ZstdError, ValueError) as error:  # the second is about a base of 1 to 7 bytes
        raise MPackFormatError(f"a zstd frame is damaged: {error}") from error
    if len(content) != raw_length or not decompressor.eof or decompressor.unused_data:
        raise MPackFormatError(f"a zstd frame is not one of exactly {raw_length} bytes")
    return content
