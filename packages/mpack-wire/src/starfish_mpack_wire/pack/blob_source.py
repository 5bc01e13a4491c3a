"""Where a writer takes blobs from: by id, in the order it needs them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from starfish_mpack_wire.errors import MPackFormatError, MPackIntegrityError, ObjectNotFoundError
from starfish_mpack_wire.object_ids import blob_id, check_object_id
from starfish_mpack_wire.pack.blob_codec import StoredBlob, decompress
from starfish_mpack_wire.pack.given_records import BLOB, check_members
from starfish_mpack_wire.pack.layout import MAX_BLOB_CHAIN
from starfish_mpack_wire.records import BlobRecord

__all__ = ("BlobSource", "GivenBlobs")


class BlobSource(Protocol):
    """Gives the blobs of a pack one by one; `MPackReader` is one."""

    def blob(self, object_id: str) -> bytes:
        """Give the bytes of a blob.

        Raises:
            ObjectNotFoundError: it is not there.
        """
        ...

    def stored_blob(self, object_id: str) -> StoredBlob | None:
        """Give a blob as it is stored in some pack; ``None`` where it is stored in none."""
        ...


class GivenBlobs:
    """Blobs in memory, with their bytes or as they are stored in some pack.

    Raises:
        MPackFormatError: an id is malformed, or comes twice.
        MPackIntegrityError: bytes do not have the id that stands beside them.
    """

    def __init__(self, blobs: Iterable[BlobRecord | StoredBlob]) -> None:
        self._contents: dict[str, bytes] = {}
        self._stored: dict[str, StoredBlob] = {}
        for blob in blobs:
            if isinstance(blob, StoredBlob):
                object_id = check_object_id(blob.object_id)
                new = object_id not in self._contents and object_id not in self._stored
                self._stored[object_id] = blob
            else:
                check_members("blob", blob, BLOB)
                object_id, content = check_object_id(blob["object_id"]), blob["content"]
                actual = blob_id(content)
                if actual != object_id:
                    raise MPackIntegrityError("blob", object_id, actual)
                new = object_id not in self._contents and object_id not in self._stored
                self._contents[object_id] = content
            if not new:
                raise MPackFormatError(f"blob {object_id} comes twice")

    def ids(self) -> list[str]:
        """Give the ids of all blobs."""
        return [*self._contents, *self._stored]

    def blob(self, object_id: str) -> bytes:
        """Give the bytes of a blob, by way of its bases where that is needed."""
        chain: list[StoredBlob] = []
        here: str | None = object_id
        content: bytes | None = None
        while here is not None and content is None:
            content = self._contents.get(here)
            if content is None:
                if here not in self._stored:
                    raise ObjectNotFoundError(here)
                if len(chain) == MAX_BLOB_CHAIN:
                    raise MPackFormatError(f"blob {object_id} has more than {len(chain)} bases")
                chain.append(self._stored[here])
                here = chain[-1].base_id
        while chain:
            stored = chain.pop()
            content = (
                stored.data
                if stored.codec == "raw"
                else decompress(stored.data, stored.raw_length, content)
            )
        if content is None:
            raise ObjectNotFoundError(object_id)
        return content

    def stored_blob(self, object_id: str) -> StoredBlob | None:
        """Give a blob that was given as it is stored."""
        return self._stored.get(object_id)
