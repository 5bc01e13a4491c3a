"""The manifest of a finalized package: its fields, its CBOR and its JSON."""

from starfish_artifact_registry.model._manifest import (
    MANIFEST_VERSION,
    Manifest,
    ManifestFile,
    ManifestPackage,
    StorageReceipt,
    decode,
    encode,
    to_json,
)

__all__ = (
    "MANIFEST_VERSION",
    "Manifest",
    "ManifestFile",
    "ManifestPackage",
    "StorageReceipt",
    "decode",
    "encode",
    "to_json",
)
