"""Results on standard output, everything else on standard error, and the exit status of an error."""

from __future__ import annotations

import json
import sys
import unicodedata
from enum import IntEnum
from typing import Any, Final

from starfish_disk.errors import DiskError, MissingError
from starfish_watcher.errors import (
    ImportRefusedError,
    SequenceConflictError,
    StoreClosed,
    StoreUnavailableError,
)

__all__ = (
    "ExitStatus",
    "NotFoundError",
    "complain",
    "line",
    "print_json",
    "status_of",
    "terminal_text",
)


_STEERING: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


class ExitStatus(IntEnum):
    """The statuses, the same for every command."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    UNAVAILABLE = 5
    INTERRUPTED = 130


class NotFoundError(Exception):
    """There is no such file, event or runner."""


def status_of(error: BaseException) -> ExitStatus:
    """The exit status of an error."""
    if isinstance(error, (NotFoundError, FileNotFoundError, MissingError)):
        return ExitStatus.NOT_FOUND
    if isinstance(error, SequenceConflictError) or (
        isinstance(error, ImportRefusedError) and not error.line and "already" in error.reason
    ):
        return ExitStatus.CONFLICT
    if isinstance(error, (StoreUnavailableError, StoreClosed, DiskError, OSError)):
        return ExitStatus.UNAVAILABLE
    return ExitStatus.REFUSED


def terminal_text(text: str) -> str:
    """The text with the characters escaped that steer a terminal."""
    return "".join(ascii(c)[1:-1] if unicodedata.category(c) in _STEERING else c for c in text)


def line(text: str) -> None:
    """Print one line that a terminal shows as it is."""
    sys.stdout.write(terminal_text(text) + "\n")


def print_json(value: Any) -> None:
    """Print one document on one line, with all but ASCII escaped."""
    sys.stdout.write(json.dumps(value) + "\n")


def complain(error: BaseException, status: ExitStatus, *, as_json: bool) -> None:
    """Say why nothing came of it."""
    if as_json:
        print_json({"error": _code(error), "message": str(error), "status": int(status)})
    else:
        sys.stderr.write(f"starfish-watcher: {terminal_text(str(error))}\n")


def _code(error: BaseException) -> str:
    name = type(error).__name__.removesuffix("Error")
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
