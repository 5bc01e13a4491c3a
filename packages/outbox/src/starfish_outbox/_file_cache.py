"""A `LocalCache` of files: one file a key, replaced atomically."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, unquote

from starfish_outbox._entry import check_text
from starfish_outbox.errors import OutboxPersistenceError

T = TypeVar("T")

SUFFIX = ".json"
STALE_AFTER_S = 3600
"""Age at which another process's temporary file is a leftover: no write takes an hour."""
MAX_NAME_BYTES = 255
"""Length of a file name on every common file system."""


class FileCache:
    """Texts by key, each in its own file; on disk when a call returns.

    A write goes to a temporary file, which is fsynced, renamed over the old one, and made to last
    by an fsync of the directory: after a crash or power loss the old text or the new one is there.

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
        # One thread: a cancelled write still ends before a later one begins.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="starfish-file-cache")
        self._swept = False

    async def get_item(self, key: str) -> str | None:
        """The text under a key, ``None`` when there is none.

        Raises:
            OutboxPersistenceError: the file cannot be read.
            ValueError: the key cannot name a file.
        """
        path = self.path_of(key)
        return await self._run(path, lambda: _read(path))

    async def set_item(self, key: str, value: str) -> None:
        """Set the text under a key; survives power loss when this returns.

        Raises:
            OutboxPersistenceError: the file cannot be written; the old text is still there.
            ValueError: the key cannot name a file, or the text has no UTF-8 form.
        """
        path = self.path_of(key)
        data = value.encode(errors="surrogateescape")
        await self._run(path, lambda: self._replace(path, data))

    async def remove_item(self, key: str) -> None:
        """Remove a key; no error when it is absent.

        Raises:
            OutboxPersistenceError: the file cannot be removed.
            ValueError: the key cannot name a file.
        """
        path = self.path_of(key)
        await self._run(path, lambda: _remove(path))

    def path_of(self, key: str) -> Path:
        """The file of a key.

        Capitals are escaped, so that two keys differ on file systems that ignore case.

        Raises:
            ValueError: the key makes a name longer than a file system takes.
        """
        check_text("key", key)
        escaped = "".join(f"%{ord(c):02X}" if "A" <= c <= "Z" else quote(c, safe="") for c in key)
        if len(escaped) + len(SUFFIX) > MAX_NAME_BYTES - len(".tmp") - 16:
            raise ValueError(f"key {key[:80]!r}… is too long for the name of a file")
        return self._directory / f"{escaped}{SUFFIX}"

    @staticmethod
    def key_of(path: str | os.PathLike[str]) -> str:
        """The key whose text a file holds.

        Raises:
            ValueError: no key has a file of this name.
        """
        name = Path(path).name
        if not name.endswith(SUFFIX):
            raise ValueError(f"{name!r} is not the name of a value file: it must end in {SUFFIX}")
        return unquote(name.removesuffix(SUFFIX))

    async def _run(self, path: Path, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except OSError as error:
            reason = error.strerror or repr(error)
            raise OutboxPersistenceError(str(path), reason) from error

    def _replace(self, path: Path, data: bytes) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(".tmp", f"{path.name}.", self._directory)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                if not self._swept:
                    self._sweep(os.fstat(file.fileno()).st_mtime)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        _sync_directory(self._directory)

    def _sweep(self, now: float) -> None:
        """Remove temporary files that a killed process left behind."""
        self._swept = True
        for leftover in self._directory.glob(f"*{SUFFIX}.*.tmp"):
            try:
                if leftover.stat().st_mtime < now - STALE_AFTER_S:
                    leftover.unlink()
            except FileNotFoundError:
                continue


def _read(path: Path) -> str | None:
    try:
        return path.read_bytes().decode(errors="surrogateescape")
    except FileNotFoundError:
        return None


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except FileNotFoundError:
        return
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    if os.name == "nt":  # a directory cannot be opened there; the rename is journalled
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
