"""What the exit status of a command says."""

from __future__ import annotations

from enum import IntEnum

from starfish_artifact_registry.error_codes import ErrorCode

__all__ = ("ExitStatus", "exit_status")


class ExitStatus(IntEnum):
    """The statuses, the same for every command."""

    DONE = 0
    """The request is done, every check holds."""
    REFUSED = 1
    """An input was refused, or a check failed: damage was found."""
    USAGE = 2
    """The command line itself is wrong; nothing was tried."""
    NOT_FOUND = 3
    """There is no such package, file or registry, or a file of the command line is missing."""
    CONFLICT = 4
    """The state does not allow it: finalized already, path taken, under hold."""
    UNAVAILABLE = 5
    """The database or the storage does not answer, is full, or may not be written."""
    INTERRUPTED = 130
    """Stopped by Ctrl-C."""


def exit_status(error: ErrorCode) -> ExitStatus:
    """The exit status of an error: drawn from its HTTP status, so that there is one table.

    Examples:
        >>> exit_status(ErrorCode("package_not_found", 404)).name
        'NOT_FOUND'
    """
    if error.status == 404:
        return ExitStatus.NOT_FOUND
    if error.status == 409:
        return ExitStatus.CONFLICT
    return ExitStatus.UNAVAILABLE if error.status > 500 else ExitStatus.REFUSED
