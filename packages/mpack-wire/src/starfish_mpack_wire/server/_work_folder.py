"""A folder for the files of one request, gone when it is done."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from starfish_mpack_wire.server.errors import StorageUnavailableError

__all__ = ("work_folder",)


@asynccontextmanager
async def work_folder() -> AsyncGenerator[Path]:
    """An empty folder; neither its making nor its removal holds the event loop up.

    Raises:
        StorageUnavailableError: the disk is full, or fails, while files in it are written.
    """
    try:
        folder = await asyncio.to_thread(tempfile.TemporaryDirectory, prefix="mpack-")
        try:
            yield Path(folder.name)
        finally:
            await asyncio.to_thread(folder.cleanup)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StorageUnavailableError(f"a working file failed: {reason}") from error
