"""Errors of the disk as errors of the store, which say what failed and where."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from starfish_disk.durable import hold_lock, replace_file
from starfish_disk.errors import BusyError, DiskError
from starfish_mpack_wire.errors import StoreError

__all__ = ("hold_store_lock", "refuse_as_store_error", "write_atomically")


@contextmanager
def refuse_as_store_error(what: str, path: Path) -> Generator[None]:
    """Turn an error of the disk into a `StoreError` that says what failed, and where."""
    try:
        yield
    except DiskError as error:
        raise StoreError(f"{what} {path}: {error.reason}") from error
    except OSError as error:
        reason = error.strerror or repr(error)
        raise StoreError(f"{what} {path}: {reason}") from error


def write_atomically(path: Path, data: bytes) -> None:
    """Put ``data`` under a name; the old file or the new one is there after a crash.

    Raises:
        StoreError: the file system refused; the old file is still there.
    """
    with refuse_as_store_error("cannot write", path):
        replace_file(path, data)


@contextmanager
def hold_store_lock(path: Path, *, timeout_s: float, shared: bool = False) -> Generator[None]:
    """Hold a lock of all processes and threads until the block ends.

    Args:
        path: the file that is locked; made when it is missing, never removed.
        timeout_s: seconds to wait.
        shared: let in others that say so too.

    Raises:
        StoreError: somebody else held it for longer than ``timeout_s``.
    """
    held = ExitStack()
    with refuse_as_store_error("cannot open", path):
        try:
            held.enter_context(hold_lock(path, timeout_s=timeout_s, shared=shared, mode=0o644))
        except BusyError as error:
            raise StoreError(
                f"another process has held {path} for {timeout_s:g} s; try again later"
            ) from error
    with held:
        yield
