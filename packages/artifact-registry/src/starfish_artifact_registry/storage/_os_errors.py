"""What a caller is told when the operating system refuses."""

from __future__ import annotations

import errno

from starfish_artifact_registry.errors import StorageFullError, StorageUnavailableError

__all__ = ("refusal",)

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def refusal(backend_id: str, error: OSError) -> StorageUnavailableError:
    """The error of a backend in the place of one of the system."""
    name = f": {error.filename}" if error.filename else ""
    reason = f"{error.strerror or error}{name}"
    kind = StorageFullError if error.errno in _FULL else StorageUnavailableError
    return kind(backend_id, reason)
