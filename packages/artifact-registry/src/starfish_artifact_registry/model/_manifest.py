"""What a finalized package holds: one value with one canonical encoding, and so one address.

The CBOR of a manifest is a map of these fields; times are integer milliseconds since the epoch,
ids are lowercase texts with hyphens, content addresses are ``<algorithm>:<lowercase hex>``:

* ``manifest_version``: 1
* ``package``: ``id``, ``name``, ``producer``, ``subject``, ``retention_class``, ``status``
  (always ``finalized``), ``metadata`` (an object), ``created_at``, ``created_by``,
  ``finalized_at``, ``finalized_by``
* ``files``, sorted by the UTF-8 bytes of ``relative_path``: ``id``, ``relative_path``,
  ``media_type``, ``size``, ``content_address`` (BLAKE3), ``sha256``, ``ingested_at``,
  ``ingested_by``, ``storage_location_id``
* ``storage_receipts``, sorted by the text of ``storage_location_id``, each named by a file:
  ``storage_location_id``, ``backend_id``, ``content_address``, ``size``
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from starfish_artifact_registry.errors import ManifestError
from starfish_artifact_registry.limits import MAX_MANIFEST_BYTES, MAX_SIZE
from starfish_artifact_registry.model._package_metadata import check_metadata
from starfish_artifact_registry.model._plain_values import from_plain, to_plain
from starfish_artifact_registry.model._relative_path import check_relative_path
from starfish_protocol import cbor
from starfish_protocol.address import ContentAddress
from starfish_protocol.hash import stable_stringify

__all__ = (
    "MANIFEST_VERSION",
    "Manifest",
    "ManifestFile",
    "ManifestPackage",
    "StorageReceipt",
    "assemble",
    "decode",
    "encode",
    "to_json",
)

MANIFEST_VERSION: Final = 1
"""The only version there is; a reader of another refuses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestPackage:
    """The package itself, as it was when it was finalized."""

    id: str
    """Its id: a UUID in lowercase with hyphens."""
    name: str
    """What its producer calls it."""
    producer: str
    """Who or what made the files."""
    subject: str
    """What they are about."""
    retention_class: str
    """How long it must be kept; a name from the table of retention classes."""
    status: Literal["finalized"] = "finalized"
    """Always ``finalized``."""
    metadata: dict[str, Any]
    """What the user added when creating it."""
    created_at: datetime
    """When it was created, aware UTC."""
    created_by: str
    """The actor who did."""
    finalized_at: datetime
    """When it was finalized, aware UTC."""
    finalized_by: str
    """The actor who did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestFile:
    """One file of the package."""

    id: UUID
    """Its id."""
    relative_path: str
    """Where it is in the package; no two files share one."""
    media_type: str
    """What it is, such as ``text/plain``."""
    size: int
    """Length in bytes."""
    content_address: ContentAddress
    """BLAKE3 of its bytes."""
    sha256: ContentAddress
    """SHA-256 of its bytes."""
    ingested_at: datetime
    """When it was ingested, aware UTC."""
    ingested_by: str
    """The actor who did."""
    storage_location_id: UUID
    """Which of the receipts is its own."""
    facts: dict[str, Any] = field(default_factory=dict[str, Any], metadata={"omit_empty": True})
    """What its source said of it; left out of the encoding where it is empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageReceipt:
    """Where some content was stored."""

    storage_location_id: UUID
    """Its id, computed from the next two."""
    backend_id: str
    """The backend that took it."""
    content_address: ContentAddress
    """BLAKE3 of the bytes."""
    size: int
    """Length in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A finalized package, whole.

    Raises:
        ManifestError: files or receipts are unsorted, double, or do not belong together.
    """

    manifest_version: int = MANIFEST_VERSION
    """Always 1."""
    package: ManifestPackage
    """The package itself."""
    files: tuple[ManifestFile, ...]
    """Its files, sorted by path."""
    storage_receipts: tuple[StorageReceipt, ...]
    """Where their content was stored, sorted by id."""

    def __post_init__(self) -> None:
        if self.manifest_version != MANIFEST_VERSION:
            raise ManifestError(f"manifest version {self.manifest_version!r:.20} is not 1")
        _strictly_sorted("files", [file.relative_path.encode() for file in self.files])
        receipts = {str(receipt.storage_location_id): receipt for receipt in self.storage_receipts}
        _strictly_sorted(
            "storage_receipts",
            [str(one.storage_location_id).encode() for one in self.storage_receipts],
        )
        for file in self.files:
            receipt = receipts.get(str(file.storage_location_id))
            if receipt is None or (receipt.content_address, receipt.size) != (
                file.content_address,
                file.size,
            ):
                raise ManifestError(f"the file at {file.relative_path!r:.300} has no receipt")
        if len({file.storage_location_id for file in self.files}) != len(receipts):
            raise ManifestError("a storage receipt belongs to no file")


def encode(manifest: Manifest) -> bytes:
    """Encode a manifest as deterministic CBOR; equal manifests give equal bytes.

    The address of the manifest is BLAKE3 of exactly these bytes.

    Raises:
        ManifestError: it is longer than `MAX_MANIFEST_BYTES` bytes.
    """
    data = cbor.encode(to_plain(manifest))
    if len(data) > MAX_MANIFEST_BYTES:
        raise ManifestError(f"a manifest of {len(data)} bytes; the limit is {MAX_MANIFEST_BYTES}")
    return data


def assemble(package: bytes, files: Sequence[bytes], receipts: Sequence[bytes]) -> bytes:
    """Join the encoded parts of a manifest to the bytes that `encode` gives for the whole.

    Args:
        package: the CBOR of a `ManifestPackage`.
        files: the CBOR of each `ManifestFile`, sorted by path.
        receipts: the CBOR of each `StorageReceipt`, sorted by id.

    Raises:
        ManifestError: it is longer than `MAX_MANIFEST_BYTES` bytes.
    """
    members = {
        "manifest_version": cbor.encode(MANIFEST_VERSION),
        "package": package,
        "files": _list(files),
        "storage_receipts": _list(receipts),
    }
    keys = sorted((cbor.encode(name), value) for name, value in members.items())
    data = bytes([0xA0 | len(keys)]) + b"".join(part for pair in keys for part in pair)
    if len(data) > MAX_MANIFEST_BYTES:
        raise ManifestError(f"a manifest of {len(data)} bytes; the limit is {MAX_MANIFEST_BYTES}")
    return data


def _list(items: Sequence[bytes]) -> bytes:
    # The head of a list is that of a number of its length, of another major type.
    head = bytearray(cbor.encode(len(items)))
    head[0] |= 0x80
    return bytes(head) + b"".join(items)


def decode(data: bytes) -> Manifest:
    """Read a manifest; encoding it again gives the same bytes.

    Raises:
        ManifestError: it is not the deterministic CBOR of a manifest of version 1.
    """
    try:
        plain = cbor.decode(data, max_bytes=MAX_MANIFEST_BYTES)
        manifest = from_plain(Manifest, plain)
        _check_values(manifest)
    except ManifestError:
        raise
    except ValueError as error:
        raise ManifestError(f"not a manifest of version {MANIFEST_VERSION}: {error}") from error
    return manifest


def to_json(manifest: Manifest) -> bytes:
    """Give the same content as canonical JSON (RFC 8785), in UTF-8."""
    return stable_stringify(to_plain(manifest)).encode()


def _check_values(manifest: Manifest) -> None:
    """What the types do not say, for a manifest that came from outside."""
    if str(UUID(manifest.package.id)) != manifest.package.id:
        raise ManifestError(f"package.id {manifest.package.id!r:.80} is not a UUID in lowercase")
    check_metadata(manifest.package.metadata)
    for file in manifest.files:
        check_relative_path(file.relative_path)
        if file.content_address.algorithm != "blake3" or file.sha256.algorithm != "sha256":
            raise ManifestError(f"the file at {file.relative_path!r:.300} has swapped digests")
        if not 0 <= file.size <= MAX_SIZE:
            raise ManifestError(f"the file at {file.relative_path!r:.300} has size {file.size}")


def _strictly_sorted(field: str, keys: Sequence[bytes]) -> None:
    if list(keys) != sorted(set(keys)):
        raise ManifestError(f"{field} of a manifest are not sorted, or one is there twice")
