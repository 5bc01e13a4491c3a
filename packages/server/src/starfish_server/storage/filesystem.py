"""A folder of files that one can open, search and back up with anything; safe between processes.

Each value is one file, replaced by a rename; `starfish_server.storage._file_writes` says how.
Writes go through a few threads, one key always through the same; a thread syncs a folder once for
all the writes to it that wait.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from typing_extensions import override

from starfish_disk.batch_thread import BatchThread, Call
from starfish_disk.errors import DiskError
from starfish_disk.place import Place
from starfish_protocol.clock import Clock, SystemClock
from starfish_server.errors import StoreError, StoreUnavailableError
from starfish_server.storage._file_tree import FileTree
from starfish_server.storage._file_writes import (
    FileWrites,
    content_type_at,
    read_types,
    shard_of,
)
from starfish_server.storage.base import AbstractObjectStore, StoreContext
from starfish_server.storage.keys import check_key, check_prefix
from starfish_server.storage.values import TEXT_CONTENT_TYPE, as_text, check_limit, check_text

__all__ = ("FilesystemObjectStore",)

T = TypeVar("T")
ResourceT = TypeVar("ResourceT")

_WRITE_THREADS = 4
"""A write mostly waits for the disk, which does several at once."""
_MAX_TRIES = 1000
"""Times that a value may change while its content type is looked up."""


class FilesystemObjectStore(AbstractObjectStore):
    """Values in files below a folder; safe between tasks, threads and processes.

    A write that returned survives the end of the process and of the machine: the file is synced,
    renamed into place, and its folder synced. Nothing is opened before the first call. After
    `close` the store may be used again; a forked child opens the folder for itself. POSIX only.

    Args:
        base_dir: the folder; it and the folders above it are created when missing. It must be on
            a local file system that keeps modification times to the nanosecond.
        lock_timeout_ms: how long a write waits for another process that writes to the same key,
            before it raises `StoreUnavailableError`.
        clock: where revisions come from; it may go back.

    Examples:
        >>> import asyncio, tempfile
        >>> async def main(folder: str) -> str:
        ...     store = FilesystemObjectStore(folder)
        ...     await store.put("notes/ada/shopping", "milk")
        ...     await store.close()
        ...     return (Path(folder) / "notes.d" / "ada.d" / "shopping").read_text()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     asyncio.run(main(folder))
        'milk'
    """

    def __init__(
        self,
        base_dir: str | os.PathLike[str],
        *,
        lock_timeout_ms: int = 10_000,
        clock: Clock | None = None,
    ) -> None:
        self._base = Path(base_dir)
        self._lock_timeout_ms = lock_timeout_ms
        self._clock = clock or SystemClock()
        self._threads: _Threads | None = None

    def _opened(self) -> _Threads:
        threads = self._threads
        if threads is None or threads.pid != os.getpid():  # threads do not survive a fork
            threads = self._threads = _Threads(self._base, self._lock_timeout_ms, self._clock)
        return threads

    @override
    async def get_string(self, key: str, *, context: StoreContext | None = None) -> str | None:
        found = await self.get_with_etag(key)
        return None if found is None else found[0]

    @override
    async def get_with_etag(
        self, key: str, *, context: StoreContext | None = None
    ) -> tuple[str, str] | None:
        check_key(key)
        return await self._opened().points.submit(lambda tree: _text(tree, key))

    @override
    async def get_bytes(
        self, key: str, *, context: StoreContext | None = None
    ) -> tuple[bytes, str] | None:
        check_key(key)
        return await self._opened().scans.submit(lambda tree: _bytes(tree, key))

    @override
    async def list_keys(
        self,
        prefix: str,
        *,
        start_after: str | None = None,
        limit: int | None = None,
        context: StoreContext | None = None,
    ) -> list[str]:
        check_prefix(prefix)
        check_prefix(start_after or "")
        check_limit(limit)
        return await self._opened().scans.submit(
            lambda tree: tree.list_keys(prefix, start_after, limit)
        )

    @override
    async def put(
        self,
        key: str,
        body: str,
        *,
        content_type: str | None = None,
        cache_control: str | None = None,
        context: StoreContext | None = None,
    ) -> None:
        check_key(key)
        raw = check_text(key, body).encode()
        await self._write(key, lambda files: files.put(key, raw, content_type or TEXT_CONTENT_TYPE))

    @override
    async def put_bytes(
        self,
        key: str,
        body: bytes,
        *,
        content_type: str,
        cache_control: str | None = None,
        context: StoreContext | None = None,
    ) -> None:
        check_key(key)
        raw = bytes(body)
        await self._write(key, lambda files: files.put(key, raw, content_type))

    @override
    async def put_if_match(
        self,
        key: str,
        body: str,
        expected_etag: str | None,
        *,
        content_type: str | None = None,
        cache_control: str | None = None,
        context: StoreContext | None = None,
    ) -> str | None:
        check_key(key)
        raw = check_text(key, body).encode()
        kind = content_type or TEXT_CONTENT_TYPE
        revision = await self._write(
            key, lambda files: files.put_if_match(key, raw, kind, expected_etag)
        )
        return None if revision is None else str(revision)

    @override
    async def delete(self, key: str, *, context: StoreContext | None = None) -> None:
        await self.delete_many([key])

    @override
    async def delete_many(
        self, keys: Sequence[str], *, context: StoreContext | None = None
    ) -> None:
        """Remove several keys; when it fails, some of them may be gone."""
        checked = [check_key(key) for key in keys]
        await asyncio.gather(
            *(self._write(key, partial(FileWrites.delete, key=key)) for key in checked)
        )

    @override
    async def close(self) -> None:
        threads, self._threads = self._threads, None
        if threads is not None and threads.pid == os.getpid():
            await asyncio.gather(
                threads.points.stop(),
                threads.scans.stop(),
                *(thread.stop() for thread in threads.writes),
            )

    def _write(self, key: str, operation: Callable[[FileWrites], T]) -> asyncio.Future[T]:
        writes = self._opened().writes
        return writes[shard_of(key) % len(writes)].submit(operation)


class _Threads:
    """The threads between the first call and `close`."""

    def __init__(self, base: Path, lock_timeout_ms: int, clock: Clock) -> None:
        self.pid = os.getpid()
        place = Place(base)
        self.points = BatchThread(f"{base.name} reads", _Reader(place))
        self.scans = BatchThread(f"{base.name} listings", _Reader(place))
        self.writes = [
            BatchThread(f"{base.name} writes {n}", _Writer(place, lock_timeout_ms, clock))
            for n in range(_WRITE_THREADS)
        ]


class _Opened:
    """A worker's base folder, the same as the others', opened by the first batch and again after a failure to open."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._tree: FileTree | None = None

    def tree(self) -> FileTree:
        """The base folder, which is still the one under the path."""
        if self._place.is_known():
            self._place.check()
        if self._tree is None:
            self._tree = FileTree(self._place.path)
            self._place.check()
        return self._tree

    def opened(self, calls: Sequence[Call[Any]]) -> FileTree | None:
        """The base folder; ``None`` when it cannot be used, and every call has the error."""
        try:
            return self.tree()
        except (OSError, DiskError) as error:
            for call in calls:
                call.error = self.unavailable(error)
        except StoreError as error:
            for call in calls:
                call.error = StoreUnavailableError(str(self._place.path), _reason(error))
        return None

    def unavailable(self, error: OSError | DiskError) -> StoreError:
        """The error of a caller."""
        if isinstance(error, DiskError):
            return StoreUnavailableError(str(error.path), error.reason)
        name = f": {error.filename!r}" if error.filename else ""
        return StoreUnavailableError(str(self._place.path), f"{error.strerror or error}{name}")

    def tick(self) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Release the base folder."""
        if self._tree is not None:
            self._tree.close()
            self._tree = None

    def answer(self, call: Call[ResourceT], resource: ResourceT) -> None:
        """Do one call; what goes wrong is its own."""
        try:
            call.result = call.operation(resource)
        except (OSError, DiskError) as error:
            call.error = self.unavailable(error)
        except Exception as error:  # noqa: BLE001  the caller's own
            call.error = error


class _Reader(_Opened):
    def run(self, calls: Sequence[Call[FileTree]]) -> None:
        tree = self.opened(calls)
        if tree is not None:
            for call in calls:
                self.answer(call, tree)


class _Writer(_Opened):
    """Does the writes of a batch one after the other, then syncs each of their folders once."""

    def __init__(self, place: Place, lock_timeout_ms: int, clock: Clock) -> None:
        super().__init__(place)
        self._lock_timeout_ms = lock_timeout_ms
        self._clock = clock
        self._unsynced: dict[tuple[int, int], tuple[int, list[Call[FileWrites]]]] = {}

    def run(self, calls: Sequence[Call[FileWrites]]) -> None:
        tree = self.opened(calls)
        if tree is None:
            return
        try:
            for call in calls:
                files = FileWrites(
                    tree,
                    clock=self._clock,
                    lock_timeout_ms=self._lock_timeout_ms,
                    touched=partial(self._remember, call),
                )
                self.answer(call, files)
        finally:
            self._sync()

    def _remember(self, call: Call[FileWrites], folder: int) -> None:
        found = os.fstat(folder)
        identity = (found.st_dev, found.st_ino)
        if identity not in self._unsynced:
            self._unsynced[identity] = (os.dup(folder), [])
        self._unsynced[identity][1].append(call)

    def _sync(self) -> None:
        while self._unsynced:
            _, (folder, calls) = self._unsynced.popitem()
            try:
                os.fsync(folder)
            except OSError as error:
                for call in calls:
                    call.error = self.unavailable(error)
            finally:
                os.close(folder)


def _reason(error: StoreError) -> str:
    return error.reason if isinstance(error, StoreUnavailableError) else str(error)


def _text(tree: FileTree, key: str) -> tuple[str, str] | None:
    found = tree.read(key)
    return None if found is None else (as_text(key, found[0]), str(found[1]))


def _bytes(tree: FileTree, key: str) -> tuple[bytes, str] | None:
    for _ in range(_MAX_TRIES):
        found = tree.read(key)
        if found is None:
            return None
        types = read_types(tree, key)
        again = tree.revision(key)
        if again == found[1]:  # so the types are those of this version
            return found[0], content_type_at(types, found[1])
    raise tree.unavailable("a value changes faster than it can be read")
