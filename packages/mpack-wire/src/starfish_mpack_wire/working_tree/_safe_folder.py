"""Reads and writes below one folder that cannot leave it: every step is relative to an open folder.

Rule: no path of several parts ever goes to the operating system, and no call here follows a symbolic link;
so nobody can turn a folder into a link between a check and a write.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import Self

from starfish_mpack_wire.errors import UnsafePathError

__all__ = ("SafeFolder",)

LINK_ERRORS = frozenset({errno.ENOTDIR, errno.ELOOP, errno.EMLINK})
"""What systems answer to opening a link that is not to be followed."""
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class SafeFolder:
    """An open folder.

    Args:
        root: the folder. It may be reached through links; nothing below it may be one.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        """The folder's path, for messages."""
        self._descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    @contextmanager
    def open_folder(self, folder: str, *, create: bool = False) -> Generator[int]:
        """A descriptor of a folder below the root, ``""`` for the root.

        Args:
            folder: relative, with slashes.
            create: make missing folders.

        Raises:
            UnsafePathError: a part of the path is a link or no folder.
            FileNotFoundError: a part is missing.
        """
        descriptor = os.dup(self._descriptor)
        try:
            for part in folder.split("/") if folder else ():
                if create:
                    with suppress(FileExistsError):
                        os.mkdir(part, dir_fd=descriptor)
                try:
                    below = os.open(part, FOLDER_FLAGS, dir_fd=descriptor)
                except OSError as error:
                    if error.errno in LINK_ERRORS:
                        raise UnsafePathError(folder, f"{part!r} is a link or no folder") from error
                    raise
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)

    def stat(self, path: str) -> os.stat_result | None:
        """The status of a path, of a link the link itself; ``None`` when nothing is, or a part above is not a folder."""
        folder, _, name = path.rpartition("/")
        try:
            with self.open_folder(folder) as descriptor:
                return os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError, UnsafePathError):
            return None

    @contextmanager
    def open_file(self, path: str) -> Generator[BufferedReader]:
        """A regular file, open for reading.

        Raises:
            UnsafePathError: it is not a regular file, or a part of the path is a link or no folder.
            OSError: it cannot be read.
        """
        folder, _, name = path.rpartition("/")
        with self.open_folder(folder) as descriptor:
            # Without O_NONBLOCK, opening a pipe that replaced the file would wait for a writer.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            try:
                handle = os.open(name, flags, dir_fd=descriptor)
            except OSError as error:
                if error.errno in LINK_ERRORS:
                    raise UnsafePathError(path, "it is a link") from error
                raise
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise UnsafePathError(path, "it is not a regular file")
            yield file

    def read(self, path: str) -> bytes:
        """The bytes of a regular file; errors as `open_file`."""
        with self.open_file(path) as file:
            return file.read()

    def read_link(self, path: str) -> bytes:
        """The text of a symbolic link; where it leads is not looked at.

        Raises:
            UnsafePathError: it is not a link, or a part of the path above it is a link or no folder.
            OSError: it cannot be read.
        """
        folder, _, name = path.rpartition("/")
        with self.open_folder(folder) as descriptor:
            try:
                return os.fsencode(os.readlink(name, dir_fd=descriptor))
            except OSError as error:
                if error.errno == errno.EINVAL:
                    raise UnsafePathError(path, "it is not a link") from error
                raise

    def hash(self, path: str) -> str:
        """The blob id of a regular file, however large; errors as `open_file`."""
        with self.open_file(path) as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"

    def walk(self, folder: str) -> Iterator[str]:
        """The paths of everything below a folder that is not a folder."""
        stack = [folder]
        while stack:
            above = stack.pop()
            with self.open_folder(above) as descriptor, os.scandir(descriptor) as entries:
                for entry in entries:
                    path = f"{above}/{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(path)
                    else:
                        yield path

    def place(self, path: str, source: Path) -> os.stat_result:
        """Move a finished file to a path, over a file or link that is there; folders are made.

        Returns:
            The stamp of the file at its place.

        Raises:
            UnsafePathError: a part of the path is a link or no folder.
            OSError: a folder is there, or the file system refused.
        """
        folder, _, name = path.rpartition("/")
        with self.open_folder(folder, create=True) as descriptor:
            os.rename(source, name, dst_dir_fd=descriptor)
            return os.stat(name, dir_fd=descriptor, follow_symlinks=False)

    def remove(self, path: str) -> None:
        """Remove a file or link; no error when it is not there."""
        folder, _, name = path.rpartition("/")
        with suppress(FileNotFoundError), self.open_folder(folder) as descriptor:
            os.unlink(name, dir_fd=descriptor)

    def make_folder(self, folder: str) -> None:
        """Have a folder with everything above it."""
        with self.open_folder(folder, create=True):
            pass

    def remove_empty_folder(self, folder: str) -> bool:
        """Remove a folder if nothing is in it; whether it is gone."""
        above, _, name = folder.rpartition("/")
        try:
            with self.open_folder(above) as descriptor:
                os.rmdir(name, dir_fd=descriptor)
        except FileNotFoundError:
            return True
        except (OSError, UnsafePathError):
            return False
        return True
