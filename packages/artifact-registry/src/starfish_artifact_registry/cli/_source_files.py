"""Files on this machine's disk that are to become files of a package."""

from __future__ import annotations

import asyncio
import mimetypes
import os
import stat
import unicodedata
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from starfish_disk import SafeFolder
from starfish_disk.errors import FileChangedError

__all__ = ("SkippedFile", "SourceFile", "find_source_files")

_CHUNK = 1024 * 1024
_MEDIA_TYPES = mimetypes.MimeTypes(filenames=())
"""The table of Python itself: the same on every machine."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A regular file, and where it goes."""

    path: Path
    relative_path: str
    """In the package."""
    size: int
    """When it was found; it may grow until it is read."""
    facts: dict[str, Any]
    """Its time and mode, as the file system has them."""

    @property
    def media_type(self) -> str:
        """What its name says it is."""
        found, encoding = _MEDIA_TYPES.guess_type(self.relative_path)
        return found if found is not None and encoding is None else "application/octet-stream"

    async def read(
        self, on_bytes: Callable[[int], None], *, may_change: bool
    ) -> AsyncGenerator[bytes]:
        """Its bytes, in chunks, to its end.

        Args:
            on_bytes: called with the size of each chunk.
            may_change: do not compare the file before and after.

        Raises:
            DiskError: it cannot be read, is not a regular file any more, or changed meanwhile.
        """
        with ExitStack() as opened:
            chunks = await asyncio.to_thread(self._open, opened)
            try:
                while chunk := await asyncio.to_thread(next, chunks, b""):
                    on_bytes(len(chunk))
                    yield chunk
            except FileChangedError:
                if not may_change:
                    raise

    def _open(self, opened: ExitStack) -> Iterator[bytes]:
        folder = opened.enter_context(SafeFolder(self.path.parent))
        return opened.enter_context(folder.open_file(self.path.name)).chunks(_CHUNK)


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """Something that is not a regular file."""

    path: Path
    reason: str


def find_source_files(
    root: Path, prefix: str, *, normalize: bool = False
) -> Iterator[SourceFile | SkippedFile]:
    """The file at a path, or every file below a folder, in order of names.

    No link is followed, also where it was named by itself: it may lead anywhere.

    Args:
        root: the file or the folder.
        prefix: stands before each path in the package.
        normalize: bring names to the normalization form C; the fact ``original_path`` tells the
            name on the disk.

    Raises:
        OSError: a folder cannot be read.
    """
    status = root.lstat()
    if stat.S_ISLNK(status.st_mode):
        yield SkippedFile(root, "a symbolic link")
    elif stat.S_ISDIR(status.st_mode):
        for found in _below(root, prefix):
            yield found if isinstance(found, SkippedFile) else _named(found, normalize=normalize)
    elif stat.S_ISREG(status.st_mode):
        found = SourceFile(root, prefix + root.name, status.st_size, _facts(status))
        yield _named(found, normalize=normalize)
    else:
        yield SkippedFile(root, "neither file nor folder")


def _named(file: SourceFile, *, normalize: bool) -> SourceFile:
    name = unicodedata.normalize("NFC", file.relative_path)
    if not normalize or name == file.relative_path:
        return file
    facts = file.facts | {"original_path": file.relative_path}
    return replace(file, relative_path=name, facts=facts)


def _facts(status: os.stat_result) -> dict[str, Any]:
    return {"modified_at": status.st_mtime_ns // 1_000_000, "mode": stat.S_IMODE(status.st_mode)}


def _below(folder: Path, prefix: str) -> Iterator[SourceFile | SkippedFile]:
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        path = Path(entry.path)
        if entry.is_symlink():
            yield SkippedFile(path, "a symbolic link")
        elif entry.is_dir(follow_symlinks=False):
            yield from _below(path, f"{prefix}{entry.name}/")
        elif entry.is_file(follow_symlinks=False):
            status = entry.stat(follow_symlinks=False)
            yield SourceFile(path, f"{prefix}{entry.name}", status.st_size, _facts(status))
        else:
            yield SkippedFile(path, "neither file nor folder")
