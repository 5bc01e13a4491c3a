"""Where a writer takes blobs from: by id, in the order it needs them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from starfish_mpack_wire._model.chunk_lists import Chunk, ChunkList
from starfish_mpack_wire._model.object_ids import blob_id, check_object_id
from starfish_mpack_wire._model.records import BlobRecord, ChunkedRecord
from starfish_mpack_wire._pack.cutting import cut, is_large
from starfish_mpack_wire._pack.frame import Bytes
from starfish_mpack_wire._pack.given_records import BLOB, CHUNKED, check_members
from starfish_mpack_wire.errors import MPackFormatError, MPackIntegrityError, ObjectNotFoundError

__all__ = ("BlobSource", "GivenBlobs")


class BlobSource(Protocol):
    """Gives the blobs of a pack one by one; `MPackReader` is one."""

    def chunk_lists(self, object_ids: Collection[str], /) -> Mapping[str, ChunkList]:
        """Return the chunks of those of the blobs that are large; the others are given as their bytes."""
        ...

    def blob(self, object_id: str) -> bytes:
        """Give the bytes of a blob.

        Raises:
            ObjectNotFoundError: it is not there.
        """
        ...


class GivenBlobs:
    """Blobs in memory; large ones are cut.

    Args:
        blobs: with their bytes.
        chunked: large blobs as lists of chunks, some of which are elsewhere.

    Raises:
        MPackFormatError: a record is not a blob, an id is malformed, or comes twice.
        MPackIntegrityError: bytes do not have the id that stands beside them.
    """

    def __init__(self, blobs: Iterable[BlobRecord], chunked: Iterable[ChunkedRecord] = ()) -> None:
        self._contents: dict[str, Bytes] = {}
        self._lists: dict[str, ChunkList] = {}
        self._given: set[str] = set()
        for blob in blobs:
            check_members("blob", blob, BLOB)
            self._refuse_second(check_object_id(blob["object_id"]))
            object_id, content = blob["object_id"], blob["content"]
            actual = blob_id(content)
            if actual != object_id:
                raise MPackIntegrityError("blob", object_id, actual)
            if is_large(len(content)):
                self._lists[object_id], chunks = cut(content)
                for chunk, data in chunks.items():
                    self._contents.setdefault(chunk, data)
            else:
                self._contents[object_id] = content
                self._given.add(object_id)
        for record in chunked:
            check_members("chunked", record, CHUNKED)
            self._refuse_second(check_object_id(record["object_id"]))
            self._lists[record["object_id"]] = tuple(
                Chunk(check_object_id(each), length) for each, length in record["chunks"]
            )

    def _refuse_second(self, object_id: str) -> None:
        if object_id in self._given or object_id in self._lists:
            raise MPackFormatError(f"blob {object_id} comes twice")

    def ids(self) -> list[str]:
        """Give the ids of all blobs, chunks included."""
        return [*self._contents, *self._lists]

    def chunk_lists(self, object_ids: Collection[str], /) -> Mapping[str, ChunkList]:
        """Return the chunks of large blobs."""
        return {each: self._lists[each] for each in object_ids if each in self._lists}

    def blob(self, object_id: str) -> bytes:
        """Give the bytes of a blob."""
        try:
            return bytes(self._contents[object_id])
        except KeyError:
            raise ObjectNotFoundError(object_id) from None
