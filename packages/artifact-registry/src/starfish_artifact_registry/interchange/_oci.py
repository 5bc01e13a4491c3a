"""OCI image layouts: a package as an artifact that container registries can store.

The layout follows the OCI image specification 1.1: ``oci-layout``, ``index.json`` and content by
SHA-256 below ``blobs/sha256``. The index names one image manifest:

* ``artifactType`` is `ARTIFACT_TYPE`
* ``config`` is the package's manifest, byte for byte, of type `MANIFEST_TYPE`
* ``layers`` are the files in the order of the package's manifest, each with its relative path as
  the annotation ``org.opencontainers.image.title``; a package without files has the empty layer

The same package always gives the same layout. ``oras cp --from-oci-layout`` and the like take it.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final, cast

from starfish_artifact_registry.errors import ImportRefusedError
from starfish_artifact_registry.interchange._new_folder import new_folder
from starfish_artifact_registry.interchange._package_source import (
    ContentReader,
    PackageSource,
    read_manifest,
)
from starfish_artifact_registry.interchange._source_folder import SourceFolder
from starfish_artifact_registry.limits import MAX_MANIFEST_BYTES
from starfish_artifact_registry.model._manifest import Manifest, ManifestFile
from starfish_protocol.address import ContentAddress

__all__ = ("ARTIFACT_TYPE", "MANIFEST_TYPE", "read_layout", "write_layout")

ARTIFACT_TYPE: Final = "application/vnd.starfish.registry.package.v1"
"""Type of the artifact that a package is."""
MANIFEST_TYPE: Final = "application/vnd.starfish.registry.manifest.v1+cbor"
"""Media type of a package's manifest."""

_INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
_IMAGE_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
_EMPTY_TYPE: Final = "application/vnd.oci.empty.v1+json"
_EMPTY: Final = b"{}"
_TITLE: Final = "org.opencontainers.image.title"
_LAYOUT: Final = {"imageLayoutVersion": "1.0.0"}
# RFC 6838 section 4.2: descriptors take no parameters such as charset.
_MEDIA_TYPE: Final = re.compile(
    r"[A-Za-z0-9][\w!#$&^.+-]{0,126}/[A-Za-z0-9][\w!#$&^.+-]{0,126}", re.ASCII
)
_MAX_INDEX_BYTES: Final = 4 * 1024 * 1024
_MAX_IMAGE_BYTES: Final = 64 * 1024 * 1024  # about 100,000 layers

_Json = dict[str, Any]


async def write_layout(
    target: Path, manifest: Manifest, manifest_bytes: bytes, read: ContentReader
) -> None:
    """Write a package as an OCI image layout; it is complete and on disk when this returns.

    Raises:
        ExportRefusedError: the target exists or cannot be written; nothing is left there.
        ContentDamagedError: stored content is not what the manifest says.
    """
    backends = {
        receipt.storage_location_id: receipt.backend_id for receipt in manifest.storage_receipts
    }
    image = _json_bytes(_image(manifest, manifest_bytes))
    index = {
        "schemaVersion": 2,
        "mediaType": _INDEX_TYPE,
        "manifests": [
            _descriptor(_IMAGE_TYPE, image)
            | {
                "artifactType": ARTIFACT_TYPE,
                "annotations": {"org.opencontainers.image.ref.name": str(manifest.package.id)},
            }
        ],
    }
    contents = {file.sha256: file for file in manifest.files}  # each once
    small = [image, manifest_bytes] + ([] if manifest.files else [_EMPTY])
    async with new_folder(target) as folder:
        for file in contents.values():
            await folder.write_content(
                _blob_path(file.sha256),
                file,
                read(file),
                backend_id=backends[file.storage_location_id],
            )
        for blob in small:
            address = ContentAddress.of(blob, "sha256")
            if address not in contents:
                await folder.write(_blob_path(address), blob)
        await folder.write("oci-layout", _json_bytes(_LAYOUT))
        await folder.write("index.json", _json_bytes(index))


async def read_layout(folder: SourceFolder, *, max_files: int) -> PackageSource:
    """Look a layout through: that it holds one package, and agrees with the package's manifest.

    Args:
        folder: the layout.
        max_files: layers that are accepted.

    Raises:
        ImportRefusedError: it is not a layout of one package, or does not hold what it says.
    """
    layout = await _read_json(folder, "oci-layout", _MAX_INDEX_BYTES)
    if layout.get("imageLayoutVersion") != _LAYOUT["imageLayoutVersion"]:
        raise ImportRefusedError("oci-layout", "imageLayoutVersion is not 1.0.0")
    index = await _read_json(folder, "index.json", _MAX_INDEX_BYTES)
    packages = await _packages(folder, index)
    if index.get("schemaVersion") != 2 or len(packages) != 1:
        raise ImportRefusedError(
            "index.json", f"it lists {len(packages)} artifacts of type {ARTIFACT_TYPE}, not one"
        )
    ((image_path, image),) = packages
    if (image.get("schemaVersion"), image.get("mediaType")) != (2, _IMAGE_TYPE):
        raise ImportRefusedError(image_path, f"it is not an image manifest of type {ARTIFACT_TYPE}")
    config = image.get("config")
    if type(config) is not dict:
        raise ImportRefusedError(image_path, "it has no config")
    path, manifest_bytes = await _read_blob(
        folder, cast("_Json", config), MANIFEST_TYPE, image_path
    )
    manifest = read_manifest(path, manifest_bytes)
    if len(manifest.files) > max_files:
        raise ImportRefusedError(path, f"more than {max_files} files")
    layers = _members(image, "layers", image_path)
    found: list[tuple[object, ...]] = [
        (layer.get("digest"), layer.get("size"), _title(layer), type(layer.get("size")))
        for layer in layers
        if layer.get("mediaType") != _EMPTY_TYPE or manifest.files
    ]
    wanted: list[tuple[object, ...]] = [
        (str(file.sha256), file.size, file.relative_path, int) for file in manifest.files
    ]
    if found != wanted:
        raise ImportRefusedError(image_path, "its layers are not the files of the package")

    def read(file: ManifestFile) -> AsyncIterator[bytes]:
        # Its SHA-256 is computed where the stream is stored, and compared with the manifest.
        return folder.stream(_blob_path(file.sha256), file.size)

    return PackageSource(manifest, manifest_bytes, read)


async def _packages(folder: SourceFolder, index: _Json) -> list[tuple[str, _Json]]:
    """Path and image manifest of each package; signatures and other artifacts may lie beside.

    The type in a descriptor is optional, and copies drop it: the manifest itself has it.
    """
    found: list[tuple[str, _Json]] = []
    for descriptor in _members(index, "manifests", "index.json"):
        if descriptor.get("artifactType") not in {None, ARTIFACT_TYPE}:
            continue
        if descriptor.get("mediaType") != _IMAGE_TYPE:
            continue
        path, data = await _read_blob(folder, descriptor, _IMAGE_TYPE, "index.json")
        image = _parse_json(path, data)
        if image.get("artifactType") == ARTIFACT_TYPE:
            found.append((path, image))
    return found


def _image(manifest: Manifest, manifest_bytes: bytes) -> _Json:
    return {
        "schemaVersion": 2,
        "mediaType": _IMAGE_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "config": _descriptor(MANIFEST_TYPE, manifest_bytes),
        "layers": [
            {
                "mediaType": file.media_type
                if _MEDIA_TYPE.fullmatch(file.media_type)
                else "application/octet-stream",
                "digest": str(file.sha256),
                "size": file.size,
                "annotations": {_TITLE: file.relative_path},
            }
            for file in manifest.files
        ]
        or [_descriptor(_EMPTY_TYPE, _EMPTY)],
        "annotations": {
            "org.opencontainers.image.created": manifest.package.finalized_at.isoformat(),
            _TITLE: manifest.package.name,
        },
    }


def _descriptor(media_type: str, blob: bytes) -> _Json:
    digest = str(ContentAddress.of(blob, "sha256"))
    return {"mediaType": media_type, "digest": digest, "size": len(blob)}


def _blob_path(address: ContentAddress) -> str:
    return f"blobs/{address.algorithm}/{address.digest.hex()}"


def _json_bytes(value: _Json) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


async def _read_blob(
    folder: SourceFolder, descriptor: Mapping[str, Any], media_type: str, where: str
) -> tuple[str, bytes]:
    """Path and bytes of a blob that is as its descriptor says."""
    if descriptor.get("mediaType") != media_type:
        raise ImportRefusedError(where, f"{descriptor.get('mediaType')!r:.80} is not {media_type}")
    try:
        address = ContentAddress.parse(cast("str", descriptor.get("digest")))
    except ValueError as error:
        raise ImportRefusedError(where, f"a descriptor has no digest: {error}") from error
    if address.algorithm != "sha256":
        raise ImportRefusedError(where, f"a digest by {address.algorithm}, not by sha256")
    path = _blob_path(address)
    limit = _MAX_IMAGE_BYTES if media_type == _IMAGE_TYPE else MAX_MANIFEST_BYTES
    data = await folder.read(path, limit)
    if type(descriptor.get("size")) is not int or descriptor["size"] != len(data):
        raise ImportRefusedError(path, f"it has {len(data)} bytes, not as its descriptor says")
    if ContentAddress.of(data, "sha256") != address:
        raise ImportRefusedError(path, "it does not have the digest of its name")
    return path, data


async def _read_json(folder: SourceFolder, path: str, max_bytes: int) -> _Json:
    return _parse_json(path, await folder.read(path, max_bytes))


def _parse_json(path: str, data: bytes) -> _Json:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ImportRefusedError(path, f"it is not JSON: {error}") from error
    if type(value) is not dict:
        raise ImportRefusedError(path, "it is not a JSON object")
    return cast("_Json", value)


def _members(value: Mapping[str, object], name: str, path: str) -> list[_Json]:
    members = value.get(name)
    found = cast("list[object]", members) if isinstance(members, list) else [None]
    objects = [cast("_Json", member) for member in found if isinstance(member, dict)]
    if len(objects) != len(found):
        raise ImportRefusedError(path, f"{name} is not a list of objects")
    return objects


def _title(layer: _Json) -> object:
    annotations = layer.get("annotations")
    return cast("_Json", annotations).get(_TITLE) if type(annotations) is dict else None
