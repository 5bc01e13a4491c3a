"""Bags and layouts as one file: zip and tar archives, unpacked beside everything else.

Rule: only regular files and folders come out, at paths below the folder, and no more of them and
no more bytes than allowed.
"""

from __future__ import annotations

import tarfile
import tempfile
import zipfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Final

from starfish_artifact_registry.errors import ImportRefusedError

__all__ = ("unpacked",)

_MAX_BYTES: Final = 64 * 1024**3
"""Bytes that an archive may unpack to."""
_CHUNK: Final = 1024 * 1024


@contextmanager
def unpacked(archive: Path, *, max_files: int) -> Generator[Path]:
    """A folder with the content of an archive, gone at the end; blocking.

    An archive of a single folder gives that folder.

    Raises:
        ImportRefusedError: the file is not an archive, or holds links, odd paths or too much.
    """
    with tempfile.TemporaryDirectory(prefix="starfish-import-") as made:
        folder = Path(made)
        try:
            if zipfile.is_zipfile(archive):
                with zipfile.ZipFile(archive) as opened:
                    _unpack(folder, _of_zip(archive, opened), max_files)
            elif tarfile.is_tarfile(archive):
                with tarfile.open(archive) as opened_tar:
                    _unpack(folder, _of_tar(archive, opened_tar), max_files)
            else:
                raise ImportRefusedError(str(archive), "it is neither a folder nor a zip or tar")
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, RuntimeError) as error:
            raise ImportRefusedError(str(archive), f"it cannot be unpacked: {error}") from error
        inside = list(folder.iterdir())
        yield inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _of_zip(archive: Path, opened: zipfile.ZipFile) -> Iterator[tuple[str, IO[bytes]]]:
    for entry in opened.infolist():
        if entry.external_attr >> 28 == 0xA:
            raise ImportRefusedError(str(archive), f"{entry.filename!r:.300} is a link")
        if not entry.is_dir():
            with opened.open(entry) as source:
                yield entry.filename, source


def _of_tar(archive: Path, opened: tarfile.TarFile) -> Iterator[tuple[str, IO[bytes]]]:
    for entry in opened:
        if entry.isdir():
            continue
        source = opened.extractfile(entry) if entry.isreg() else None
        if source is None:
            raise ImportRefusedError(str(archive), f"{entry.name!r:.300} is not a regular file")
        with source:
            yield entry.name, source


def _unpack(folder: Path, entries: Iterator[tuple[str, IO[bytes]]], max_files: int) -> None:
    count = size = 0
    for name, source in entries:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts:
            raise ImportRefusedError(f"{name!r:.300}", "its path leads out of the archive")
        count += 1
        if count > max_files + 1000:
            raise ImportRefusedError(f"{name!r:.300}", f"more than {max_files} files")
        target = folder.joinpath(*path.parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as opened:
            while chunk := source.read(_CHUNK):
                size += len(chunk)
                if size > _MAX_BYTES:
                    raise ImportRefusedError(f"{name!r:.300}", f"more than {_MAX_BYTES} bytes")
                opened.write(chunk)
    if not count:
        raise ImportRefusedError(str(folder), "the archive holds no files")
