"""The file or folder that a store has open, and whether it is still the one under the path.

A backup that is moved into place, or a folder that is deleted, leaves an open store writing to
what nobody will ever see again. That must be an error, not an acknowledgement.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from starfish_server.errors import StoreUnavailableError

__all__ = ("Place",)


class Place:
    """What is under a path from the first check on; for several threads.

    Args:
        path: of a file or folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._identity: tuple[int, int] | None = None

    def is_known(self) -> bool:
        """Whether the first check has been made."""
        return self._identity is not None

    def check(self) -> None:
        """Remember what is there the first time; fail when it is something else later.

        Raises:
            OSError: nothing is there.
            StoreUnavailableError: something else is there.
        """
        found = os.stat(self.path)  # noqa: PTH116  a third of the time, once a batch
        identity = (found.st_dev, found.st_ino)
        with self._lock:
            if self._identity is None:
                self._identity = identity
        if identity != self._identity:
            raise StoreUnavailableError(
                str(self.path), "it was replaced while it was open; close the store to open anew"
            )
