"""The events of the registry: one class for each fact, the version in its name.

A class is never changed once it was released: a new form of a fact is a new class ``v2.…`` beside
the old one, which stays readable. Every event is about one package, named in its envelope. The
values are checked when an object is made, so both on append and on replay.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, ClassVar, Final, Literal
from uuid import UUID, uuid5

from starfish_artifact_registry.errors import InvalidValueError
from starfish_artifact_registry.limits import MAX_MEDIA_TYPE_BYTES, MAX_SIZE, MAX_TEXT_BYTES
from starfish_artifact_registry.model._manifest import Manifest
from starfish_artifact_registry.model._package_metadata import check_metadata
from starfish_artifact_registry.model._relative_path import check_relative_path
from starfish_protocol.address import ContentAddress

__all__ = (
    "EVENT_TYPES",
    "NO_PACKAGE",
    "ClockConfirmed",
    "ContentRepaired",
    "EventPayload",
    "FileIngested",
    "FixityChecked",
    "PackageCreated",
    "PackageDeleted",
    "PackageExpired",
    "PackageFinalized",
    "PackageImported",
    "RetentionHeld",
    "RetentionReleased",
    "check_media_type",
    "check_text",
    "storage_location_id",
)

_STORAGE_LOCATIONS: Final = UUID("8d0f3c1e-6b6f-5d0e-9c55-0c4b8ad0a4f7")
NO_PACKAGE: Final = UUID(int=0)
"""In the place of the package's id, in events that are about the registry as a whole."""
_CONTROL: Final = re.compile("[\x00-\x1f\x7f]")
_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_MEDIA_TYPE: Final = re.compile(
    rf"{_WORD}/{_WORD}(?:[ \t]*;[ \t]*{_WORD}="
    rf'(?:{_WORD}|"(?:[^"\\\x00-\x1f\x7f-\U0010ffff]|\\[\x20-\x7e])*"))*'
)


@lru_cache(maxsize=4096)
def storage_location_id(backend_id: str, content_address: ContentAddress) -> UUID:
    """Id of the place of some content in a backend: UUID version 5 (RFC 9562), always the same.

    Examples:
        >>> storage_location_id("local", ContentAddress.of(b""))
        UUID('042ba729-492c-5581-ba7d-0392ec7fe184')
    """
    return uuid5(_STORAGE_LOCATIONS, f"{content_address}@{backend_id}")


def check_text(field: str, text: object) -> None:
    """Return if this is a text that an event can hold.

    Raises:
        InvalidValueError: it is empty, has a control character, is not Unicode text or longer than
            `MAX_TEXT_BYTES`.
    """
    legal = f"a text of 1 to {MAX_TEXT_BYTES} bytes in UTF-8 without control characters"
    if type(text) is not str or not text or _CONTROL.search(text):
        raise InvalidValueError(field, text, legal)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidValueError(field, text, legal) from None
    if size > MAX_TEXT_BYTES:
        raise InvalidValueError(field, text, legal)


def check_media_type(media_type: object) -> None:
    """Return if this is a media type (RFC 9110 section 8.3.1).

    Raises:
        InvalidValueError: it is not, or is longer than `MAX_MEDIA_TYPE_BYTES`.
    """
    if (
        type(media_type) is not str
        or len(media_type) > MAX_MEDIA_TYPE_BYTES
        or _MEDIA_TYPE.fullmatch(media_type) is None
    ):
        legal = f"a media type of at most {MAX_MEDIA_TYPE_BYTES} bytes, such as 'text/plain'"
        raise InvalidValueError("media_type", media_type, legal)


def _check_count(field: str, count: int, *, least: int = 0) -> None:
    if type(count) is not int or not least <= count <= MAX_SIZE:
        raise InvalidValueError(field, count, f"an integer from {least} to 2**53 - 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageCreated:
    """A package was created; it takes files from now on."""

    event_type: ClassVar[str] = "v1.package.created"
    name: str
    """What its producer calls it."""
    producer: str
    """Who or what makes the files."""
    subject: str
    """What they are about."""
    retention_class: str
    """How long it must be kept, by name."""
    retention_days: int | None
    """The same in days, as the table of classes said at that time; ``None`` is for ever."""
    metadata: dict[str, Any]
    """What the user added: an object of JSON values."""

    def __post_init__(self) -> None:
        for name in ("name", "producer", "subject", "retention_class"):
            check_text(name, getattr(self, name))
        if self.retention_days is not None:
            _check_count("retention_days", self.retention_days)
        check_metadata(self.metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileIngested:
    """A file was added; its bytes were durable before the event was written."""

    event_type: ClassVar[str] = "v1.file.ingested"
    file_id: UUID
    """Its id."""
    relative_path: str
    """Where it is in the package."""
    media_type: str
    """What it is."""
    size: int
    """Length in bytes."""
    content_address: ContentAddress
    """BLAKE3 of the bytes, under which the backend has them."""
    sha256: ContentAddress
    """SHA-256 of the same bytes."""
    backend_id: str
    """The backend that took them."""
    storage_location_id: UUID
    """`storage_location_id` of the backend and the address."""
    facts: dict[str, Any] = field(default_factory=dict[str, Any], metadata={"omit_empty": True})
    """What the source said of the file: ``modified_at``, ``mode``, ``original_path`` and the like."""

    def __post_init__(self) -> None:
        check_relative_path(self.relative_path)
        if self.facts:
            check_metadata(self.facts)
        check_media_type(self.media_type)
        _check_count("size", self.size)
        check_text("backend_id", self.backend_id)
        for name, algorithm in (("content_address", "blake3"), ("sha256", "sha256")):
            address: ContentAddress = getattr(self, name)
            if address.algorithm != algorithm:
                raise InvalidValueError(name, str(address), f"an address by {algorithm}")
        if self.storage_location_id != storage_location_id(self.backend_id, self.content_address):
            legal = "the id computed from backend_id and content_address"
            raise InvalidValueError("storage_location_id", str(self.storage_location_id), legal)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageFinalized:
    """The package is complete; nothing is added any more. The payload is the manifest itself."""

    event_type: ClassVar[str] = "v1.package.finalized"
    manifest: Manifest
    """What the package holds; BLAKE3 of its bytes is the payload's digest and its address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FixityChecked:
    """The stored bytes of a package were hashed again."""

    event_type: ClassVar[str] = "v1.fixity.checked"
    files_checked: int
    """Files that were looked at."""
    bytes_checked: int
    """Bytes that were hashed."""
    missing: tuple[UUID, ...]
    """Ids of the files whose bytes are gone, sorted as the files are."""
    changed: tuple[UUID, ...]
    """Ids of the files whose bytes are others, sorted as the files are."""

    def __post_init__(self) -> None:
        _check_count("files_checked", self.files_checked)
        _check_count("bytes_checked", self.bytes_checked)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionHeld:
    """A hold was placed: the package must not go, whatever its date."""

    event_type: ClassVar[str] = "v1.retention.held"
    hold_id: UUID
    """Names this hold among those of the package."""
    reason: str
    """Why."""

    def __post_init__(self) -> None:
        check_text("reason", self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionReleased:
    """A hold was lifted."""

    event_type: ClassVar[str] = "v1.retention.released"
    hold_id: UUID
    """Which one."""
    reason: str
    """Why."""

    def __post_init__(self) -> None:
        check_text("reason", self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageExpired:
    """The retention date passed and nothing held the package: it may be deleted."""

    event_type: ClassVar[str] = "v1.package.expired"
    retain_until: datetime
    """The date that passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageDeleted:
    """The package was deleted: a tombstone; its bytes go when no other package refers to them."""

    event_type: ClassVar[str] = "v1.package.deleted"
    reason: str
    """Why."""

    def __post_init__(self) -> None:
        check_text("reason", self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockConfirmed:
    """Somebody has confirmed that the registry's clock is right; of no package, see `NO_PACKAGE`."""

    event_type: ClassVar[str] = "v1.clock.confirmed"
    reason: str
    """How that is known."""

    def __post_init__(self) -> None:
        check_text("reason", self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentRepaired:
    """A damaged or lost copy of a file's content was replaced by good bytes."""

    event_type: ClassVar[str] = "v1.content.repaired"
    content_address: ContentAddress
    """BLAKE3 of the content that is whole again."""
    backend_id: str
    """The backend that holds it."""
    source: str
    """Where the good bytes came from: ``ingest``, ``import``, or a path or name of a storage."""

    def __post_init__(self) -> None:
        check_text("backend_id", self.backend_id)
        check_text("source", self.source)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageImported:
    """A package came from elsewhere; the events before this one tell what its manifest says."""

    event_type: ClassVar[str] = "v1.package.imported"
    source_format: Literal["bagit", "oci"]
    """The form it came in: a BagIt bag or an OCI image layout."""


EventPayload = (
    PackageCreated
    | FileIngested
    | PackageFinalized
    | FixityChecked
    | RetentionHeld
    | RetentionReleased
    | PackageImported
    | ContentRepaired
    | ClockConfirmed
    | PackageExpired
    | PackageDeleted
)
"""What an event says."""

EVENT_TYPES: Final[dict[str, type[EventPayload]]] = {
    payload.event_type: payload
    for payload in (
        PackageCreated,
        FileIngested,
        PackageFinalized,
        FixityChecked,
        RetentionHeld,
        RetentionReleased,
        PackageImported,
        ContentRepaired,
        ClockConfirmed,
        PackageExpired,
        PackageDeleted,
    )
}
"""Each class by the type that the envelope names."""
