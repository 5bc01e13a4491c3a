"""An object as it is stored: a header that says everything about the value, then the value.

The header holds the number of the write, so two writes of one content differ in their bytes, and a
storage whose etag is a digest of the content cannot take one for the other.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from starfish_server.errors import StoreUnavailableError
from starfish_server.storage.values import Metadata

__all__ = ("Envelope", "Head", "packed", "unpacked")

_MAGIC = b"SFV1"
_LENGTH = 4
_REMEMBERED = 48
"""Writes that a header names: more than happen to one key while one request is under way."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """The header of an object."""

    key: str
    write_id: int
    generation: int
    written_at: int
    size: int
    content_type: str
    hash: str | None = None
    expires_at: int | None = None
    blob: str | None = None
    """Name of the object that holds the body; ``None`` when it follows the header."""
    is_deleted: bool = False
    """A tombstone: the object stays, since storages cannot delete on a condition."""
    replaced: tuple[int, ...] = ()
    """Numbers of the writes before this one, newest first, as far as they are remembered: a request
    that was repeated and refused finds there that its first try landed, and was replaced since."""

    def following(self) -> tuple[int, ...]:
        """What the next version remembers as replaced."""
        return (self.write_id, *self.replaced)[:_REMEMBERED]


@dataclass(frozen=True, slots=True)
class Head:
    """A header, and the version of the object that it was read from."""

    envelope: Envelope
    tag: str
    """The storage's own etag."""
    offset: int
    """Where the body begins."""

    def is_live(self, now: int) -> bool:
        """Whether the key has a value."""
        expires_at = self.envelope.expires_at
        return not self.envelope.is_deleted and (expires_at is None or expires_at > now)

    def metadata(self) -> Metadata:
        """As the contract tells it."""
        envelope = self.envelope
        return Metadata(
            etag=str(envelope.write_id),
            size=envelope.size,
            content_type=envelope.content_type,
            hash=envelope.hash,
            written_at=envelope.written_at,
            expires_at=envelope.expires_at,
            write_id=envelope.write_id,
            generation=envelope.generation,
        )


def packed(envelope: Envelope, body: bytes) -> bytes:
    """The bytes of an object."""
    header: dict[str, Any] = {
        "k": envelope.key,
        "w": envelope.write_id,
        "g": envelope.generation,
        "t": envelope.written_at,
        "n": envelope.size,
        "c": envelope.content_type,
    }
    optional = {
        "h": envelope.hash,
        "x": envelope.expires_at,
        "b": envelope.blob,
        "d": envelope.is_deleted or None,
        "r": envelope.replaced or None,
    }
    header |= {name: value for name, value in optional.items() if value is not None}
    text = json.dumps(header, separators=(",", ":")).encode()
    return b"".join((_MAGIC, len(text).to_bytes(_LENGTH, "big"), text, body))


def unpacked(data: bytes, tag: str, location: str) -> Head:
    """The header at the beginning of an object.

    Raises:
        StoreUnavailableError: it is not an object of this store.
    """
    start = len(_MAGIC) + _LENGTH
    length = int.from_bytes(data[len(_MAGIC) : start], "big")
    text = data[start : start + length] if data[: len(_MAGIC)] == _MAGIC else b""
    try:
        header = json.loads(text)
        envelope = Envelope(
            header["k"], header["w"], header["g"], header["t"], header["n"], header["c"]
        )
        envelope = replace(
            envelope,
            hash=header.get("h"),
            expires_at=header.get("x"),
            blob=header.get("b"),
            is_deleted=header.get("d", False),
            replaced=tuple(header.get("r", ())),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise StoreUnavailableError(location, "an object is not one of a document store") from error
    return Head(envelope, tag, start + length)
