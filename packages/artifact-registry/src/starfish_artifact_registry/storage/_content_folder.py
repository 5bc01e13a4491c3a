"""The folder of `LocalBackend`: blocking, for threads; errors are `OSError`.

``blake3/<first 2 digits>/<64 digits>`` holds content, ``incoming/`` unfinished files. Rule 1:
a name below ``blake3`` is given only to bytes that are on disk. Rule 2: a thread that gives, renews or
takes such a name holds the lock of its folder, so that a removal never meets a put half-way.
Rule 3: every step below the root is opened relative to the one before, and no symbolic link is
followed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import uuid
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from starfish_artifact_registry.storage._stream import Block
from starfish_protocol.address import ContentAddress

__all__ = (
    "PARTS",
    "ContentFolder",
    "Draft",
    "FoundFile",
    "Present",
    "same_as_block",
    "same_as_file",
)

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe must not block
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_MODE, _FOLDER_MODE = 0o600, 0o700
"""Evidence is for its keeper; the umask may take away more, never less."""
_CONTENT, _INCOMING = "blake3", "incoming"
PARTS = tuple(f"{number:02x}" for number in range(256))
"""The folders that content is spread over."""
_NOT_A_FILE = frozenset({errno.ELOOP, errno.EMLINK, errno.EINVAL})
_COMPARED = 1024 * 1024
"""Bytes that are compared at once."""
_DIGITS = re.compile(r"[0-9a-f]{64}")

FoundFile = tuple[str, int, int]
"""Digits, size in bytes, modification time in microseconds."""


@dataclass(frozen=True, slots=True)
class Present:
    """A file that has the name of some content."""

    inode: int
    """Which file."""
    is_whole: bool
    """Whether its bytes are those of its name."""


Comparison = Callable[[int], bool]
"""Whether the file behind a descriptor has the expected bytes; blocking."""


def same_as_block(block: Block) -> Comparison:
    """Compares a file with bytes in memory."""

    def compare(descriptor: int) -> bool:
        at = 0
        for part in block:
            view = memoryview(part)
            while view:
                found = os.pread(descriptor, min(len(view), _COMPARED), at)
                if not found or found != view[: len(found)].tobytes():
                    return False
                at += len(found)
                view = view[len(found) :]
        return not os.pread(descriptor, 1, at)

    return compare


def same_as_file(other: int) -> Comparison:
    """Compares a file with another one."""

    def compare(descriptor: int) -> bool:
        at = 0
        while expected := os.pread(other, _COMPARED, at):
            found = b""
            while len(found) < len(expected):
                more = os.pread(descriptor, len(expected) - len(found), at + len(found))
                if not more:
                    return False
                found += more
            if found != expected:
                return False
            at += len(expected)
        return not os.pread(descriptor, 1, at)

    return compare


class ContentFolder:
    """One folder, which another process may use as well.

    Args:
        root: created with the folders above it when first written to; may itself be a link.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._identity: tuple[int, int] | None = None
        self._durable: set[tuple[str, ...]] = set()

    def create_draft(self, draft: Draft) -> None:
        """Make the file of a draft; `Draft.discard` it in the end, whatever happens."""
        while not draft.exists():  # else a sweep came before the lock
            draft.discard()
            with self._folder(_INCOMING, create=True) as incoming:
                draft.create(incoming)

    def compare(self, address: ContentAddress, content: Comparison) -> Present | None:
        """Compare the file of some content; ``None`` when there is none.

        Not under a lock, for it may be long. A file never changes under its name; it may be
        replaced, so `renew` and `keep` take its identity.
        """
        try:
            descriptor = self.open(address)
        except OSError as error:
            if error.errno not in _NOT_A_FILE:
                raise
            # A link or a pipe took its place: it is as good as damaged.
            with self._folder(*_place(address)) as folder:
                inode = _inode(folder, address)
            return None if inode is None else Present(inode, is_whole=False)
        if descriptor is None:
            return None
        try:
            status = os.fstat(descriptor)
            return Present(status.st_ino, is_whole=content(descriptor))
        finally:
            os.close(descriptor)

    def keep(
        self, draft: Draft, address: ContentAddress, now_ns: int, content: Comparison
    ) -> Present | None:
        """Give a draft its name, durably, unless the content is there and whole by now.

        A damaged copy is replaced. Ask `compare` first: it saves writing known content.

        Returns:
            The file that was there, ``None`` when there was none.
        """
        draft.sync(now_ns)
        while True:
            there = self.compare(address, content)
            with self._folder(*_place(address), create=True) as folder:
                with _locked(folder):
                    inode = _inode(folder, address)
                    if inode != (None if there is None else there.inode):
                        continue
                    if there is not None and there.is_whole:
                        _renew(folder, address, now_ns)
                    else:
                        draft.move_to(folder, _name(address))
                os.fsync(folder)
                return there

    def renew(self, address: ContentAddress, now_ns: int, there: Present | None = None) -> bool:
        """Set the time of some content; ``False`` when it is not there.

        Args:
            address: the content.
            now_ns: the time.
            there: the file that was compared; another one is not renewed.
        """
        with contextlib.suppress(FileNotFoundError), self._folder(*_place(address)) as folder:
            with _locked(folder):
                present = there is None or there.inode == _inode(folder, address)
                present = present and _renew(folder, address, now_ns)
            if present:
                os.fsync(folder)  # its writer may not have come to this
            return present
        return False

    def remove(self, address: ContentAddress, unmodified_since_us: int | None) -> bool:
        """Remove some content; ``False`` when it is not there, or younger."""
        with contextlib.suppress(FileNotFoundError), self._folder(*_place(address)) as folder:
            with _locked(folder):
                found = os.stat(_name(address), dir_fd=folder, follow_symlinks=False)
                if unmodified_since_us is not None and _us(found) > unmodified_since_us:
                    return False
                os.unlink(_name(address), dir_fd=folder)
            os.fsync(folder)
            return True
        return False

    def open(self, address: ContentAddress) -> int | None:
        """A descriptor for reading, which the caller closes; ``None`` when it is not there."""
        with contextlib.suppress(FileNotFoundError), self._folder(*_place(address)) as folder:
            return _open_file(_name(address), folder)
        return None

    def size(self, address: ContentAddress) -> int | None:
        """Length in bytes, ``None`` when it is not there."""
        if (descriptor := self.open(address)) is None:
            return None
        try:
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def list(self, part: str) -> list[FoundFile]:
        """The content in one of `PARTS`; foreign files are left out."""
        found: list[FoundFile] = []
        with self._entries(_CONTENT, part) as (_, entries):
            for entry in entries:
                if not _DIGITS.fullmatch(entry.name) or not entry.name.startswith(part):
                    continue
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        found.append((entry.name, status.st_size, _us(status)))
        return found

    def sweep(self) -> int:
        """Remove the drafts of processes that are no more."""
        removed = 0
        with self._entries(_INCOMING) as (incoming, entries):
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # kept or removed meanwhile
                    removed += _sweep_one(entry.name, incoming)
        return removed

    @contextlib.contextmanager
    def _entries(self, *names: str) -> Generator[tuple[int, Iterator[os.DirEntry[str]]]]:
        with contextlib.ExitStack() as opened:
            try:
                folder = opened.enter_context(self._folder(*names))
            except FileNotFoundError:
                yield -1, iter(())
            else:
                yield folder, opened.enter_context(os.scandir(folder))

    @contextlib.contextmanager
    def _folder(self, *names: str, create: bool = False) -> Generator[int]:
        descriptor = self._open_root(create=create)
        try:
            for depth, name in enumerate(names, 1):
                if create and names[:depth] not in self._durable:
                    # Another process may have made it and not come to its fsync: the first use
                    # in each process does it.
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(name, _FOLDER_MODE, dir_fd=descriptor)
                    os.fsync(descriptor)
                    self._durable.add(names[:depth])
                deeper = os.open(name, _FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = deeper
            yield descriptor
        finally:
            os.close(descriptor)

    def _open_root(self, *, create: bool) -> int:
        known = self._identity  # before the look: another thread may be making it right now
        if create and known is None:
            _make_durable(self._root)
        try:
            descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            if known is None:
                raise
            raise OSError(errno.ESTALE, "it has gone", str(self._root)) from error
        found = os.fstat(descriptor)
        identity = (found.st_dev, found.st_ino)
        if known is None:
            self._identity = identity
        elif identity != known:
            os.close(descriptor)
            # Nobody would ever again see what goes to the folder that was there.
            raise OSError(errno.ESTALE, "it was replaced while it was in use", str(self._root))
        return descriptor


class Draft:
    """A file that nobody looks for yet; locked as long as its writer is alive."""

    def __init__(self) -> None:
        self._name = uuid.uuid4().hex
        self._incoming = self._descriptor = -1
        self._moved = False

    def create(self, incoming: int) -> None:
        """Make the file in an open folder."""
        self._incoming = os.dup(incoming)
        self._descriptor = os.open(self._name, _CREATE, _FILE_MODE, dir_fd=incoming)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    @property
    def descriptor(self) -> int:
        """Open for reading and writing."""
        return self._descriptor

    def exists(self) -> bool:
        """Whether it was made, and nobody removed it."""
        return self._descriptor >= 0 and os.fstat(self._descriptor).st_nlink > 0

    def write(self, block: Block) -> None:
        """Add bytes at the end."""
        for part in block:
            view = memoryview(part)
            while view:
                view = view[os.write(self._descriptor, view) :]

    def sync(self, now_ns: int) -> None:
        """Put bytes and time on disk."""
        os.utime(self._descriptor, ns=(now_ns, now_ns))
        os.fsync(self._descriptor)

    def move_to(self, folder: int, name: str) -> None:
        """Take a name in an open folder, from whatever has it."""
        os.rename(self._name, name, src_dir_fd=self._incoming, dst_dir_fd=folder)
        self._moved = True

    def discard(self) -> None:
        """Release it; the file goes if it was not moved."""
        incoming, descriptor = self._incoming, self._descriptor
        self._incoming = self._descriptor = -1
        try:
            if descriptor >= 0 and not self._moved:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._name, dir_fd=incoming)
        finally:
            for opened in (descriptor, incoming):
                if opened >= 0:
                    os.close(opened)


@contextlib.contextmanager
def _locked(folder: int) -> Generator[None]:
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(folder, fcntl.LOCK_UN)  # a child that was forked meanwhile shares it


def _place(address: ContentAddress) -> tuple[str, str]:
    return address.algorithm, _name(address)[:2]


def _name(address: ContentAddress) -> str:
    return address.digest.hex()


def _inode(folder: int, address: ContentAddress) -> int | None:
    with contextlib.suppress(FileNotFoundError):
        return os.stat(_name(address), dir_fd=folder, follow_symlinks=False).st_ino
    return None


def _renew(folder: int, address: ContentAddress, now_ns: int) -> bool:
    try:
        found = os.stat(_name(address), dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(found.st_mode):
        return False
    # Later than before, whatever the clock says: `remove` must see that somebody came by.
    renewed = max(now_ns, found.st_mtime_ns + 1000)
    os.utime(_name(address), ns=(renewed, renewed), dir_fd=folder, follow_symlinks=False)
    return True


def _us(status: os.stat_result) -> int:
    return status.st_mtime_ns // 1000  # as precise as a datetime, so that the two compare


def _open_file(name: str, folder: int) -> int:
    descriptor = os.open(name, _READ, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a file", name)
    return descriptor


def _sweep_one(name: str, incoming: int) -> int:
    descriptor = _open_file(name, incoming)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=incoming)
    except BlockingIOError:  # being written
        return 0
    finally:
        os.close(descriptor)
    return 1


def _make_durable(folder: Path) -> None:
    missing: list[Path] = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(_FOLDER_MODE, exist_ok=True)
        above = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(above)
        finally:
            os.close(above)
