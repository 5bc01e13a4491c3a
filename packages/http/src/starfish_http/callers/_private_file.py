"""A file for its owner alone, changed by one process at a time and never seen half written."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

__all__ = ("lock_beside", "replace_private_file")


@contextmanager
def lock_beside(path: Path) -> Generator[None]:
    """Hold a lock of all processes that change this file.

    Raises:
        OSError: the lock file cannot be made.
    """
    lock = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def replace_private_file(path: Path, content: bytes) -> None:
    """Replace a file by one of mode 0600; on disk, with its name, when this returns.

    Raises:
        OSError: it cannot be written; the file is as before.
    """
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
