"""Where a writer takes blobs from: by id, in the order it needs them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from starfish_mpack_wire._model.object_ids import blob_id, check_object_id
from starfish_mpack_wire._model.records import BlobRecord
from starfish_mpack_wire._pack.given_records import BLOB, check_members
from starfish_mpack_wire.errors import MPackFormatError, MPackIntegrityError, ObjectNotFoundError

__all__ = ("BlobSource", "GivenBlobs")


class BlobSource(Protocol):
    """Gives the blobs of a pack one by one; `MPackReader` is one."""

    def blob(self, object_id: str) -> bytes:
        """Give the bytes of a blob.

        Raises:
            ObjectNotFoundError: it is not there.
        """
        ...


class GivenBlobs:
    """Blobs in memory.

    Raises:
        MPackFormatError: a record is not a blob, an id is malformed, or comes twice.
        MPackIntegrityError: bytes do not have the id that stands beside them.
    """

    def __init__(self, blobs: Iterable[BlobRecord]) -> None:
        self._contents: dict[str, bytes] = {}
        for blob in blobs:
            check_members("blob", blob, BLOB)
            object_id, content = check_object_id(blob["object_id"]), blob["content"]
            actual = blob_id(content)
            if actual != object_id:
                raise MPackIntegrityError("blob", object_id, actual)
            if object_id in self._contents:
                raise MPackFormatError(f"blob {object_id} comes twice")
            self._contents[object_id] = content

    def ids(self) -> list[str]:
        """Give the ids of all blobs."""
        return list(self._contents)

    def blob(self, object_id: str) -> bytes:
        """Give the bytes of a blob."""
        try:
            return self._contents[object_id]
        except KeyError:
            raise ObjectNotFoundError(object_id) from None
