"""One table: which exit status and which code an error of a command has."""

from __future__ import annotations

from enum import IntEnum

from starfish_disk.errors import DiskError, ExistsError
from starfish_disk.errors import MissingError as MissingFileError
from starfish_http.errors import TokenFileError
from starfish_server.errors import ConfigError, StoreUnavailableError
from starfish_server.maintenance._errors import (
    DamagedSourceError,
    MaintenanceError,
    MissingError,
    TakenError,
)

__all__ = ("ExitStatus", "status_and_code")


class ExitStatus(IntEnum):
    """The statuses, the same for every command."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    UNAVAILABLE = 5
    INTERRUPTED = 130


_ROWS: tuple[tuple[type[Exception], ExitStatus, str], ...] = (
    (ConfigError, ExitStatus.REFUSED, "configuration_refused"),
    (TokenFileError, ExitStatus.REFUSED, "token_refused"),
    (MissingError, ExitStatus.NOT_FOUND, "not_found"),
    (TakenError, ExitStatus.CONFLICT, "conflict"),
    (DamagedSourceError, ExitStatus.REFUSED, "damaged"),
    (MaintenanceError, ExitStatus.REFUSED, "refused"),
    (MissingFileError, ExitStatus.NOT_FOUND, "not_found"),
    (ExistsError, ExitStatus.CONFLICT, "conflict"),
    (StoreUnavailableError, ExitStatus.UNAVAILABLE, "unavailable"),
    (DiskError, ExitStatus.UNAVAILABLE, "unavailable"),
    (OSError, ExitStatus.UNAVAILABLE, "unavailable"),
    (ImportError, ExitStatus.REFUSED, "missing_extra"),
)


def status_and_code(error: Exception) -> tuple[ExitStatus, str]:
    """The exit status and the code of an error.

    Examples:
        >>> status_and_code(TakenError("x exists"))
        (<ExitStatus.CONFLICT: 4>, 'conflict')
    """
    for cls, status, code in _ROWS:
        if isinstance(error, cls):
            return status, code
    return ExitStatus.REFUSED, "refused"
