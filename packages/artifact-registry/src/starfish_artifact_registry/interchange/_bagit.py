"""BagIt bags (RFC 8493): a package as a folder of its files, with checksums beside it.

======================================  ==========================================================
in the bag                              what
======================================  ==========================================================
``data/…``                              the files at their relative paths, see `payload_path`
``manifest-sha256.txt``, ``-sha512``    checksum and path of each of them
``starfish/manifest.cbor``              the package's manifest, byte for byte
``bagit.txt``, ``bag-info.txt``         version 1.0; ids and sizes
``tagmanifest-sha256.txt``, ``-sha512`` checksums of everything that is not below ``data``
======================================  ==========================================================

The same package always gives the same bag.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Final

from starfish_artifact_registry.errors import ExportRefusedError, ImportRefusedError
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

__all__ = ("BAG_MANIFEST_PATH", "payload_path", "read_bag", "write_bag")

BAG_MANIFEST_PATH: Final = "starfish/manifest.cbor"
"""Where the package's manifest is in a bag."""

_ALGORITHMS: Final = ("sha256", "sha512")
_DECLARATION: Final = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
_KNOWN_DECLARATION: Final = re.compile(
    rb"BagIt-Version: (?:0\.97|1\.0)\r?\nTag-File-Character-Encoding: UTF-8\r?\n?"
)
_OXUM: Final = re.compile(r"^Payload-Oxum: *([0-9]{1,20})\.([0-9]{1,20})\s*$", re.MULTILINE)
_LINE: Final = re.compile(r"([0-9A-Fa-f]+)[ \t]+\*?(.+)", re.DOTALL)
_ENCODED: Final = re.compile("%(?:0[AaDd]|25)")
_MAX_TAG_FILE_BYTES: Final = 1024 * 1024
_MAX_CHECKSUMS_BYTES: Final = 128 * 1024 * 1024
_MAX_NAME_BYTES: Final = 255  # of a file system's folder entry

# RFC 8493 writes CR, LF and % in a manifest as %0D, %0A and %25; the bagit library writes % as it
# is. It also breaks lines wherever Unicode does, and strips white space at their end. A name
# without any of these means the same to everybody.
_ESCAPED: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029%^]|\s\Z")


def payload_path(relative_path: str) -> str:
    r"""Where a bag has the file of this relative path.

    Control characters, line separators, ``%``, ``^`` and white space at the very end become ``^``
    and two hex digits for each of their UTF-8 bytes, so that tools which read bags differently find
    the same file. No two paths become one.

    Examples:
        >>> payload_path("logs/day 1.txt")
        'data/logs/day 1.txt'
        >>> payload_path("100%\n.txt")
        'data/100^25^0A.txt'
    """
    return "data/" + _ESCAPED.sub(
        lambda match: "".join(f"^{byte:02X}" for byte in match[0].encode()), relative_path
    )


async def write_bag(
    target: Path, manifest: Manifest, manifest_bytes: bytes, read: ContentReader
) -> None:
    """Write a package as a bag; it is complete and on disk when this returns.

    Raises:
        ExportRefusedError: the target exists or cannot be written, a name is too long for a file,
            or one file would be a folder to another; nothing is left at the target.
        ContentDamagedError: stored content is not what the manifest says.
    """
    _check_names(manifest)
    backends = {
        receipt.storage_location_id: receipt.backend_id for receipt in manifest.storage_receipts
    }
    async with new_folder(target) as folder:
        await folder.make_folder("data")
        digests: dict[str, dict[str, str]] = {}
        for file in manifest.files:
            path = payload_path(file.relative_path)
            digests[path] = await folder.write_content(
                path,
                file,
                read(file),
                backend_id=backends[file.storage_location_id],
                algorithms=_ALGORITHMS,
            )
        tags = {
            "bagit.txt": _DECLARATION,
            "bag-info.txt": _bag_info(manifest, manifest_bytes),
            BAG_MANIFEST_PATH: manifest_bytes,
        }
        for name in _ALGORITHMS:
            tags[f"manifest-{name}.txt"] = _checksums(
                {path: digest[name] for path, digest in digests.items()}
            )
        for name in _ALGORITHMS:
            checksums = {path: hashlib.new(name, data).hexdigest() for path, data in tags.items()}
            await folder.write(f"tagmanifest-{name}.txt", _checksums(checksums))
        for path, data in tags.items():
            await folder.write(path, data)


async def read_bag(folder: SourceFolder, *, max_files: int) -> PackageSource:
    """Look a bag through: that it is complete, and agrees with the package's manifest.

    Nothing is fetched: a bag with ``fetch.txt`` is refused.

    Args:
        folder: the bag.
        max_files: payload files that are accepted.

    Raises:
        ImportRefusedError: it is not a bag of a package, or does not hold what it says.
    """
    names = await folder.names()
    if "fetch.txt" in names:
        raise ImportRefusedError("fetch.txt", "a bag that must be completed first")
    declaration = await folder.read("bagit.txt", _MAX_TAG_FILE_BYTES)
    if _KNOWN_DECLARATION.fullmatch(declaration) is None:
        raise ImportRefusedError("bagit.txt", "it does not declare version 1.0 or 0.97 in UTF-8")
    await _check_tag_files(folder, names)
    manifest_bytes = await folder.read(BAG_MANIFEST_PATH, MAX_MANIFEST_BYTES)
    manifest = read_manifest(BAG_MANIFEST_PATH, manifest_bytes)
    files = {payload_path(file.relative_path): file for file in manifest.files}
    if len(files) > max_files:
        raise ImportRefusedError(BAG_MANIFEST_PATH, f"more than {max_files} files")
    payload = await _read_checksums(folder, names, "manifest")
    for algorithm, checksums in payload.items():
        _agree(f"manifest-{algorithm}.txt", set(checksums), set(files))
    for path, file in files.items():
        if (
            payload.get("sha256", {}).get(path, file.sha256.digest.hex())
            != file.sha256.digest.hex()
        ):
            raise ImportRefusedError(path, f"manifest-sha256.txt does not say {file.sha256}")
    _agree("data", await folder.files_below("data", max_files), set(files))
    if "bag-info.txt" in names:
        _check_oxum(await folder.read("bag-info.txt", _MAX_TAG_FILE_BYTES), manifest)
    return PackageSource(manifest, manifest_bytes, partial(_content, folder, payload))


async def _check_tag_files(folder: SourceFolder, names: set[str]) -> None:
    tags = await _read_checksums(folder, names, "tagmanifest")
    for algorithm, checksums in tags.items():
        name = f"tagmanifest-{algorithm}.txt"
        if BAG_MANIFEST_PATH not in checksums:
            raise ImportRefusedError(name, f"it does not cover {BAG_MANIFEST_PATH}")
        for path, checksum in checksums.items():
            data = await folder.read(path, MAX_MANIFEST_BYTES)
            if hashlib.new(algorithm, data).hexdigest() != checksum:
                raise ImportRefusedError(path, f"it is not what {name} says")


async def _read_checksums(
    folder: SourceFolder, names: set[str], kind: str
) -> dict[str, dict[str, str]]:
    """Checksum by path, by algorithm."""
    found: dict[str, dict[str, str]] = {}
    for name in sorted(names):
        prefix, _, algorithm = name.removesuffix(".txt").partition("-")
        if prefix != kind or not name.endswith(".txt"):
            continue
        if algorithm not in _ALGORITHMS:
            raise ImportRefusedError(name, f"checksums are read by {' and '.join(_ALGORITHMS)}")
        found[algorithm] = _parse_checksums(name, await folder.read(name, _MAX_CHECKSUMS_BYTES))
    if not found:
        raise ImportRefusedError(f"{kind}-sha256.txt", "it is missing, and so is the one by sha512")
    return found


def _parse_checksums(name: str, data: bytes) -> dict[str, str]:
    checksums: dict[str, str] = {}
    try:
        lines = re.split("\r\n|\r|\n", data.decode())
    except UnicodeDecodeError as error:
        raise ImportRefusedError(name, "it is not UTF-8") from error
    for line in filter(None, lines):
        match = _LINE.fullmatch(line)
        if match is None:
            raise ImportRefusedError(name, f"{line!r:.100} is not a checksum and a path")
        path = _ENCODED.sub(lambda code: chr(int(code[0][1:], 16)), match[2])
        if path in checksums:
            raise ImportRefusedError(name, f"{path!r:.300} is there twice")
        if path.startswith("/") or {"", ".", ".."} & set(path.split("/")) or "\0" in path:
            raise ImportRefusedError(name, f"{path!r:.300} leads out of the bag")
        checksums[path] = match[1].lower()
    return checksums


def _agree(where: str, found: set[str], expected: set[str]) -> None:
    if missing := expected - found:
        raise ImportRefusedError(where, f"{min(missing)!r:.300} is missing")
    if odd := found - expected:
        raise ImportRefusedError(where, f"{min(odd)!r:.300} is not a file of the package")


def _check_oxum(bag_info: bytes, manifest: Manifest) -> None:
    match = _OXUM.search(bag_info.decode("utf-8", "replace"))
    sizes = [file.size for file in manifest.files]
    if match is not None and (int(match[1]), int(match[2])) != (sum(sizes), len(sizes)):
        raise ImportRefusedError("bag-info.txt", f"Payload-Oxum is not {sum(sizes)}.{len(sizes)}")


async def _content(
    folder: SourceFolder, payload: dict[str, dict[str, str]], file: ManifestFile
) -> AsyncIterator[bytes]:
    path = payload_path(file.relative_path)
    # SHA-256 is computed where the stream is stored, and compared with the package's manifest.
    wanted = {name: sums[path] for name, sums in payload.items() if name != "sha256"}
    hashers = {name: hashlib.new(name) for name in wanted}
    async for chunk in folder.stream(path, file.size):
        for hasher in hashers.values():
            await asyncio.to_thread(hasher.update, chunk)
        yield chunk
    for name, hasher in hashers.items():
        if hasher.hexdigest() != wanted[name]:
            raise ImportRefusedError(path, f"it is not what manifest-{name}.txt says")


def _check_names(manifest: Manifest) -> None:
    files = {payload_path(file.relative_path): file.relative_path for file in manifest.files}
    for path, relative_path in files.items():
        parts = path.split("/")
        if max(len(part.encode()) for part in parts) > _MAX_NAME_BYTES:
            reason = (
                f"a name of more than {_MAX_NAME_BYTES} bytes in its path; an OCI layout has none"
            )
            raise ExportRefusedError(relative_path, reason)
        for depth in range(2, len(parts)):
            if "/".join(parts[:depth]) in files:
                reason = "another file stands where its folder should be; an OCI layout has none"
                raise ExportRefusedError(relative_path, reason)


def _checksums(checksums: dict[str, str]) -> bytes:
    return "".join(f"{checksum}  {path}\n" for path, checksum in sorted(checksums.items())).encode()


def _bag_info(manifest: Manifest, manifest_bytes: bytes) -> bytes:
    sizes = [file.size for file in manifest.files]
    fields = {
        "Bagging-Date": manifest.package.finalized_at.date().isoformat(),
        "External-Identifier": f"urn:uuid:{manifest.package.id}",
        "Payload-Oxum": f"{sum(sizes)}.{len(sizes)}",
        "Starfish-Manifest-Digest": str(ContentAddress.of(manifest_bytes)),
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items()).encode()
