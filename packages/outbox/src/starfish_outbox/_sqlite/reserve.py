"""Space that is held back, so that a full disk can be emptied.

Taking an entry out writes a few pages before it frees any. They come out of this file.
"""

from __future__ import annotations

import os
from pathlib import Path

from starfish_disk import DiskError, create_file
from starfish_disk.errors import ExistsError

RESERVE_BYTES = 192 << 10
"""Room to fold the log into the file, after which the log is used again from its start."""
LEAST_FREE = 3 * RESERVE_BYTES
"""Free bytes below which the space is left to those that need it now."""


class Reserve:
    """One file beside the database."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(f"{database.name}-reserve")

    def keep(self) -> None:
        """Have the space, unless the disk is nearly full already."""
        try:
            if self._path.exists():
                return
            free = os.statvfs(self._path.parent)
            if free.f_bavail * free.f_frsize < LEAST_FREE:
                return
            create_file(self._path, bytes(RESERVE_BYTES))
        except (OSError, DiskError, ExistsError):
            return  # it is a precaution: what matters fails by itself

    def release(self) -> bool:
        """Give the space back; whether there was any."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True
