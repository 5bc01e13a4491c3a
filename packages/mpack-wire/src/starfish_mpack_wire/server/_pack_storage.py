"""The bytes of packs, in any store of ``obstore``.

What a client uploads goes to ``uploads/``, under its repository, and is copied to ``packs/`` by the server after it was checked: a
signed URL lives on after the check, and must not reach what the rows point at. ``built/`` holds what
can be made again. Each key holds the repository's number: bytes are never shared by two.

Rule: only an answer that says so means that something is not there; every other failure is
`StorageUnavailableError`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, cast

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, ObjectStore, S3Store

from starfish_mpack_wire._model.object_ids import digest_of
from starfish_mpack_wire.server.errors import StorageUnavailableError

__all__ = ("Area", "PackStorage")

Area = Literal["uploads", "packs", "built"]
"""What clients sent, what the rows point at, what can be made again."""

_READ_BYTES = 1024 * 1024


class PackStorage:
    """Packs by area, repository and id.

    Args:
        store: where; anything that ``obstore`` can write to.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def key(self, area: Area, repo_id: int, mpack_id: str) -> str:
        """Where a pack is.

        Raises:
            MPackFormatError: that is not an id.
        """
        return f"{area}/{repo_id}/{digest_of(mpack_id).hex()}"

    async def size(self, key: str) -> int | None:
        """How many bytes there are, or ``None`` when there is no such pack.

        Raises:
            StorageUnavailableError: the storage failed.
        """
        with _translated():
            try:
                return (await obstore.head_async(self._store, key))["size"]
            except FileNotFoundError:
                return None

    async def download(self, key: str, target: Path) -> bool:
        """Copy a pack to a file; ``False`` when there is no such pack.

        Raises:
            StorageUnavailableError: the storage failed.
        """
        with _translated():
            try:
                found = await obstore.get_async(self._store, key)
            except FileNotFoundError:
                return False
            with await asyncio.to_thread(target.open, "wb") as file:
                async for chunk in found.stream(min_chunk_size=_READ_BYTES):
                    await asyncio.to_thread(file.write, chunk)
            return True

    async def upload(self, key: str, source: Path) -> None:
        """Store a file under a key, over whatever was there; on disk when this returns.

        Where a power cut may undo that a new name exists, it is only for what can be built again.

        Raises:
            StorageUnavailableError: the storage failed.
        """
        with _translated():
            await obstore.put_async(self._store, key, source)
            await asyncio.to_thread(self._sync, key)

    async def delete(self, key: str) -> None:
        """Remove a pack if it is there.

        Raises:
            StorageUnavailableError: the storage failed.
        """
        with _translated(), suppress(FileNotFoundError):
            await obstore.delete_async(self._store, key)

    async def sweep_uploads(self, before: datetime) -> int:
        """Remove uploads that came before a moment and that no push took in; returns how many.

        Raises:
            StorageUnavailableError: the storage failed.
        """
        removed = 0
        with _translated():
            listed: Any = cast("Any", obstore).list(self._store, prefix="uploads")
            async for some in listed:
                for each in some:
                    if each["last_modified"] < before:
                        await self.delete(each["path"])
                        removed += 1
        return removed

    async def stream(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from ``start`` up to ``end``, in pieces.

        Raises:
            FileNotFoundError: there is no such pack.
            StorageUnavailableError: the storage failed.
        """
        with _translated():
            found = await obstore.get_async(self._store, key, options={"range": (start, end)})
            async for chunk in found.stream(min_chunk_size=_READ_BYTES):
                yield bytes(chunk)

    def read_range(self, key: str, start: int, end: int) -> memoryview:
        """The bytes from ``start`` up to ``end``; for a thread.

        Raises:
            FileNotFoundError: there is no such pack.
            StorageUnavailableError: the storage failed, or the pack is shorter than that.
        """
        with _translated():
            view = memoryview(obstore.get_range(self._store, key, start=start, end=end))
        if len(view) != end - start:
            raise StorageUnavailableError("a pack in storage is shorter than its rows say")
        return view

    async def copy(self, source: str, target: str) -> None:
        """Store the bytes of one key under another as well.

        Raises:
            FileNotFoundError: there is no such pack.
            StorageUnavailableError: the storage failed.
        """
        with _translated():
            await obstore.copy_async(self._store, source, target)
            await asyncio.to_thread(self._sync, target)

    def sign(self, method: Literal["GET", "PUT"], key: str, lifetime_s: int) -> str | None:
        """A URL for somebody without credentials, or ``None`` where the storage has none.

        Raises:
            StorageUnavailableError: the storage failed.
        """
        if not isinstance(self._store, S3Store | GCSStore | AzureStore):
            return None
        with _translated():
            return obstore.sign(self._store, method, key, timedelta(seconds=lifetime_s))

    def _sync(self, key: str) -> None:
        """Local stores rename a file into place and leave the rest to the system."""
        if isinstance(self._store, LocalStore) and self._store.prefix is not None:
            path = Path(self._store.prefix) / key
            folders: Sequence[Path] = () if key.startswith("built/") else path.parents[:3]
            for each in (path, *folders):
                descriptor = os.open(each, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)


@contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError("there is no such pack in storage") from error
    except (BaseError, OSError) as error:
        # Its text may hold signed addresses.
        raise StorageUnavailableError(f"the storage failed: {type(error).__name__}") from error
