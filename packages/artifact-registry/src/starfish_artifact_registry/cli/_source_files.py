"""Files on this machine's disk that are to become files of a package."""

from __future__ import annotations

import asyncio
import mimetypes
import os
import stat
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ("SkippedFile", "SourceFile", "find_source_files")

_CHUNK = 1024 * 1024
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
"""A link is not followed and a pipe does not block, also when it took a file's place meanwhile."""
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

    @property
    def media_type(self) -> str:
        """What its name says it is."""
        found, encoding = _MEDIA_TYPES.guess_type(self.relative_path)
        return found if found is not None and encoding is None else "application/octet-stream"

    async def read(self, on_bytes: Callable[[int], None]) -> AsyncGenerator[bytes]:
        """Its bytes, in chunks.

        Raises:
            OSError: it cannot be read, or is not a regular file any more.
        """
        descriptor, chunk = await asyncio.to_thread(_open, self.path)
        try:
            while chunk:
                on_bytes(len(chunk))
                yield chunk
                if len(chunk) < _CHUNK:
                    return
                chunk = await asyncio.to_thread(os.read, descriptor, _CHUNK)
        finally:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """Something that is not a regular file."""

    path: Path
    reason: str


def find_source_files(root: Path, prefix: str) -> Iterator[SourceFile | SkippedFile]:
    """What there is at a path: the file itself, or every file below a folder, in order of names.

    A link below a folder is not followed: what it leads to may be anywhere. A path that was named
    by itself may be a link to a folder or a file.

    Raises:
        OSError: a folder cannot be read.
    """
    status = root.stat()
    if stat.S_ISDIR(status.st_mode):
        yield from _below(root, prefix)
    elif stat.S_ISREG(status.st_mode):
        yield SourceFile(root.resolve(), prefix + root.name, status.st_size)
    else:
        yield SkippedFile(root, "neither file nor folder")


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
            size = entry.stat(follow_symlinks=False).st_size
            yield SourceFile(path, f"{prefix}{entry.name}", size)
        else:
            yield SkippedFile(path, "neither file nor folder")


def _open(path: Path) -> tuple[int, bytes]:
    descriptor = os.open(path, _OPEN)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is not a regular file any more")  # noqa: TRY301 - closed below
        return descriptor, os.read(descriptor, _CHUNK)
    except BaseException:
        os.close(descriptor)
        raise
