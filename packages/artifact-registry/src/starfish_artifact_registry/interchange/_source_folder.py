"""Reading a folder that somebody else made, and may still be changing.

Rule 1: every step below the root is opened relative to the one before, and no symbolic link is
followed. Rule 2: nothing is read beyond the size that was promised or allowed.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from starfish_artifact_registry.errors import ImportRefusedError
from starfish_artifact_registry.storage._threads import Threads

__all__ = ("SourceFolder", "source_folder")

T = TypeVar("T")
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe must not block
_CHUNK: Final = 1024 * 1024


class SourceFolder:
    """An open folder; paths are relative to it, with ``/`` between their parts.

    Args:
        root: descriptor of the folder; its opener closes it.
        threads: where blocking calls go.
    """

    def __init__(self, root: int, threads: Threads) -> None:
        self._root = root
        self._threads = threads

    async def names(self) -> set[str]:
        """The names in the folder itself."""
        return set(await self._run(".", partial(os.listdir, self._root)))

    async def read(self, path: str, max_bytes: int) -> bytes:
        """All of a small file.

        Raises:
            ImportRefusedError: it is missing, no regular file, or longer.
        """
        return await self._run(path, partial(self._read, path, max_bytes))

    async def size(self, path: str) -> int:
        """Length of a file in bytes.

        Raises:
            ImportRefusedError: it is missing, or not a regular file.
        """
        return await self._run(path, partial(self._size, path))

    async def has_file(self, path: str) -> bool:
        """Whether there is a regular file at a path."""
        try:
            await self.size(path)
        except ImportRefusedError:
            return False
        return True

    async def stream(self, path: str, size: int) -> AsyncIterator[bytes]:
        """A file of exactly ``size`` bytes, in chunks.

        Raises:
            ImportRefusedError: it is missing, no regular file, or of another size.
        """
        descriptor = await self._run(path, partial(self._open_file, path))
        try:
            left = size
            while chunk := await self._run(path, partial(os.read, descriptor, _CHUNK)):
                left -= len(chunk)
                if left < 0:
                    break
                yield chunk
            if left:
                raise ImportRefusedError(path, f"it does not have the {size} bytes that it should")
        finally:
            await self._threads.run(partial(os.close, descriptor))

    async def files_below(self, path: str, max_files: int) -> set[str]:
        """Every file below a folder, as paths from the root.

        Raises:
            ImportRefusedError: there is something that is neither file nor folder, a name that is
                no UTF-8, or more files or folders; or the folder is missing.
        """
        return await self._run(path, partial(self._files_below, path, max_files))

    async def _run(self, path: str, call: Callable[[], T]) -> T:
        try:
            return await self._threads.run(call)
        except OSError as error:
            raise ImportRefusedError(path, error.strerror or str(error)) from error

    def _read(self, path: str, max_bytes: int) -> bytes:
        with open(self._open_file(path), "rb") as opened:  # noqa: PTH123 - of a descriptor
            data = opened.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise ImportRefusedError(path, f"it has more than {max_bytes} bytes")
        return data

    def _size(self, path: str) -> int:
        descriptor = self._open_file(path)
        try:
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def _open_file(self, path: str) -> int:
        folders, _, name = path.rpartition("/")
        with self._folder(folders) as folder:
            descriptor = os.open(name, _READ, dir_fd=folder)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ImportRefusedError(path, "it is not a regular file")
        return descriptor

    def _files_below(self, path: str, max_files: int) -> set[str]:
        files: set[str] = set()
        folders = [path]
        for above in folders:
            with self._folder(above) as folder, os.scandir(folder) as entries:
                for entry in entries:
                    name = f"{above}/{entry.name}"
                    if not entry.name.isprintable() and not _is_unicode(entry.name):
                        raise ImportRefusedError(name, "its name is not UTF-8")
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(name)
                    elif entry.is_file(follow_symlinks=False):
                        files.add(name)
                    else:
                        raise ImportRefusedError(name, "it is neither a file nor a folder")
                    if max(len(files), len(folders)) > max_files:
                        raise ImportRefusedError(path, f"it has more than {max_files} files")
        return files

    @contextlib.contextmanager
    def _folder(self, path: str) -> Generator[int]:
        descriptor = os.dup(self._root)
        try:
            for name in filter(None, path.split("/")):
                deeper = os.open(name, _FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = deeper
            yield descriptor
        finally:
            os.close(descriptor)


@contextlib.asynccontextmanager
async def source_folder(path: Path) -> AsyncGenerator[SourceFolder]:
    """Open a folder for reading; the path to it may be a symbolic link.

    Raises:
        ImportRefusedError: it is none, or cannot be read.
    """
    threads = Threads(1, "starfish-import")
    try:
        root = await threads.run(
            partial(os.open, path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        )
    except OSError as error:
        raise ImportRefusedError(str(path), error.strerror or str(error)) from error
    try:
        yield SourceFolder(root, threads)
    finally:
        await threads.run(partial(os.close, root))


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
