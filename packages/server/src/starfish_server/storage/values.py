"""What a store holds under a key, and the conditions of a write.

A value is bytes with a content type; a text is its UTF-8. So either kind can be read as the other,
as on any object storage, and a key has one value whichever call wrote it.
"""

from __future__ import annotations

import enum
import secrets
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from starfish_server.errors import StoreError

__all__ = (
    "ABSENT",
    "ANY",
    "TEXT_CONTENT_TYPE",
    "Match",
    "Metadata",
    "Position",
    "Precondition",
    "Removed",
    "StoreLimits",
    "Stored",
    "Value",
    "Written",
    "as_text",
    "check_limit",
    "check_text",
    "new_write_id",
)

TEXT_CONTENT_TYPE = "application/json"
"""Content type of a text that was stored without one: documents are JSON."""

Position: TypeAlias = str
"""An opaque place in a change log, bound to the log's epoch; see `starfish_server.storage.changes`."""


def new_write_id() -> int:
    """Draw the random number by which a writer recognises its own write.

    It fits a signed 64-bit integer and is never 0, which stands for "not known".
    """
    return secrets.randbits(63) | 1


@dataclass(frozen=True, slots=True)
class Value:
    """What a writer puts under a key.

    Examples:
        >>> Value(b"{}", hash="ab" * 32).content_type
        'application/json'
    """

    body: bytes
    """The bytes."""
    content_type: str = TEXT_CONTENT_TYPE
    """Media type of the bytes."""
    hash: str | None = None
    """Hash of the content as the writer defines it, 64 hex digits; ``None`` when it has none."""
    written_at: int | None = None
    """Time of the write, milliseconds since the epoch; ``None`` for the store's own clock."""
    expires_at: int | None = None
    """From this time on, in milliseconds since the epoch, the key reads as absent."""
    write_id: int = field(default_factory=new_write_id)
    """Recognises this write when its answer was lost: at least 1, at most 2**63 - 1. One write, one
    number: make a new value for the next write."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a store tells about a value without reading it."""

    etag: str
    """Opaque version; equal etags of one key mean equal bytes."""
    size: int
    """Bytes of the body."""
    content_type: str
    """Media type of the bytes."""
    hash: str | None
    """As the writer gave it; ``None`` for a value of an older store or writer."""
    written_at: int
    """Time of the write, milliseconds since the epoch; 0 when it is not known."""
    expires_at: int | None
    """From when on the key reads as absent; ``None`` for never."""
    write_id: int
    """Number of the write that made this version; 0 when it is not known."""
    generation: int
    """Writes of this key so far, this one included; 0 where the store does not count them."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A value as it was read; after `ObjectStore.read_range` the body is the part asked for."""

    body: bytes
    """The bytes."""
    metadata: Metadata
    """Of the whole value."""

    def text(self, key: str) -> str:
        """Decode the body as UTF-8.

        Args:
            key: named in the error.

        Raises:
            StoreError: the bytes are not UTF-8.
        """
        return as_text(key, self.body)


@dataclass(frozen=True, slots=True)
class Written:
    """What a write did."""

    etag: str
    """Of the new version."""
    generation: int
    """Writes of this key so far; 0 where the store does not count them."""
    position: Position | None = None
    """Of the recorded change; ``None`` when none was recorded."""


@dataclass(frozen=True, slots=True)
class Removed:
    """What a delete did."""

    existed: bool
    """Whether the key had a value."""
    position: Position | None = None
    """Of the recorded tombstone; ``None`` when none was recorded."""


class _Condition(enum.Enum):
    ABSENT = "absent"
    ANY = "any"


ABSENT: Final = _Condition.ABSENT
"""The key must not have a value; an expired one counts as none."""
ANY: Final = _Condition.ANY
"""The write happens whatever the key holds."""


@dataclass(frozen=True, slots=True)
class Match:
    """The key must hold the version with this etag."""

    etag: str


Precondition: TypeAlias = Match | Literal[_Condition.ABSENT, _Condition.ANY]
"""What must hold for a write to happen: `ABSENT`, `ANY` or `Match`."""


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """What a store can hold."""

    key_bytes: int = 1024
    """Bytes of UTF-8 in a key."""
    value_bytes: int = 2**31 - 1
    """Bytes of a value."""


def check_text(key: str, body: str) -> str:
    """Return the text if it has a UTF-8 form.

    Raises:
        ValueError: it holds a lone surrogate; the message names the key.
    """
    if not body.isascii():
        try:
            body.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"text for key {key!r} has a lone surrogate at character {error.start}; "
                "a text must have a UTF-8 form"
            ) from error
    return body


def as_text(key: str, value: bytes) -> str:
    """Decode stored bytes as UTF-8.

    Raises:
        StoreError: the bytes are not UTF-8.
    """
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise StoreError(
            f"the bytes of key {key!r} are not a UTF-8 text; read them with get_bytes"
        ) from error


def check_limit(limit: int | None) -> int | None:
    """Return the limit of a listing if it is one.

    Raises:
        ValueError: it is negative.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"limit is {limit}; it must be None or at least 0")
    return limit
