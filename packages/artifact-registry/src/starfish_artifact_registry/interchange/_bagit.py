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
import unicodedata
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Final

from starfish_artifact_registry.errors import (
    ExportRefusedError,
    ImportRefusedError,
    InvalidRelativePathError,
)
from starfish_artifact_registry.interchange._new_folder import new_folder
from starfish_artifact_registry.interchange._package_source import (
    ContentReader,
    ForeignFile,
    ForeignPackage,
    PackageSource,
    read_manifest,
)
from starfish_artifact_registry.interchange._source_folder import SourceFolder
from starfish_artifact_registry.limits import MAX_MANIFEST_BYTES
from starfish_artifact_registry.model._manifest import Manifest, ManifestFile
from starfish_artifact_registry.model._relative_path import check_relative_path
from starfish_protocol.address import ContentAddress

__all__ = ("BAG_MANIFEST_PATH", "payload_path", "read_bag", "write_bag")

BAG_MANIFEST_PATH: Final = "starfish/manifest.cbor"
"""Where the package's manifest is in a bag."""

_ALGORITHMS: Final = ("sha256", "sha512")
_DECLARATION: Final = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
_DECLARED: Final = re.compile(
    rb"\s*BagIt-Version[ \t]*:[ \t]*([0-9]+)\.([0-9]+)[ \t]*(?:\r\n|\r|\n)"
    rb"Tag-File-Character-Encoding[ \t]*:[ \t]*([A-Za-z0-9._:-]{1,40})\s*"
)
_VERSIONS: Final = {(0, 93), (0, 94), (0, 95), (0, 96), (0, 97), (1, 0)}
_KNOWN_ALGORITHMS: Final = {"md5", "sha1", "sha224", "sha256", "sha384", "sha512"}
_OXUM: Final = re.compile(r"([0-9]{1,20})\.([0-9]{1,20})")
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


async def read_bag(folder: SourceFolder, *, max_files: int) -> PackageSource | ForeignPackage:
    """Look a bag through: that it is complete and valid by RFC 8493.

    A bag that a registry wrote must agree with the package's manifest in it. Nothing is fetched:
    files that ``fetch.txt`` lists must be there.

    Args:
        folder: the bag.
        max_files: payload files that are accepted.

    Raises:
        ImportRefusedError: it is not a valid bag, or does not hold what it says.
    """
    names = await folder.names()
    encoding, is_old = _declared(await folder.read("bagit.txt", _MAX_TAG_FILE_BYTES))
    await _check_tag_files(folder, names, encoding)
    payload = await _read_checksums(folder, names, "manifest", encoding)
    if not payload:
        raise ImportRefusedError("manifest-sha256.txt", "no manifest of a known algorithm is there")
    actual = await _payload_files(folder, max_files)
    listed = {algorithm: set(checksums) for algorithm, checksums in payload.items()}
    for algorithm, paths in listed.items():
        # Before version 1.0 each file had to be in one of the manifests, not in all of them.
        expected = paths & set(actual) if is_old else set(actual)
        _agree(f"manifest-{algorithm}.txt", paths, expected, "a file of the bag")
    everywhere = {path for paths in listed.values() for path in paths}
    _agree("data", set(actual), everywhere, "in a manifest")
    if "fetch.txt" in names:
        _check_fetched(await folder.read("fetch.txt", _MAX_CHECKSUMS_BYTES), encoding, set(actual))
    sizes = {path: await folder.size(there) for path, there in actual.items()}
    info: dict[str, str | list[str]] = {}
    if "bag-info.txt" in names:
        info = _parse_info((await folder.read("bag-info.txt", _MAX_TAG_FILE_BYTES)), encoding)
        _check_oxum(info, list(sizes.values()))
    if "starfish" in names and await folder.has_file(BAG_MANIFEST_PATH):
        return await _own_package(folder, payload, actual, max_files)
    return _foreign_package(folder, payload, actual, sizes, info)


async def _own_package(
    folder: SourceFolder,
    payload: dict[str, dict[str, str]],
    actual: dict[str, str],
    max_files: int,
) -> PackageSource:
    manifest_bytes = await folder.read(BAG_MANIFEST_PATH, MAX_MANIFEST_BYTES)
    manifest = read_manifest(BAG_MANIFEST_PATH, manifest_bytes)
    files = {_nfc(payload_path(file.relative_path)): file for file in manifest.files}
    if len(files) > max_files:
        raise ImportRefusedError(BAG_MANIFEST_PATH, f"more than {max_files} files")
    _agree("data", set(actual), set(files), "a file of the package")
    for path, file in files.items():
        wanted = file.sha256.digest.hex()
        if payload.get("sha256", {}).get(path, wanted) != wanted:
            raise ImportRefusedError(path, f"manifest-sha256.txt does not say {file.sha256}")
    return PackageSource(manifest, manifest_bytes, partial(_content, folder, payload, actual))


def _foreign_package(
    folder: SourceFolder,
    payload: dict[str, dict[str, str]],
    actual: dict[str, str],
    sizes: dict[str, int],
    info: dict[str, str | list[str]],
) -> ForeignPackage:
    files: list[ForeignFile] = []
    for path, there in sorted(actual.items(), key=lambda item: item[0].encode()):
        relative_path = path.removeprefix("data/")
        try:
            check_relative_path(relative_path)
        except InvalidRelativePathError as error:
            raise ImportRefusedError(path, error.reason) from error
        digests = {name: sums[path] for name, sums in payload.items() if path in sums}
        files.append(ForeignFile(relative_path, there, sizes[path], digests))
    return ForeignPackage(info, tuple(files), lambda file: folder.stream(file.path, file.size))


def _declared(declaration: bytes) -> tuple[str, bool]:
    """The encoding of the tag files, and whether the bag is older than version 1.0."""
    match = _DECLARED.fullmatch(declaration.removeprefix(b"\xef\xbb\xbf"))
    version = (0, 0) if match is None else (int(match[1]), int(match[2]))
    if match is None or version not in _VERSIONS:
        raise ImportRefusedError("bagit.txt", "it does not declare a version from 0.93 to 1.0")
    encoding = match[3].decode("ascii")
    try:
        "".encode(encoding)  # refuses codecs that are not of text
    except LookupError:
        raise ImportRefusedError(
            "bagit.txt", f"the encoding {encoding!r:.60} is not known"
        ) from None
    return encoding, version < (1, 0)


async def _payload_files(folder: SourceFolder, max_files: int) -> dict[str, str]:
    """Where each payload file is, by its path in NFC: some disks decompose names."""
    found: dict[str, str] = {}
    for path in sorted(await folder.files_below("data", max_files)):
        if found.setdefault(_nfc(path), path) != path:
            raise ImportRefusedError(path, "two files have this name, written in two ways")
    return found


async def _check_tag_files(folder: SourceFolder, names: set[str], encoding: str) -> None:
    tags = await _read_checksums(folder, names, "tagmanifest", encoding)
    for algorithm, checksums in tags.items():
        name = f"tagmanifest-{algorithm}.txt"
        if "starfish" in names and BAG_MANIFEST_PATH not in checksums:
            raise ImportRefusedError(name, f"it does not cover {BAG_MANIFEST_PATH}")
        for path, checksum in checksums.items():
            data = await folder.read(path, MAX_MANIFEST_BYTES)
            if hashlib.new(algorithm, data, usedforsecurity=False).hexdigest() != checksum:
                raise ImportRefusedError(path, f"it is not what {name} says")


async def _read_checksums(
    folder: SourceFolder, names: set[str], kind: str, encoding: str
) -> dict[str, dict[str, str]]:
    """Checksum by path, by algorithm; manifests by algorithms that nobody knows are left out."""
    found: dict[str, dict[str, str]] = {}
    for name in sorted(names):
        prefix, _, written = name.removesuffix(".txt").partition("-")
        algorithm = written.lower().replace("-", "")
        if prefix != kind or not name.endswith(".txt") or algorithm not in _KNOWN_ALGORITHMS:
            continue
        data = await folder.read(name, _MAX_CHECKSUMS_BYTES)
        found[algorithm] = _parse_checksums(name, data, encoding)
    return found


def _parse_checksums(name: str, data: bytes, encoding: str) -> dict[str, str]:
    checksums: dict[str, str] = {}
    for line in _lines(name, data, encoding):
        match = _LINE.fullmatch(line)
        if match is None:
            raise ImportRefusedError(name, f"{line!r:.100} is not a checksum and a path")
        path = _path(name, match[2])
        if path in checksums:
            raise ImportRefusedError(name, f"{path!r:.300} is there twice")
        checksums[path] = match[1].lower()
    return checksums


def _check_fetched(data: bytes, encoding: str, there: set[str]) -> None:
    for line in _lines("fetch.txt", data, encoding):
        parts = line.split(None, 2)
        if len(parts) != 3:
            raise ImportRefusedError(
                "fetch.txt", f"{line!r:.100} is not an URL, a length and a path"
            )
        path = _path("fetch.txt", parts[2])
        if path not in there:
            raise ImportRefusedError(
                "fetch.txt", f"{path!r:.300} must be fetched first from {parts[0]!r:.200}"
            )


def _lines(name: str, data: bytes, encoding: str) -> list[str]:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ImportRefusedError(name, f"it is not {encoding}") from error
    return [line for line in re.split("\r\n|\r|\n", text.removeprefix("\ufeff")) if line]


def _path(name: str, written: str) -> str:
    path = _ENCODED.sub(lambda code: chr(int(code[0][1:], 16)), written)
    while path.startswith("./"):
        path = path[2:]
    if path.startswith("/") or {"", ".", ".."} & set(path.split("/")) or "\0" in path:
        raise ImportRefusedError(name, f"{path!r:.300} leads out of the bag")
    return _nfc(path)


def _agree(where: str, found: set[str], expected: set[str], kind: str) -> None:
    if missing := expected - found:
        raise ImportRefusedError(where, f"{min(missing)!r:.300} is missing")
    if odd := found - expected:
        raise ImportRefusedError(where, f"{min(odd)!r:.300} is not {kind}")


def _parse_info(data: bytes, encoding: str) -> dict[str, str | list[str]]:
    """The fields of ``bag-info.txt``; a value may go on in indented lines, a field may repeat."""
    fields: list[list[str]] = []
    for line in _lines("bag-info.txt", data, encoding):
        if line[0] in " \t" and fields:
            fields[-1][1] += f" {line.strip()}"
            continue
        name, _, value = line.partition(":")
        fields.append([name.strip(), value.strip()])
    found: dict[str, str | list[str]] = {}
    for name, value in fields:
        known = found.get(name)
        if known is None:
            found[name] = value
        else:
            found[name] = [*(known if isinstance(known, list) else [known]), value]
    return found


def _check_oxum(info: dict[str, str | list[str]], sizes: list[int]) -> None:
    match = _OXUM.fullmatch(str(info.get("Payload-Oxum", "")))
    if match is not None and (int(match[1]), int(match[2])) != (sum(sizes), len(sizes)):
        raise ImportRefusedError("bag-info.txt", f"Payload-Oxum is not {sum(sizes)}.{len(sizes)}")


async def _content(
    folder: SourceFolder,
    payload: dict[str, dict[str, str]],
    actual: dict[str, str],
    file: ManifestFile,
) -> AsyncIterator[bytes]:
    path = _nfc(payload_path(file.relative_path))
    # SHA-256 is computed where the stream is stored, and compared with the package's manifest.
    wanted = {
        name: sums[path] for name, sums in payload.items() if name != "sha256" and path in sums
    }
    hashers = {name: hashlib.new(name, usedforsecurity=False) for name in wanted}
    async for chunk in folder.stream(actual[path], file.size):
        for hasher in hashers.values():
            await asyncio.to_thread(hasher.update, chunk)
        yield chunk
    for name, hasher in hashers.items():
        if hasher.hexdigest() != wanted[name]:
            raise ImportRefusedError(path, f"it is not what manifest-{name}.txt says")


def _nfc(path: str) -> str:
    return unicodedata.normalize("NFC", path)


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
