"""The file or folder that a store has open, and whether it is still the one under the path.

A backup that is moved into place, or a folder that is deleted, leaves an open store writing to
bytes that nobody will see again. That must be an error, not an acknowledgement.
"""

from __future__ import annotations

import os
from pathlib import Path

from starfish_disk import _system
from starfish_disk.errors import PlaceChangedError, os_errors_translated

__all__ = ("Place",)


class Place:
    """The identity of a file or folder; safe between threads.

    As long as the file or folder is held open by somebody (a descriptor, a SQLite connection), its
    number cannot be given to another one, so that `check` cannot be deceived.

    Args:
        path: of a file or folder.
        descriptor: of that file or folder, open: its identity is remembered at once. Without one
            the first `check` remembers the file that it finds.

    Examples:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> place = Place(folder)
        >>> place.check()
        >>> Path(folder).rmdir()
        >>> place.check()
        Traceback (most recent call last):
        starfish_disk.errors.PlaceChangedError: ...
    """

    def __init__(self, path: str | os.PathLike[str], *, descriptor: int | None = None) -> None:
        self.path = Path(path)
        """The path, as it was given."""
        self._text = os.fspath(path)
        self._identity: tuple[int, int] | None = None
        if descriptor is not None:
            with os_errors_translated(self.path):
                self._identity = _identity(_system.calls.status_of(descriptor))

    def is_known(self) -> bool:
        """Whether an identity is remembered."""
        return self._identity is not None

    def forget(self) -> None:
        """Let the next `check` remember the file or folder that it finds."""
        self._identity = None

    def check(self) -> None:
        """Fail when another file or folder, or nothing, is under the path; one ``stat``.

        Raises:
            PlaceChangedError: it was moved, removed or replaced.
            MissingError: nothing is there, and nothing was ever remembered.
            DiskError: the operating system does not say.
        """
        known = self._identity
        try:
            found = _identity(_system.calls.status(self._text))
        except FileNotFoundError as error:
            if known is None:
                with os_errors_translated(self.path):
                    raise
            raise PlaceChangedError(
                self.path, "it was moved or removed while it was open"
            ) from error
        except OSError:
            with os_errors_translated(self.path):
                raise
        if known is None:
            self._identity = found
        elif found != known:
            raise PlaceChangedError(
                self.path, "it was replaced while it was open; close the store to open anew"
            )


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
