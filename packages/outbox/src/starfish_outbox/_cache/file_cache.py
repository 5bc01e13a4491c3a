"""A `LocalCache` of files: one file a key, replaced atomically."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, unquote

from starfish_disk import DiskError, make_folder, remove_file, replace_file, sweep_leftovers
from starfish_disk.batch_thread import BatchThread, Call
from starfish_disk.errors import ForkedError, MissingError
from starfish_outbox._queue.entry import check_text
from starfish_outbox.errors import OutboxForkedError, OutboxPersistenceError

T = TypeVar("T")

SUFFIX = ".json"
MAX_NAME_BYTES = 255
"""Length of a file name on every common file system."""
LONGEST_TEMPORARY = 40
"""Characters that the name of a temporary file has besides."""


class FileCache:
    """Texts by key, each in its own file; on disk when a call returns.

    A write goes to a temporary file, which is fsynced, renamed over the old one, and made to last
    by an fsync of the directory: after a crash or power loss the old text or the new one is there.
    The files have mode 0600.

    Args:
        directory: where the files are; made at the first write.

    Examples:
        >>> import asyncio, tempfile
        >>> cache = FileCache(tempfile.mkdtemp())
        >>> asyncio.run(cache.set_item("outbox.ada", "[]"))
        >>> asyncio.run(cache.get_item("outbox.ada"))
        '[]'
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = Path(directory)
        self._files = _Files(self._directory)
        # One thread: a cancelled write still ends before a later one begins.
        self._thread = BatchThread("starfish-file-cache", self._files)

    async def get_item(self, key: str) -> str | None:
        """The text under a key, ``None`` when there is none.

        Raises:
            OutboxPersistenceError: the file cannot be read.
            ValueError: the key cannot name a file.
        """
        path = self.path_of(key)
        return await self._run(path, lambda _: _read(path))

    async def set_item(self, key: str, value: str) -> None:
        """Set the text under a key; survives power loss when this returns.

        Raises:
            OutboxPersistenceError: the file cannot be written; the old text is still there.
            ValueError: the key cannot name a file, or the text has no UTF-8 form.
        """
        path = self.path_of(key)
        data = value.encode(errors="surrogateescape")
        await self._run(path, lambda files: files.replace(path, data))

    async def remove_item(self, key: str) -> None:
        """Remove a key; no error when it is absent.

        Raises:
            OutboxPersistenceError: the file cannot be removed.
            ValueError: the key cannot name a file.
        """
        path = self.path_of(key)
        await self._run(path, lambda _: _remove(path))

    def path_of(self, key: str) -> Path:
        """The file of a key.

        Capitals are escaped, so that two keys differ on file systems that ignore case.

        Raises:
            ValueError: the key makes a name longer than a file system takes.
        """
        check_text("key", key)
        escaped = "".join(f"%{ord(c):02X}" if "A" <= c <= "Z" else quote(c, safe="") for c in key)
        if len(escaped) + len(SUFFIX) > MAX_NAME_BYTES - LONGEST_TEMPORARY:
            raise ValueError(f"key {key[:80]!r}… is too long for the name of a file")
        return self._directory / f"{escaped}{SUFFIX}"

    @staticmethod
    def key_of(path: str | os.PathLike[str]) -> str:
        """The key whose text a file holds.

        Raises:
            ValueError: it is not the name of a value file.
        """
        name = Path(path).name
        if not name.endswith(SUFFIX):
            raise ValueError(f"{name!r} is not the name of a value file: it must end in {SUFFIX}")
        return unquote(name.removesuffix(SUFFIX))

    async def _run(self, path: Path, work: Callable[[_Files], T]) -> T:
        try:
            return await self._thread.submit(work)
        except ForkedError as error:
            raise OutboxForkedError(str(self._directory)) from error
        except DiskError as error:
            raise OutboxPersistenceError(str(path), error.reason) from error
        except OSError as error:
            raise OutboxPersistenceError(str(path), error.strerror or repr(error)) from error


class _Files:
    """Does one thing after the other, on the thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._is_swept = False

    def run(self, calls: Sequence[Call[_Files]]) -> None:
        """Do the calls; each fails alone."""
        for call in calls:
            try:
                call.result = call.operation(self)
            except Exception as error:  # noqa: BLE001 - its caller must hear of it
                call.error = error

    def replace(self, path: Path, data: bytes) -> None:
        """Put data in the place of a file's content."""
        if not self._is_swept:
            make_folder(self._directory, mode=0o700)
            sweep_leftovers(self._directory)
            self._is_swept = True
        try:
            replace_file(path, data)
        except MissingError:
            self._is_swept = False  # the directory is gone: make it again
            make_folder(self._directory, mode=0o700)
            replace_file(path, data)

    def tick(self) -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""


def _read(path: Path) -> str | None:
    try:
        return path.read_bytes().decode(errors="surrogateescape")
    except FileNotFoundError:
        return None


def _remove(path: Path) -> None:
    with suppress(MissingError):
        remove_file(path)
