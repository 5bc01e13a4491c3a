"""Errors of the disk.

* DiskError                 path, reason
  - MissingError            there is nothing under that name
  - ExistsError             a name that was to be new is taken
  - PlaceChangedError       moved, removed or replaced while it was open
  - BusyError               another process or thread held a lock for too long
  - FullError               the disk, the quota or the greatest size of a file is reached
  - ShortageError           descriptors or memory ran out; later it may work
  - ReadOnlyError           it may not be written, or not be reached
  - DamagedError            the bytes are not what a program of this kind writes
  - ForeignError            a file of another application
  - NewerLayoutError        layout, known: a later version wrote it
  - UnsafePathError         a part of a path is a link, or not a folder
  - FileChangedError        a file changed while it was read
  - ClosedError             it was closed
  - ForkedError             it was made in the process that this one was forked from
  - BatchFailedError        a batch ended in an exception that nobody expected
  - UnsupportedError        this operating system lacks what it takes
  - UnavailableError        any other refusal of the operating system or of SQLite
"""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Self

__all__ = (
    "BatchFailedError",
    "BusyError",
    "ClosedError",
    "DamagedError",
    "DiskError",
    "ExistsError",
    "FileChangedError",
    "ForeignError",
    "ForkedError",
    "FullError",
    "MissingError",
    "NewerLayoutError",
    "PlaceChangedError",
    "ReadOnlyError",
    "ShortageError",
    "UnavailableError",
    "UnsafePathError",
    "UnsupportedError",
    "from_os_error",
    "os_errors_translated",
)


class DiskError(Exception):
    """The base of all errors of this package.

    Args:
        path: of the file or folder, or the name of another thing that failed.
        reason: a part of a sentence.

    Examples:
        >>> print(FullError("a.sqlite", "no space is left on the disk"))
        a.sqlite: no space is left on the disk
    """

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(os.fspath(path), reason)
        self.path = os.fspath(path)
        """Which file or folder, as it was given."""
        self.reason = reason
        """Why, without the path."""

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"

    def own_copy(self) -> Self:
        """An equal error for another caller, so that tracebacks do not grow into each other."""
        twin = type(self)(*self.args)
        twin.__cause__ = self.__cause__
        return twin


class MissingError(DiskError):
    """There is nothing under that name."""


class ExistsError(DiskError):
    """A name that was to be new is taken; nothing was changed."""


class PlaceChangedError(DiskError):
    """The file or folder was moved, removed or replaced while it was open."""


class BusyError(DiskError):
    """Another process or thread held a lock for too long; later it may work."""


class FullError(DiskError):
    """The disk is full, or a quota or the greatest size of a file is reached."""


class ShortageError(DiskError):
    """Descriptors or memory ran out; later it may work."""


class ReadOnlyError(DiskError):
    """The file or folder may not be written, or not be reached."""


class DamagedError(DiskError):
    """The bytes are not those that a program of this kind writes."""


class ForeignError(DiskError):
    """The file belongs to another application; it was left as it was."""


class NewerLayoutError(DiskError):
    """A later version wrote the file; it was left as it was.

    Args:
        path: of the file.
        layout: its layout.
        known: the newest layout that this version knows.
    """

    def __init__(self, path: str | os.PathLike[str], layout: int, known: int) -> None:
        reason = f"it has layout {layout}, this version knows layouts up to {known}"
        super().__init__(path, reason)
        self.args = (os.fspath(path), layout, known)
        self.layout, self.known = layout, known


class UnsafePathError(DiskError):
    """A part of a path is a symbolic link, not a folder, or not a regular file at its end."""


class FileChangedError(DiskError):
    """A file changed while it was read; the bytes may be of two versions."""


class ClosedError(DiskError):
    """The call came after the close."""


class ForkedError(DiskError):
    """The object was made in the process that this one was forked from; make a new one here."""


class BatchFailedError(DiskError):
    """A batch ended in an exception that nobody expected; the cause has it."""


class UnsupportedError(DiskError):
    """This operating system lacks what it takes."""


class UnavailableError(DiskError):
    """Any other refusal of the operating system or of SQLite."""


_KINDS: dict[int, type[DiskError]] = {
    errno.ENOENT: MissingError,
    errno.EEXIST: ExistsError,
    errno.ESTALE: PlaceChangedError,
    errno.ENOSPC: FullError,
    errno.EDQUOT: FullError,
    errno.EFBIG: FullError,
    errno.EMFILE: ShortageError,
    errno.ENFILE: ShortageError,
    errno.ENOMEM: ShortageError,
    errno.EROFS: ReadOnlyError,
    errno.EACCES: ReadOnlyError,
    errno.EPERM: ReadOnlyError,
    errno.ELOOP: UnsafePathError,
    errno.ENOTDIR: UnsafePathError,
}


def from_os_error(path: str | os.PathLike[str], error: OSError) -> DiskError:
    """The error of this package for a refusal of the operating system.

    Examples:
        >>> from_os_error("notes", OSError(28, "No space left on device"))
        FullError('notes', 'No space left on device')
    """
    kind = _KINDS.get(error.errno or 0, UnavailableError)
    return kind(path, error.strerror or repr(error))


@contextmanager
def os_errors_translated(path: str | os.PathLike[str]) -> Generator[None]:
    """Raise `from_os_error` of any `OSError` in the block, with that as its cause."""
    try:
        yield
    except OSError as error:
        raise from_os_error(path, error) from error
