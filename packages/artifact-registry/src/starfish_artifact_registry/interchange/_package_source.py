"""What a bag and a layout have in common once they were looked through."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from starfish_artifact_registry.errors import ImportRefusedError, ManifestError
from starfish_artifact_registry.model import _manifest as manifests
from starfish_artifact_registry.model._manifest import Manifest, ManifestFile

__all__ = ("ContentReader", "ForeignFile", "ForeignPackage", "PackageSource", "read_manifest")

ContentReader = Callable[[ManifestFile], AsyncIterator[bytes]]
"""Gives the bytes of a file of a package."""


@dataclass(frozen=True, slots=True)
class PackageSource:
    """A package outside of a registry; its structure was checked, its content was not yet read."""

    manifest: Manifest
    """What it says it holds."""
    manifest_bytes: bytes
    """The same as it was finalized."""
    read: ContentReader
    """Reads a file, and raises `ImportRefusedError` at its end if it is not what it should be."""


@dataclass(frozen=True, slots=True)
class ForeignFile:
    """A file of a package that another program made."""

    relative_path: str
    """Where it goes, in NFC."""
    path: str
    """Where it is in the folder."""
    size: int
    """Length in bytes."""
    digests: dict[str, str]
    """Digests that its bytes must have, in hex, by algorithm of ``hashlib``."""


@dataclass(frozen=True, slots=True)
class ForeignPackage:
    """A package that another program made: it has no manifest of a registry."""

    info: dict[str, str | list[str]]
    """What it says of itself."""
    files: tuple[ForeignFile, ...]
    """Its files."""
    read: Callable[[ForeignFile], AsyncIterator[bytes]]
    """Reads a file."""


def read_manifest(path: str, data: bytes) -> Manifest:
    """Read the manifest that came with a package.

    Raises:
        ImportRefusedError: it is none.
    """
    try:
        return manifests.decode(data)
    except ManifestError as error:
        raise ImportRefusedError(path, str(error)) from error
