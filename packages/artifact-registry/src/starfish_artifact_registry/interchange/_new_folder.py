"""Folders that appear at their place whole, or not at all.

Rule: the folder at the target was complete and on disk before it got that name.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from functools import partial
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from starfish_artifact_registry.errors import ContentDamagedError, ExportRefusedError
from starfish_artifact_registry.model._manifest import ManifestFile
from starfish_artifact_registry.storage._threads import Threads
from starfish_protocol.address import ContentAddress

__all__ = ("NewFolder", "new_folder")


class NewFolder:
    """A folder in the making, beside its target under a name that nobody looks for."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._partial = target.with_name(f".{target.name[:60]}.{uuid.uuid4().hex}.partial")
        # One thread: the clean-up runs after the call that was going on when a call was cancelled.
        self._threads = Threads(1, "starfish-export")

    async def write(self, path: str, data: bytes) -> None:
        """Make a file."""
        draft = await self._threads.run(partial(_Draft, self._partial / path, ()))
        try:
            await self._threads.run(partial(draft.add, data))
            await self._threads.run(draft.sync)
        finally:
            await self._threads.run(draft.close)

    async def write_content(
        self,
        path: str,
        file: ManifestFile,
        stream: AsyncIterator[bytes],
        *,
        backend_id: str,
        algorithms: Collection[str] = (),
    ) -> dict[str, str]:
        """Make a file of a package's file; further digests of it in hex, by algorithm.

        Raises:
            ContentDamagedError: the stream is not the content that the manifest names.
        """
        draft = await self._threads.run(partial(_Draft, self._partial / path, algorithms))
        try:
            async for chunk in stream:
                await self._threads.run(partial(draft.add, chunk))
            await self._threads.run(draft.sync)
        finally:
            await self._threads.run(draft.close)
        actual = draft.address()
        if actual != file.content_address:
            raise ContentDamagedError(file.content_address, backend_id, actual)
        return draft.digests()

    async def make_folder(self, path: str) -> None:
        """Make a folder, and those above it; it may be there."""
        await self._threads.run(partial((self._partial / path).mkdir, parents=True, exist_ok=True))

    async def start(self) -> None:
        """Begin beside the target."""
        await self._threads.run(self._start)

    async def publish(self) -> None:
        """Give it its name, durably."""
        await self._threads.run(self._publish)

    async def discard(self) -> None:
        """Remove the rest, if it was not published."""
        await self._threads.run(partial(shutil.rmtree, self._partial, ignore_errors=True))

    def _start(self) -> None:
        if os.path.lexists(self._target):
            raise ExportRefusedError(str(self._target), "it exists already")
        self._partial.mkdir()

    def _publish(self) -> None:
        for folder, _, _ in os.walk(self._partial, topdown=False):
            _sync_folder(folder)
        self._partial.rename(self._target)
        _sync_folder(self._target.parent)


@contextlib.asynccontextmanager
async def new_folder(target: Path) -> AsyncGenerator[NewFolder]:
    """Make a folder; it is at the target and on disk when the block ends without an exception.

    Raises:
        ExportRefusedError: the target is there already, or cannot be written.
    """
    folder = NewFolder(target)
    try:
        await folder.start()
        yield folder
        await folder.publish()
    except OSError as error:
        raise ExportRefusedError(str(target), error.strerror or str(error)) from error
    finally:
        await folder.discard()


class _Draft:
    """One file while it is written; blocking, for the thread."""

    def __init__(self, path: Path, algorithms: Collection[str]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._opened: BinaryIO = path.open("xb")
        self._blake3 = blake3()
        self._hashers = {name: hashlib.new(name) for name in algorithms}

    def add(self, chunk: bytes) -> None:
        self._opened.write(chunk)
        self._blake3.update(chunk)
        for hasher in self._hashers.values():
            hasher.update(chunk)

    def sync(self) -> None:
        self._opened.flush()
        os.fsync(self._opened.fileno())

    def close(self) -> None:
        self._opened.close()

    def address(self) -> ContentAddress:
        return ContentAddress("blake3", self._blake3.digest())

    def digests(self) -> dict[str, str]:
        return {name: hasher.hexdigest() for name, hasher in self._hashers.items()}


def _sync_folder(path: str | Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
