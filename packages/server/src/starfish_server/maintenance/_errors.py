"""Why work on a store was not done; nothing was changed.

* ServerError
  - MaintenanceError
    - MissingError          the source or the store is not there
    - TakenError            the target is there already, or in use
    - DamagedSourceError    location
"""

from __future__ import annotations

from starfish_server.errors import ServerError

__all__ = ("DamagedSourceError", "MaintenanceError", "MissingError", "TakenError")


class MaintenanceError(ServerError):
    """Work on a store was refused."""


class MissingError(MaintenanceError):
    """The source or the store is not there."""


class TakenError(MaintenanceError):
    """The target exists, or another process uses it."""


class DamagedSourceError(MaintenanceError):
    """A backup, an export or a folder cannot be taken in."""

    def __init__(self, location: str, reason: str) -> None:
        super().__init__(f"{location}: {reason}")
        self.location = location
        """The file, with its line where there is one."""
