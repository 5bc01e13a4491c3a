"""One write to the base folder of `FilesystemObjectStore`.

The revision of a value is the modification time of its file, set before the rename that puts the
file in place. So value and revision change in one step, and a kill between any two steps leaves
the old version or the new one. A shard's lock file holds the last time that was given out, hence
no revision comes back, whatever the clock does. Rule: no write without the lock of its key.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import time
import zlib
from collections.abc import Callable, Generator
from typing import TypeAlias

from starfish_protocol.clock import Clock
from starfish_server.storage._file_tree import FileTree
from starfish_server.storage.values import TEXT_CONTENT_TYPE

__all__ = ("SHARDS", "FileWrites", "content_type_at", "read_types", "shard_of")

SHARDS = 64
"""Lock files: so many writes can go on at once, in all processes together."""

_POLL_S = 0.0005
"""Between two tries for a lock; the system's own waiting knows no time-out."""
_MAX_TRIES = 1000
"""Times that a folder may be removed, being empty, just when a file is put in it."""

_Types: TypeAlias = list[tuple[int, str]]
"""From which revision on a value has which content type, ascending."""


def shard_of(key: str) -> int:
    """Which lock guards a key; the same in every process and version."""
    return zlib.crc32(key.encode()) % SHARDS


class FileWrites:
    """Writes, each durable but for its folder, which `touched` is told of.

    Args:
        tree: where to.
        clock: where revisions come from.
        lock_timeout_ms: how long to wait for another process.
        touched: called with the open folder of a name that has changed; to be synced later.
    """

    def __init__(
        self, tree: FileTree, *, clock: Clock, lock_timeout_ms: int, touched: Callable[[int], None]
    ) -> None:
        self._tree = tree
        self._clock = clock
        self._lock_timeout_s = lock_timeout_ms / 1000
        self._touched = touched

    def put(self, key: str, body: bytes, content_type: str) -> int:
        """Set a value, whatever was there; its revision."""
        revision = self._replace(key, body, content_type, lambda _current: True)
        assert revision is not None  # noqa: S101  for the type checker
        return revision

    def put_if_match(
        self, key: str, body: bytes, content_type: str, etag: str | None
    ) -> int | None:
        """Set a value in the place of the version with this etag; its revision."""
        return self._replace(
            key,
            body,
            content_type,
            lambda current: etag == (None if current is None else str(current)),
        )

    def delete(self, key: str) -> None:
        """Remove a value, and the folders that have become empty."""
        names, name = self._tree.names.of_key(key)
        with self._locked(key), contextlib.suppress(FileNotFoundError):
            with self._tree.folder(names) as folder:
                os.unlink(name, dir_fd=folder)
                self._touched(folder)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(_type_file_name(key), dir_fd=self._tree.types)
        self._remove_empty(names)

    def _remove_empty(self, names: list[str]) -> None:
        for depth in range(len(names), 0, -1):
            try:
                with self._tree.folder(names[: depth - 1]) as above:
                    os.rmdir(names[depth - 1], dir_fd=above)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY):
                    return
                raise

    def _replace(
        self, key: str, body: bytes, content_type: str, allows: Callable[[int | None], bool]
    ) -> int | None:
        with self._locked(key) as lock:
            for _ in range(_MAX_TRIES):
                try:
                    return self._replace_locked(key, body, content_type, allows, lock)
                except FileNotFoundError:  # the folder went between opening it and the rename
                    continue
            raise self._tree.unavailable("its folders disappear as they are made")

    def _replace_locked(
        self,
        key: str,
        body: bytes,
        content_type: str,
        allows: Callable[[int | None], bool],
        lock: int,
    ) -> int | None:
        names, name = self._tree.names.of_key(key)
        current = self._tree.revision(key)
        if not allows(current):
            return None
        revision = self._next_revision(lock, current)
        new = f"{shard_of(key):02x}"  # free: who holds the lock has the name
        self._write_new(new, body, revision)
        self._keep_type(key, current, revision, content_type)
        with self._tree.folder(names, create=True) as folder:
            os.rename(new, name, src_dir_fd=self._tree.new, dst_dir_fd=folder)
            self._touched(folder)
        return revision

    def _write_new(self, name: str, body: bytes, revision: int) -> None:
        new = self._tree.new
        with contextlib.suppress(FileNotFoundError):  # left by a process that was killed
            os.unlink(name, dir_fd=new)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=new)
        try:
            view = memoryview(body)
            while view:
                view = view[os.write(descriptor, view) :]
            os.utime(descriptor, ns=(revision, revision))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _keep_type(self, key: str, current: int | None, revision: int, content_type: str) -> None:
        # Written before the value is: until then it tells the old version's type as well.
        types = read_types(self._tree, key)
        if content_type_at(types, revision) == content_type:
            return
        kept = [] if current is None else [(0, content_type_at(types, current))]
        draft = f"types-{shard_of(key):02x}"
        body = json.dumps([*kept, (revision, content_type)]).encode()
        self._write_new(draft, body, revision)
        os.rename(
            draft, _type_file_name(key), src_dir_fd=self._tree.new, dst_dir_fd=self._tree.types
        )
        os.fsync(self._tree.types)

    def _next_revision(self, lock: int, current: int | None) -> int:
        last = int.from_bytes(os.pread(lock, 8, 0), "big")
        revision = max(self._clock.now_ms() * 1_000_000, last + 1, (current or 0) + 1)
        os.pwrite(lock, revision.to_bytes(8, "big"), 0)
        return revision

    @contextlib.contextmanager
    def _locked(self, key: str) -> Generator[int]:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(f"{shard_of(key):02x}", flags, 0o600, dir_fd=self._tree.locks)
        try:
            deadline = time.monotonic() + self._lock_timeout_s
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise self._tree.unavailable(
                            f"another process has held a lock for {self._lock_timeout_s:g} s"
                        ) from None
                    time.sleep(_POLL_S)
            yield descriptor
        finally:
            os.close(descriptor)  # and the lock with it


def _type_file_name(key: str) -> str:
    """Where the content type of a key is kept when it is not the usual one."""
    return hashlib.sha256(key.encode()).hexdigest()


def read_types(tree: FileTree, key: str) -> _Types:
    """The content types of a key, as far as they are not the usual one."""
    try:
        body, _ = tree.read_file(_type_file_name(key), tree.types)
    except FileNotFoundError:
        return []
    try:
        return [(int(since), str(content_type)) for since, content_type in json.loads(body)]
    except (ValueError, TypeError) as error:
        raise tree.unavailable(f"the content type of {key!r} is damaged: {error!r}") from error


def content_type_at(types: _Types, revision: int) -> str:
    """The content type of one revision."""
    known = [content_type for since, content_type in types if since <= revision]
    return known[-1] if known else TEXT_CONTENT_TYPE
