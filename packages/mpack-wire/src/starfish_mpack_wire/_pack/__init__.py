"""The format of a pack: writing, reading in place, taking apart."""

from starfish_mpack_wire._pack.blob_source import BlobSource
from starfish_mpack_wire._pack.parser import parse_wire_mpack
from starfish_mpack_wire._pack.reader import MPackReader
from starfish_mpack_wire._pack.writer import WrittenPack, build_mpack, write_mpack

__all__ = (
    "BlobSource",
    "MPackReader",
    "WrittenPack",
    "build_mpack",
    "parse_wire_mpack",
    "write_mpack",
)
