"""The JSON texts that a store keeps of an append-only document.

The head is at the document's key and changes with every append; it holds the newest elements, the
tail. Sealed chunks hold the elements before it and never change. Appending to a tail is done on
the text, without reading the elements that are there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import orjson

from starfish_server.documents._errors import DamagedDocumentError
from starfish_server.documents._json_shapes import is_list, is_object

__all__ = ("Chunk", "Head", "chunk_key", "encode_chunk")

_HEAD = re.compile(
    rb'\{"v":1,"type":"append","log":"(?P<log>[0-9a-f]{16})","count":(?P<count>\d{1,16}),'
    rb'"ts":(?P<ts>\d{1,16}),"hash":"(?P<hash>[0-9a-f]{64})","chunks":(?P<chunks>\d{1,16}),'
    rb'"sealed":(?P<sealed>\d{1,16}),"sealedTs":(?P<sealed_ts>\d{1,16}),"tail":\['
)
_END = b"]}"


def chunk_key(key: str, log: str, index: int) -> str:
    """Where a sealed chunk is stored; ``~`` is in no document's key, so no client gets there."""
    return f"~append/{key}/~{log}.{index:010d}"


@dataclass(frozen=True, slots=True)
class Head:
    """The state of an append-only document that has at least one element."""

    log: str
    """Names the chunks; another one after a document has expired and begun again."""
    count: int
    """Elements ever appended."""
    ts: int
    """Time of the newest element."""
    hash: str
    chunks: int
    """Sealed chunks."""
    sealed: int
    """Elements in them."""
    sealed_ts: int
    """Time of the newest element in them, 0 when there are none."""
    tail: bytes
    """JSON of the elements after them, with commas between and without brackets."""

    @property
    def tail_count(self) -> int:
        """Elements in the tail."""
        return self.count - self.sealed

    @classmethod
    def parse(cls, key: str, text: bytes) -> Head:
        """Take a stored text apart.

        Raises:
            DamagedDocumentError: it is not a head.
        """
        found = _HEAD.match(text)
        if found is None or not text.endswith(_END):
            raise DamagedDocumentError(key, "it is not an append-only document")
        log, count, ts, hash_, chunks, sealed, sealed_ts = found.groups()
        tail = text[found.end() : -len(_END)]
        return cls(
            log.decode(),
            int(count),
            int(ts),
            hash_.decode(),
            int(chunks),
            int(sealed),
            int(sealed_ts),
            tail,
        )

    def encode(self) -> bytes:
        """The text to store."""
        return (
            b'{"v":1,"type":"append","log":"%b","count":%d,"ts":%d,"hash":"%b","chunks":%d,'
            b'"sealed":%d,"sealedTs":%d,"tail":[%b%b'
        ) % (
            self.log.encode(),
            self.count,
            self.ts,
            self.hash.encode(),
            self.chunks,
            self.sealed,
            self.sealed_ts,
            self.tail,
            _END,
        )

    def sealed_by(self, key: str, chunk: bytes) -> Head:
        """The head when the chunk, a beginning of its tail, is counted among its chunks.

        Raises:
            DamagedDocumentError: the chunk is none.
        """
        elements = Chunk.parse(key, chunk).elements
        return replace(
            self,
            chunks=self.chunks + 1,
            sealed=self.sealed + len(elements),
            sealed_ts=int(elements[-1]["ts"]),
            tail=self.tail[len(chunk) - 1 :],  # a bracket less, a comma more
        )

    def elements(self, key: str) -> list[dict[str, Any]]:
        """The elements of the tail.

        Raises:
            DamagedDocumentError: they are not JSON, or not as many as they should be.
        """
        return _elements(key, b"[%b]" % self.tail, self.tail_count)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Elements that will not change any more."""

    elements: list[dict[str, Any]]

    @classmethod
    def parse(cls, key: str, text: bytes) -> Chunk:
        """Read a stored chunk.

        Raises:
            DamagedDocumentError: it is none.
        """
        return cls(_elements(key, text, None))

    @property
    def first_ts(self) -> int:
        """Time of the oldest element."""
        return int(self.elements[0]["ts"])


def encode_chunk(head: Head) -> bytes:
    """The tail of a head as a chunk of its own: the same head gives the same text."""
    return b"[%b]" % head.tail


def _elements(key: str, text: bytes, count: int | None) -> list[dict[str, Any]]:
    try:
        elements = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise DamagedDocumentError(key, "its elements are not JSON") from error
    if (
        not is_list(elements)
        or not elements
        or (count is not None and len(elements) != count)
        or not all(is_object(each) and isinstance(each.get("ts"), int) for each in elements)
    ):
        raise DamagedDocumentError(key, "its elements are not those that were appended")
    return elements
