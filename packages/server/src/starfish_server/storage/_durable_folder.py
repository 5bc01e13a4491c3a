"""Folders that are still there after a power cut."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ("make_durable_folder", "sync_folder")


def make_durable_folder(folder: Path) -> None:
    """Create a folder and the ones above it; each is on disk when this returns.

    Raises:
        OSError: one of them cannot be created, or is no folder.
    """
    missing: list[Path] = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on disk.

    Raises:
        OSError: the folder cannot be opened or the disk refused.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
